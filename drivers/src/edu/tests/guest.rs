//! A device in a thread of its own, and a guest that drives it over a session.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{hint, thread};

use mdev::instance::{self, Clients};
use mdev::mailbox::{Mail, MailSender, Mailbox};
use mdev::session::Surroundings;
use mdev::{Attributes, Driver, MediatedDevice, Services};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::{Errno, pread, pwrite};
use vfu::client::Client;
use vfu::wire::Command;
use vfu::wire::access::RegionAccess;
use vfu::wire::dma::{DmaFlags, DmaMap, DmaUnmap};
use vfu::wire::version::Capabilities;

use crate::edu::EduDriver;
use crate::edu::registers::{Register, command};
use crate::edu::transfer::BUFFER;

pub(crate) const BAR0: u32 = 0;
pub(crate) const CONFIG: u32 = 7;

/// Memory space and bus mastering, in the command register.
pub(crate) const COMMAND: u64 = 4;
pub(crate) const BUS_MASTER: u16 = 0b110;

pub(crate) const PAGE: u64 = 4096;

/// Longer than anything here takes: a test fails after it rather than hang.
const DEADLINE: Duration = Duration::from_secs(20);

/// A device in its own thread.
pub(crate) struct Instance {
    pub(crate) mail: MailSender,
    thread: Option<JoinHandle<Result<(), Errno>>>,
}

impl Instance {
    pub(crate) fn new(attributes: &[(&str, &str)]) -> Self {
        Self::of("edu-1", attributes)
    }

    /// Of one of the types.
    pub(crate) fn of(type_name: &str, attributes: &[(&str, &str)]) -> Self {
        let services = Services::default();
        let around = Surroundings::new(&services);
        Self::serving(build_type(type_name, attributes, services), around)
    }

    /// Of a device that was built with the services that `around` has.
    pub(crate) fn serving(device: Box<dyn MediatedDevice>, around: Surroundings) -> Self {
        let (mailbox, mail) = Mailbox::new().unwrap();
        let serve = move || instance::run(device, &mailbox, &around, Clients::Any, None);
        Self {
            mail,
            thread: Some(thread::spawn(serve)),
        }
    }

