//! A fake device in a thread of its own, and clients of it, good and bad.

#![expect(dead_code, reason = "each test program uses its own part of it")]
#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

pub(crate) mod guest;
pub(crate) mod listener;
pub(crate) mod mapping;
pub(crate) mod raw;

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mdev::Services;
use mdev::dma::{DmaLimits, GuestMemory};
use mdev::fake::{FakeDevice, Log};
use mdev::instance::{self, Clients};
use mdev::mailbox::{Mail, MailSender, Mailbox};
use mdev::metrics::Metrics;
use mdev::polling::Polling;
use mdev::session::Surroundings;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vfu::Errno;
use vfu::client::{Client, ClientError};
use vfu::wire::irq::{IrqAction, IrqData, SetIrqs};
use vfu::wire::version::Capabilities;

use raw::Raw;
/// Longer than any answer takes: a test fails after it rather than hang.
const DEADLINE: Duration = Duration::from_secs(20);

/// How patient an impatient instance is with a silent client.
pub(crate) const PATIENCE: Duration = Duration::from_millis(200);

/// A fake device in its own thread.
pub(crate) struct Instance {
    pub(crate) mail: MailSender,
    pub(crate) log: Log,
    pub(crate) metrics: Arc<Metrics>,
    /// Guest memory as a thread of the device's own has it.
    pub(crate) memory: GuestMemory,
    thread: Option<JoinHandle<Result<(), Errno>>>,
}

impl Instance {
    pub(crate) fn new() -> Self {
        Self::start(|device| device, Clients::Any, DEADLINE)
    }

    /// One where nothing is mapped.
    pub(crate) fn all_trapped(clients: Clients) -> Self {
        Self::start(FakeDevice::all_trapped, clients, DEADLINE)
    }

    /// One that soon gives up a silent client.
    pub(crate) fn impatient() -> Self {
        Self::start(|device| device, Clients::Any, PATIENCE)
    }

    /// One that takes memory within these limits.
    pub(crate) fn with_limits(limits: DmaLimits) -> Self {
        let around = Surroundings {
            limits,
            ..Surroundings::new(&Services::default())
        };
        Self::start_in(around, |device| device, Clients::Any)
    }

    /// One that waits for its client in this way.
    pub(crate) fn polling(polling: Polling) -> Self {
        let around = Surroundings {
            polling,
            ..Surroundings::new(&Services::default())
        };
        Self::start_in(around, |device| device, Clients::Any)
    }

    fn start(change: fn(FakeDevice) -> FakeDevice, clients: Clients, patience: Duration) -> Self {
        let around = Surroundings {
            patience,
            ..Surroundings::new(&Services::default())
        };
        Self::start_in(around, change, clients)
    }

    fn start_in(
        around: Surroundings,
        change: fn(FakeDevice) -> FakeDevice,
        clients: Clients,
    ) -> Self {
        let (device, log) = FakeDevice::new(around.interrupts.clone()).unwrap();
        let device = Box::new(change(device));
        let metrics = Arc::clone(&around.metrics);
        let memory = around.memory.clone();
        let (mailbox, mail) = Mailbox::new().unwrap();
        let thread = thread::spawn(move || instance::run(device, &mailbox, &around, clients, None));
        Self {
            mail,
            log,
            metrics,
            memory,
            thread: Some(thread),
        }
    }

    /// A socket whose other end the instance serves.
    pub(crate) fn connect(&self) -> UnixStream {
        self.connect_with(&[])
    }

    /// The same, of a client that has said something before it comes to the instance.
    pub(crate) fn connect_with(&self, words: &[u8]) -> UnixStream {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(words).unwrap();
        ours.set_read_timeout(Some(DEADLINE)).unwrap();
        ours.set_write_timeout(Some(DEADLINE)).unwrap();
        self.mail.send(Mail::Client(theirs.into())).unwrap();
        ours
    }

    /// A client that has agreed on a version.
    pub(crate) fn client(&self) -> Client {
        self.try_client().unwrap()
    }

    pub(crate) fn try_client(&self) -> Result<Client, ClientError> {
        Client::negotiate(self.connect().into(), offer())
    }

    /// A client of bytes that has agreed on a version.
    pub(crate) fn raw(&self) -> Raw {
        let mut raw = Raw::new(self.connect());
        raw.agree();
        raw
    }

    /// Waits for the end of the instance.
    pub(crate) fn join(mut self) -> Result<(), Errno> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.mail.send(Mail::Stop);
        if let Some(thread) = self.thread.take() {
            let end = thread.join();
            assert!(thread::panicking() || end.is_ok(), "the instance panicked");
        }
    }
}

/// What QEMU offers.
pub(crate) fn offer() -> Capabilities {
    Capabilities {
        max_msg_fds: Some(16),
        max_data_xfer_size: Some(1 << 20),
        max_dma_maps: Some(65_535),
        pgsizes: Some(4096),
        write_multiple: Some(true),
        twin_socket: None,
    }
}

pub(crate) fn memfd(len: u64) -> OwnedFd {
    let fd = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&fd, len).unwrap();
    fd
}

pub(crate) fn new_eventfd() -> OwnedFd {
    eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap()
}

/// How often it was signalled since the last look.
pub(crate) fn signals(eventfd: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(eventfd, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(Errno::AGAIN) => 0,
        Err(error) => panic!("{error}"),
    }
}

/// Gives vectors from `start` on these eventfds.
pub(crate) fn assign(
    client: &mut Client,
    index: u32,
    start: u32,
    eventfds: &[OwnedFd],
) -> Result<(), ClientError> {
    let fds = eventfds.iter().map(|fd| Some(fd.try_clone().unwrap()));
    client.set_irqs(&SetIrqs {
        index,
        start,
        count: eventfds.len() as u32,
        action: IrqAction::Trigger,
        data: IrqData::Eventfd(fds.collect()),
    })
}

/// SET_IRQS without data.
pub(crate) fn set_irqs(
    client: &mut Client,
    action: IrqAction,
    index: u32,
    count: u32,
) -> Result<(), ClientError> {
    client.set_irqs(&SetIrqs {
        index,
        start: 0,
        count,
        action,
        data: IrqData::None,
    })
}

/// Looks at something again and again, until it is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..DEADLINE.as_millis() {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("it was never so that {what}");
}

/// Borrows all of them.
pub(crate) fn borrow(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}
