//! One client connected to one device: each request becomes one call, and one reply.

mod regions;
mod wait;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vfu::Errno;
use vfu::server::{Incoming, Reply, Server, ServerError};
use vfu::socket::Received;
use vfu::wire::Request;
use vfu::wire::device::{DeviceFlags, DeviceInfo};
use vfu::wire::dma::{DmaMap, DmaUnmap};
use vfu::wire::irq::{IrqFlags, IrqInfo, SetIrqs};
use vfu::wire::version::Capabilities;

use crate::device::{MediatedDevice, Reset};
use crate::dma::{DmaError, DmaTable};
use crate::irq::{Interrupts, IrqIndex};
use crate::mailbox::{Mail, Mailbox};
use crate::metrics::Metrics;
use crate::pci::Command;
use crate::polling::{PollWindow, Polling};
use crate::region::RegionIndex;

use wait::{Waiter, Woken};

/// What a session is given besides its client and its device.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The device's interrupts.
    pub interrupts: Interrupts,
    /// Where to count.
    pub metrics: Arc<Metrics>,
    /// How to wait.
    pub polling: Polling,
}

/// How a session came to its end.
#[derive(Debug)]
pub enum Ended {
    /// The client closed the connection.
    ClientGone,
    /// The client closed it, and another one is waiting.
    Replaced(OwnedFd),
    /// The session was told to stop.
    Stopped,
}

/// Why a session was broken off.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The connection is of no use any more.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The client owes us its VERSION or the rest of a message.
    #[error("the client went silent in the middle of a message")]
    Silent,
    /// The kernel refused something that a session needs.
    #[error("a session cannot be set up: {0}")]
    Os(#[from] Errno),
}

/// One client connected to one device.
pub struct Session<'a> {
    server: Server,
    device: &'a mut dyn MediatedDevice,
    mailbox: &'a Mailbox,
    around: Surroundings,
    dma: DmaTable,
}

impl<'a> Session<'a> {
    /// Serves the client behind `socket`.
    pub fn new(
        socket: OwnedFd,
        device: &'a mut dyn MediatedDevice,
        mailbox: &'a Mailbox,
        around: Surroundings,
    ) -> Result<Self, SessionError> {
        let able = Capabilities {
            max_msg_fds: Some(16),
            max_data_xfer_size: Some(Capabilities::DEFAULT_MAX_DATA_XFER_SIZE),
            max_dma_maps: Some(65_535),
            pgsizes: Some(DmaTable::PAGE_SIZE),
            // With a mapped region QEMU waits for each write, and has nothing to gather.
            write_multiple: Some(!device.regions().any_mapped()),
        };
        around.interrupts.set_counts(device.config().irqs());
        let server = Server::new(socket, able).map_err(|error| os_error(&error))?;
        Ok(Self {
            server,
            device,
            mailbox,
            around,
            dma: DmaTable::default(),
        })
    }

    /// Serves until the client is gone, cannot be served, or mail says to stop.
    pub fn run(mut self) -> Result<Ended, SessionError> {
        self.around.metrics.sessions.add(1);
        self.around.metrics.connected.store(true, Ordering::Relaxed);
        let waiter = Waiter::new(&self.server, self.mailbox)?;
        let mut window = PollWindow::new(self.around.polling);
        loop {
            match waiter.wait(&mut self.server, self.mailbox, &mut window)? {
                Woken::Received(Received::Some) => self.serve_received()?,
                Woken::Received(Received::Nothing) => {}
                Woken::Received(Received::Closed) => return Ok(Ended::ClientGone),
                Woken::Mail => {
                    if let Some(ended) = self.open_mail() {
                        return Ok(ended);
                    }
                }
            }
        }
    }

    /// Opens one message. It ends the session, or not.
    fn open_mail(&mut self) -> Option<Ended> {
        match self.mailbox.next_mail()? {
            Mail::Client(socket) => self.meet_next_client(socket),
            Mail::Call(call) => {
                call(self.device);
                None
            }
            Mail::Stop => Some(Ended::Stopped),
        }
    }

    /// Another client is there. If this one has closed, which can be seen only after all that it
    /// sent, the other takes its place; else it is told that the device is taken.
    fn meet_next_client(&mut self, socket: OwnedFd) -> Option<Ended> {
        match self.serve_until_nothing() {
            Ok(true) => {}
            Ok(false) => return Some(Ended::Replaced(socket)),
            Err(error) => {
                tracing::warn!("session ended: {error}");
                return Some(Ended::Replaced(socket));
            }
        }
        self.around.metrics.refused_clients.add(1);
        tracing::warn!("a second client was refused: a device has one at a time");
        vfu::server::refuse_client(&socket, Errno::BUSY);
        None
    }

    /// Serves all that the client has sent. `false` if it has closed.
    fn serve_until_nothing(&mut self) -> Result<bool, SessionError> {
        loop {
            match self.server.receive()? {
                Received::Some => self.serve_received()?,
                Received::Nothing => return Ok(true),
                Received::Closed => return Ok(false),
            }
        }
    }