    /// A socket whose other end is served.
    pub(crate) fn connect(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(DEADLINE)).unwrap();
        self.mail.send(Mail::Client(theirs.into())).unwrap();
        ours
    }

    /// A guest whose VMM cannot be asked for memory, and whose driver has enabled the device.
    pub(crate) fn guest(&self) -> Guest {
        let offer = Capabilities {
            max_msg_fds: Some(16),
            ..Capabilities::default()
        };
        let mut guest = Guest {
            client: Client::negotiate(self.connect().into(), offer).unwrap(),
        };
        guest.set_command(BUS_MASTER);
        guest
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

/// A device with these attributes.
pub(crate) fn build(attributes: &[(&str, &str)], services: Services) -> Box<dyn MediatedDevice> {
    build_type("edu-1", attributes, services)
}

fn build_type(
    name: &str,
    attributes: &[(&str, &str)],
    services: Services,
) -> Box<dyn MediatedDevice> {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let attributes = Attributes(attributes.iter().map(owned).collect());
    let types = EduDriver.types();
    let spec = types.iter().find(|spec| spec.name == name).unwrap();
    EduDriver.build(spec, &attributes, services).unwrap()
}

/// A driver in a guest, and the VMM below it.
pub(crate) struct Guest {
    pub(crate) client: Client,
}

impl Guest {
    pub(crate) fn set_command(&mut self, command: u16) {
        self.client
            .region_write(CONFIG, COMMAND, &command.to_le_bytes())
            .unwrap();
    }

    pub(crate) fn read(&mut self, register: Register) -> u32 {
        self.read_at(register as u64)
    }

    pub(crate) fn read_at(&mut self, offset: u64) -> u32 {
        let mut value = [0; 4];
        self.client.region_read(BAR0, offset, &mut value).unwrap();
        u32::from_le_bytes(value)
    }

    pub(crate) fn read_wide(&mut self, offset: u64) -> u64 {
        let mut value = [0; 8];
        self.client.region_read(BAR0, offset, &mut value).unwrap();
        u64::from_le_bytes(value)
    }

    pub(crate) fn write(&mut self, register: Register, value: u32) {
        self.client
            .region_write(BAR0, register as u64, &value.to_le_bytes())
            .unwrap();
    }

    /// Writes without waiting for an answer.
    pub(crate) fn post(&mut self, register: Register, value: u32) {
        let access = RegionAccess {
            offset: register as u64,
            region: BAR0,
            count: 4,
        };
        let emit = |out: &mut Vec<u8>| {
            access.emit(out);
            out.extend(value.to_le_bytes());
        };
        self.client.post(Command::RegionWrite, &[], emit).unwrap();
    }

    pub(crate) fn write_wide(&mut self, register: Register, value: u64) {
        self.client
            .region_write(BAR0, register as u64, &value.to_le_bytes())
            .unwrap();
    }

    /// Starts a transfer from RAM to the start of the buffer.
    pub(crate) fn start_load(&mut self, ram: u64, count: u64, flags: u64) {
        self.start(ram, BUFFER, count, command::START | flags);
    }

    /// Starts a transfer from the start of the buffer to RAM.
    pub(crate) fn start_store(&mut self, ram: u64, count: u64, flags: u64) {
        self.start(BUFFER, ram, count, command::START | command::TO_RAM | flags);
    }

    pub(crate) fn start(&mut self, source: u64, destination: u64, count: u64, command: u64) {
        self.write_wide(Register::DmaSource, source);
        self.write_wide(Register::DmaDestination, destination);
        self.write_wide(Register::DmaCount, count);
        self.write_wide(Register::DmaCommand, command);
    }

    /// Waits for the end of a transfer, and tells its errno.
    pub(crate) fn finish(&mut self) -> Option<Errno> {
        self.wait_until("the transfer has ended", |guest| {
            u64::from(guest.read(Register::DmaCommand)) & command::START == 0
        });
        match self.read(Register::DmaError) {
            0 => None,
            errno => Some(Errno::from_raw_os_error(errno as i32)),
        }
    }

    pub(crate) fn load(&mut self, ram: u64, count: u64) -> Option<Errno> {
        self.start_load(ram, count, 0);
        self.finish()
    }

    pub(crate) fn store(&mut self, ram: u64, count: u64) -> Option<Errno> {
        self.start_store(ram, count, 0);
        self.finish()
    }

    /// Looks at something again and again, until it is so.
    pub(crate) fn wait_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "it was never so that {what}");
            hint::spin_loop();
        }
    }

    pub(crate) fn map(&mut self, ram: &Ram, map: &DmaMap) {
        self.client.dma_map(map, Some(ram.as_fd())).unwrap();
    }

    /// Maps the file from its start, for reading and writing.
    pub(crate) fn map_rw(&mut self, ram: &Ram, iova: u64, size: u64) {
        let map = DmaMap {
            flags: DmaFlags::all(),
            offset: 0,
            iova,
            size,
        };
        self.map(ram, &map);
    }

    pub(crate) fn unmap(&mut self, iova: u64, size: u64) {
        let unmap = DmaUnmap::One { iova, size };
        self.client.dma_unmap(&unmap).unwrap();
    }
}

/// Guest memory, in a file.
pub(crate) struct Ram(OwnedFd);

impl AsFd for Ram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Ram {
    pub(crate) fn new(len: u64) -> Self {
        let fd = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, len).unwrap();
        Self(fd)
    }

    pub(crate) fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        assert_eq!(pread(&self.0, &mut bytes, offset).unwrap(), bytes.len());
        bytes
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        assert_eq!(pwrite(&self.0, bytes, offset).unwrap(), bytes.len());
    }
}

/// Bytes that are not alike.
pub(crate) fn pattern(seed: u8, len: u64) -> Vec<u8> {
    let byte = |at: u64| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed;
    (0..len).map(byte).collect()
}
