//! vGPUs on a physical device, each on a thread of its own.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use mdev::host::{HostDevice, HostIdentity, PciBus};
use mdev::instance::{self, Clients};
use mdev::mailbox::{Mail, MailSender, Mailbox};
use mdev::session::Surroundings;
use mdev::{Attributes, Parent, Services, TypeSpec};
use rustix::io::Errno;

use crate::Failure;
use crate::edu::PATIENCE;

/// A physical device that vGPUs share.
pub(crate) struct Shared {
    parent: Arc<dyn Parent>,
    spec: TypeSpec,
}

/// One vGPU on it.
pub(crate) struct Seat {
    mail: MailSender,
    thread: JoinHandle<Result<(), Errno>>,
}

impl Shared {
    /// Opens it as a worker does.
    pub(crate) fn open(address: &str) -> Result<Self, Failure> {
        let (bus, address) = (PciBus::new("/"), address.parse()?);
        let identity = HostIdentity::read(&bus, address)?;
        let driver = drivers::parent_driver(&identity).ok_or("no driver shares such a device")?;
        let device = HostDevice::open(&bus, address, driver.address_bits(&identity))?;
        let spec = driver.types(&identity).pop().ok_or("it has no types")?;
        Ok(Self {
            parent: driver.open(device, &Attributes::default())?,
            spec,
        })
    }

    pub(crate) fn seat(&self) -> Result<Seat, Failure> {
        let services = Services::default();
        let around = Surroundings::new(&services);
        let device = self
            .parent
            .build(&self.spec, &Attributes::default(), services)?;
        let (mailbox, mail) = Mailbox::new()?;
        let serve = move || instance::run(device, &mailbox, &around, Clients::Any, None);
        Ok(Seat {
            mail,
            thread: thread::spawn(serve),
        })
    }
}

impl Seat {
    /// A socket whose other end is served.
    pub(crate) fn connect(&self) -> Result<UnixStream, Failure> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        self.mail.send(Mail::Client(theirs.into()))?;
        Ok(ours)
    }

    pub(crate) fn end(self) -> Result<(), Failure> {
        self.mail.send(Mail::Stop)?;
        let ended = self.thread.join();
        Ok(ended.map_err(|_| "a seat panicked")??)
    }
}

/// Has two vGPUs at once do the same, each with a number of its own.
pub(crate) fn two(
    address: &str,
    task: impl Fn(UnixStream, u64) -> Result<String, Failure> + Sync,
) -> Result<(), Failure> {
    let shared = Shared::open(address)?;
    let seats = [shared.seat()?, shared.seat()?];
    let [first, second] = [seats[0].connect()?, seats[1].connect()?];
    let run = |socket, number| task(socket, number).map_err(|error| error.to_string());
    let said = thread::scope(|scope| {
        let first = scope.spawn(|| run(first, 1));
        let second = scope.spawn(|| run(second, 2));
        [first.join(), second.join()]
    });
    for (said, number) in said.into_iter().zip(1..) {
        let said = said.map_err(|_| "a client panicked")?;
        let said = said.map_err(|error| format!("client {number}: {error}"))?;
        println!("client {number}: {said}");
    }
    seats.into_iter().try_for_each(Seat::end)
}
