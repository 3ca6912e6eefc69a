//! One client and the instance that serves it, which may be another every now and then.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mdev::Services;
use mdev::dma::{DmaLimits, GuestMemory};
use mdev::fake::FakeDevice;
use mdev::instance::{self, Clients, Resumption};
use mdev::keep::{Keep, Park};
use mdev::mailbox::{Mail, MailSender, Mailbox};
use mdev::session::Surroundings;
use mdev::session::resume::Left;
use vfu::wire::Command;
use vfu::wire::version::Capabilities;

use crate::device::{Freezing, Ice};
use crate::support::offer;
use crate::support::raw::{Outcome, Raw, header, message};

const DEADLINE: Duration = Duration::from_secs(20);

/// What the daemon keeps. Clones are the same.
#[derive(Clone, Default)]
struct Daemon(Arc<Mutex<BTreeMap<u32, OwnedFd>>>);

impl Park for Daemon {
    fn park(&mut self, fds: &[(u32, BorrowedFd<'_>)]) -> io::Result<()> {
        let mut parked = self.0.lock().unwrap();
        for (id, fd) in fds {
            parked.insert(*id, fd.try_clone_to_owned()?);
        }
        Ok(())
    }

    fn release(&mut self, ids: &[u32]) -> io::Result<()> {
        let mut parked = self.0.lock().unwrap();
        ids.iter().for_each(|id| drop(parked.remove(id)));
        Ok(())
    }
}

impl Daemon {
    fn copies(&self) -> BTreeMap<u32, OwnedFd> {
        let parked = self.0.lock().unwrap();
        let copies = parked.iter().map(|(id, fd)| (*id, fd.try_clone().unwrap()));
        copies.collect()
    }
}

/// An instance in its thread.
struct Running {
    daemon: Daemon,
    mail: MailSender,
    memory: GuestMemory,
    ice: Ice,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(daemon: Daemon, left: Option<BTreeMap<u32, OwnedFd>>) -> Self {
        let park = Box::new(daemon.clone());
        let is_resumed = left.is_some();
        let keep = match left {
            Some(left) => Keep::resume(park, left),
            None => Keep::new(park),
        };
        let limits = DmaLimits {
            max_mappings: 64,
            ..DmaLimits::default()
        };
        let left = is_resumed.then(|| Left::find(&keep, &limits).unwrap());
        let mut services = Services::default();
        services.keep = keep;
        let around = Surroundings {
            limits,
            patience: DEADLINE,
            ..Surroundings::new(&services)
        };
        let (inner, _) = FakeDevice::kept(services.interrupts, services.keep).unwrap();
        let ice = Ice::default();
        let device = Freezing {
            inner,
            ice: ice.clone(),
        };
        let (mailbox, mail) = Mailbox::new().unwrap();
        let memory = around.memory.clone();
        let (told, outlook) = mpsc::channel();
        let resumption = left.map(|left| Resumption {
            left,
            may_go_on: Box::new(move |outlook| told.send(outlook).is_ok()),
        });
        let thread = thread::spawn(move || {
            let device = Box::new(device);
            instance::run(device, &mailbox, &around, Clients::Any, resumption).unwrap();
        });
        if is_resumed {
            let outlook = outlook.recv_timeout(DEADLINE).unwrap().unwrap();
            assert!(outlook.connected && outlook.exact && outlook.given_up.is_none());
        }
        Self {
            daemon,
            mail,
            memory,
            ice,
            thread,
        }
    }
}

/// A client, and who serves it now.
pub(crate) struct Side {
    raw: Raw,
    now: Running,
    before: Vec<(Ice, JoinHandle<()>)>,
    next_id: u16,
    /// How often another instance went on: as it was told to, and after a death.
    pub(crate) handed: [u32; 2],
}

impl Side {
    pub(crate) fn new() -> Self {
        let now = Running::start(Daemon::default(), None);
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(DEADLINE)).unwrap();
        now.mail.send(Mail::Client(theirs.into())).unwrap();
        let mut raw = Raw::new(ours);
        // Without this its files are believed, and it is asked nothing.
        raw.agree_on(Capabilities {
            max_dma_maps: None,
            ..offer()
        });
        Self {
            raw,
            now,
            before: Vec::new(),
            next_id: 100,
            handed: [0; 2],
        }
    }

    /// Guest memory as the device has it.
    pub(crate) fn memory(&self) -> &GuestMemory {
        &self.now.memory
    }

    /// Dies in the call of the device after so many.
    pub(crate) fn die_after(&self, calls: u32) {
        self.now.ice.arm(calls);
    }

    pub(crate) fn live_on(&self) {
        self.now.ice.disarm();
    }

    /// Asks, and tells what came of it and the descriptors beside that.
    pub(crate) fn ask(
        &mut self,
        command: u16,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> (Outcome, Vec<OwnedFd>) {
        let id = self.next_id;
        self.next_id += 1;
        self.raw.send(&message(id, command, payload), fds);
        let deadline = Instant::now() + DEADLINE;
        while !self.raw.has_message(Duration::from_millis(1)) {
            self.revive();
            assert!(Instant::now() < deadline, "no answer to {command}");
        }
        self.raw.fds.clear();
        let (header, outcome) = self.raw.receive();
        if let Some(header) = header {
            assert_eq!((header.id, header.command), (id, command));
        }
        (outcome, std::mem::take(&mut self.raw.fds))
    }

    /// Asks without wanting an answer, and waits until it was done.
    pub(crate) fn post(&mut self, command: u16, payload: &[u8]) {
        let size = 16 + payload.len() as u32;
        let head = header(self.next_id, command, size, 1 << 4);
        self.next_id += 1;
        self.raw.send(&[&head[..], payload].concat(), &[]);
        self.settle();
    }

    /// Waits until all is done that was asked, and nobody is dead.
    pub(crate) fn settle(&mut self) {
        let info = [16_u32, 0, 0, 0].map(u32::to_ne_bytes).concat();
        self.ask(Command::DeviceGetInfo as u16, &info, &[]);
        let (done, waiting) = mpsc::channel();
        let call = move |_: &mut dyn mdev::MediatedDevice| done.send(()).unwrap_or_default();
        self.now.mail.send(Mail::Call(Box::new(call))).unwrap();
        while waiting.recv_timeout(Duration::from_millis(1)).is_err() {
            if self.revive() {
                return;
            }
        }
    }

    /// If the instance has died, another goes on.
    fn revive(&mut self) -> bool {
        let is_dead = self.now.ice.is_frozen();
        if is_dead {
            self.handed[1] += 1;
            self.replace();
        }
        is_dead
    }

    /// Has another instance go on, as the one of now is told to.
    pub(crate) fn hand_over(&mut self) {
        self.settle();
        let ice = self.now.ice.clone();
        ice.disarm();
        let pause = Mail::Pause(Box::new(move || ice.freeze()));
        self.now.mail.send(pause).unwrap();
        while !self.now.ice.is_frozen() {
            thread::sleep(Duration::from_micros(100));
        }
        self.handed[0] += 1;
        self.replace();
    }

    fn replace(&mut self) {
        let daemon = Daemon(Arc::new(Mutex::new(self.now.daemon.copies())));
        let left = self.now.daemon.copies();
        let next = Running::start(daemon, Some(left));
        let old = std::mem::replace(&mut self.now, next);
        self.before.push((old.ice, old.thread));
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.now.ice.disarm();
        let _ = self.now.mail.send(Mail::Stop);
        let _ = rustix::net::shutdown(self.raw.socket.as_fd(), rustix::net::Shutdown::Both);
        self.now.ice.melt();
        for (ice, thread) in self.before.drain(..) {
            ice.melt();
            let _ = thread.join();
        }
    }
}
