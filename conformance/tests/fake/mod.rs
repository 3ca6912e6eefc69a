//! A server in this process, of a PCI device with nothing but config space: right, but for one
//! fault at most.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]
#![expect(dead_code, reason = "each test program uses its own part of it")]

mod commands;
mod device;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use conformance::connection::{receive_some, send_some, wait};
use conformance::server::Server;
use conformance::target::Target;
use device::Device;
use rustix::event::PollFlags;
use rustix::io::Errno;
use tempfile::TempDir;
use vfu::wire::Header;

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    AgreesOnAnyMajor,
    AnswersAHigherMinor,
    AnswersUnasked,
    AnswersWithAnotherCommand,
    AnswersWithAnotherId,
    ClosesAtTheUnknown,
    ClosesInTheMiddle,
    DropsWrites,
    ErrsWithAPayload,
    ForgetsItsReset,
    HasNoFile,
    IsSilent,
    KeepsDescriptors,
    LeaksDescriptors,
    LeaksMemory,
    LeavesPayloads,
    OffersWhatWasNotOffered,
    PostsWritesLate,
    PromisesGigabytes,
    ReadsHeadersOnce,
    ReadsPastTheEnd,
    ServesBeforeVersion,
    ServesOneAtATime,
    ShowersCommands,
    TellsNoNeed,
    WritesBackwards,
}

/// A server that runs until the test's process ends.
pub(crate) struct Fake {
    folder: TempDir,
}

impl Fake {
    pub(crate) fn start(fault: Option<Fault>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket_in(folder.path())).unwrap();
        let device = Arc::new(Mutex::new(Device::new(fault)));
        thread::spawn(move || accept(&listener, &device, fault));
        Self { folder }
    }

    /// The server as checks see it, with little patience.
    pub(crate) fn target(&self) -> Target {
        let server = Server::listening(&socket_in(self.folder.path())).unwrap();
        Target::new(server, Duration::from_millis(500))
    }
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("fake.sock")
}

fn accept(listener: &UnixListener, device: &Arc<Mutex<Device>>, fault: Option<Fault>) {
    while let Ok((socket, _)) = listener.accept() {
        let device = Arc::clone(device);
        let session = move || drop(Session::new(socket, fault).serve(&device));
        if fault == Some(Fault::ServesOneAtATime) {
            session();
        } else {
            thread::spawn(session);
        }
    }
}

/// One client.
pub(crate) struct Session {
    socket: OwnedFd,
    pub(crate) fault: Option<Fault>,
    pub(crate) has_version: bool,
    /// Those that came with the message that is served, and those that are kept.
    pub(crate) fds: Vec<OwnedFd>,
}

/// Why a session ends.
pub(crate) enum End {
    Closed,
}

impl From<Errno> for End {
    fn from(_: Errno) -> Self {
        Self::Closed
    }
}

impl Session {
    fn new(socket: UnixStream, fault: Option<Fault>) -> Self {
        Self {
            socket: socket.into(),
            fault,
            has_version: false,
            fds: Vec::new(),
        }
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn serve(&mut self, device: &Mutex<Device>) -> Result<(), End> {
        loop {
            let mut head = [0; Header::LEN];
            if self.has(Fault::ReadsHeadersOnce) {
                self.read_once(&mut head)?;
            } else {
                self.read(&mut head)?;
            }
            let header = Header::parse(&head).map_err(|_| End::Closed)?;
            let Some(len) = (header.size as usize).checked_sub(Header::LEN) else {
                return Err(End::Closed);
            };
            if len > (1 << 20) + 16 {
                return Err(End::Closed);
            }
            let is_unknown = header.command > 15;
            let is_left = self.has(Fault::LeavesPayloads) && is_unknown;
            let mut payload = vec![0; if is_left { 0 } else { len }];
            self.read(&mut payload)?;
            self.command(&header, &payload, &mut device.lock().unwrap())?;
            match self.fault {
                Some(Fault::KeepsDescriptors) => {}
                // Few are enough, or this process has none left soon.
                Some(Fault::LeaksDescriptors) => {
                    let leaked = usize::from(self.fds.len() > 3);
                    self.fds.drain(..).take(leaked).for_each(std::mem::forget);
                }
                Some(Fault::LeaksMemory) => std::mem::forget(vec![1_u8; 10_000]),
                _ => self.fds.clear(),
            }
        }
    }

    fn read_once(&mut self, bytes: &mut [u8]) -> Result<(), End> {
        let for_ever = Instant::now() + Duration::from_secs(60);
        wait(self.socket.as_fd(), PollFlags::IN, for_ever)?;
        match receive_some(self.socket.as_fd(), bytes, &mut self.fds)? {
            0 => Err(End::Closed),
            _ => Ok(()),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), End> {
        let mut filled = 0;
        while filled < bytes.len() {
            let for_ever = Instant::now() + Duration::from_secs(60);
            wait(self.socket.as_fd(), PollFlags::IN, for_ever)?;
            match receive_some(self.socket.as_fd(), &mut bytes[filled..], &mut self.fds) {
                Ok(0) => return Err(End::Closed),
                Ok(some) => filled += some,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(crate) fn send(&self, mut bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), End> {
        let mut fds = fds;
        while !bytes.is_empty() {
            match send_some(self.socket.as_fd(), bytes, fds) {
                Ok(sent) => (bytes, fds) = (&bytes[sent..], &[]),
                Err(Errno::AGAIN) => {
                    let patience = Instant::now() + Duration::from_secs(60);
                    wait(self.socket.as_fd(), PollFlags::OUT, patience)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}