    /// Answers every request that is here whole.
    fn serve_received(&mut self) -> Result<(), SessionError> {
        while let Some(Incoming { request, reply }) = self.server.next_request()? {
            let metrics = &self.around.metrics;
            metrics.requests.add(1);
            let mut handler = Handler {
                device: &mut *self.device,
                dma: &mut self.dma,
                around: &self.around,
            };
            match request {
                Ok(request) => handler.handle(request, reply)?,
                Err(malformed) => handler.refuse(reply, &malformed, malformed.errno())?,
            }
        }
        Ok(())
    }
}

impl Drop for Session<'_> {
    /// VFIO's close: nothing of the client is left.
    fn drop(&mut self) {
        self.around
            .metrics
            .connected
            .store(false, Ordering::Relaxed);
        self.around.interrupts.disconnect();
        self.around.metrics.resets.add(1);
        self.device.reset(Reset::Close);
    }
}

fn os_error(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// What a request may touch.
struct Handler<'a> {
    device: &'a mut dyn MediatedDevice,
    dma: &'a mut DmaTable,
    around: &'a Surroundings,
}

impl Handler<'_> {
    /// Serves one request. Each arm names its handler; the work is in the handler.
    fn handle(&mut self, request: Request<'_>, reply: Reply<'_>) -> Result<(), ServerError> {
        match request {
            Request::DmaMap(map, fd) => self.dma_map(&map, fd, reply),
            Request::DmaUnmap(unmap) => self.dma_unmap(&unmap, reply),
            Request::DeviceGetInfo => reply.with(|out| device_info().emit(out)),
            Request::DeviceGetRegionInfo(request) => self.region_info(request, reply),
            Request::DeviceGetIrqInfo(index) => self.irq_info(index, reply),
            Request::DeviceSetIrqs(set) => self.set_irqs(set, reply),
            Request::RegionRead(access) => self.region_read(access, reply),
            Request::RegionWrite(access, data) => self.region_write(access, data, reply),
            Request::RegionWriteMulti(multi) => self.region_write_multi(multi, reply),
            Request::DeviceReset => {
                self.reset(Reset::Device);
                reply.empty()
            }
        }
    }

    /// Answers with an error: the errno to the client, the words to the log.
    fn refuse(
        &self,
        reply: Reply<'_>,
        why: &dyn std::error::Error,
        errno: Errno,
    ) -> Result<(), ServerError> {
        self.around.metrics.refused_requests.add(1);
        tracing::debug!(command = reply.command(), %errno, "refused: {why}");
        reply.error(errno)
    }

    fn dma_map(
        &mut self,
        map: &DmaMap,
        fd: Option<OwnedFd>,
        reply: Reply<'_>,
    ) -> Result<(), ServerError> {
        match self.dma.map(map, fd) {
            Ok(()) => {
                self.around.metrics.dma_maps.add(1);
                reply.empty()
            }
            Err(error) => self.refuse_dma(reply, &error),
        }
    }

    fn dma_unmap(&mut self, unmap: &DmaUnmap, reply: Reply<'_>) -> Result<(), ServerError> {
        match self.dma.unmap(unmap) {
            Ok(()) => {
                self.around.metrics.dma_unmaps.add(1);
                reply.with(|out| unmap.emit(out))
            }
            Err(error) => self.refuse_dma(reply, &error),
        }
    }

    fn refuse_dma(&self, reply: Reply<'_>, error: &DmaError) -> Result<(), ServerError> {
        self.refuse(reply, error, error.errno())
    }

    fn irq_info(&mut self, index: u32, reply: Reply<'_>) -> Result<(), ServerError> {
        let Some(group) = IrqIndex::from_u32(index) else {
            return reply.error(Errno::INVAL);
        };
        let flags = match group {
            IrqIndex::Intx => IrqFlags::EVENTFD | IrqFlags::MASKABLE | IrqFlags::AUTOMASKED,
            _ => IrqFlags::EVENTFD | IrqFlags::NORESIZE,
        };
        let count = self.device.config().irqs().of(group);
        let info = IrqInfo {
            flags,
            index,
            count,
        };
        reply.with(|out| info.emit(out))
    }

    fn set_irqs(&mut self, set: SetIrqs<'_>, reply: Reply<'_>) -> Result<(), ServerError> {
        match self.around.interrupts.set_irqs(set) {
            Ok(()) => reply.empty(),
            Err(error) => self.refuse(reply, &error, error.errno()),
        }
    }

    fn reset(&mut self, cause: Reset) {
        self.around.metrics.resets.add(1);
        self.device.reset(cause);
        self.follow_command_register();
    }

    fn follow_command_register(&mut self) {
        let command = self.device.config().command();
        let disabled = command.contains(Command::INTX_DISABLE);
        self.around.interrupts.set_intx_disabled(disabled);
    }
}

fn device_info() -> DeviceInfo {
    DeviceInfo {
        flags: DeviceFlags::RESET | DeviceFlags::PCI,
        num_regions: RegionIndex::COUNT,
        num_irqs: IrqIndex::COUNT,
    }
}
