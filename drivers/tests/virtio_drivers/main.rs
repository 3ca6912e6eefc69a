//! Our devices under a driver that is not ours: the crate `virtio-drivers`, as kernels take it, over
//! vfio-user and with no VM.
//!
//! - `memory`: the guest's memory, as the crate asks for it.
//! - `bus`: the way to the device.
//! - `gpu`: what the crate's driver of a GPU does, is done.
//! - `load`: the rings, filled to the brim and for long.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod bus;
mod gpu;
mod load;
mod memory;

use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mdev::instance::{self, Clients};
use mdev::mailbox::{Mail, MailSender, Mailbox};
use mdev::scanout::ScanoutPublisher;
use mdev::session::Surroundings;
use mdev::{Attributes, Services};
use vfu::Errno;

use bus::Bus;

/// A device in a thread of its own.
struct Instance {
    mail: MailSender,
    scanout: ScanoutPublisher,
    thread: Option<JoinHandle<Result<(), Errno>>>,
}

impl Instance {
    fn new(kind: &str) -> Self {
        let (driver, spec) = drivers::find_type(kind).unwrap();
        let services = Services::default();
        let scanout = services.scanout.clone();
        let around = Surroundings::new(&services);
        let device = driver.build(&spec, &Attributes::default(), services);
        let device = device.unwrap();
        let (mailbox, mail) = Mailbox::new().unwrap();
        let serve = move || instance::run(device, &mailbox, &around, Clients::Any, None);
        Self {
            mail,
            scanout,
            thread: Some(thread::spawn(serve)),
        }
    }

    fn socket(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.mail.send(Mail::Client(theirs.into())).unwrap();
        ours
    }

    /// The pixels that are shown.
    fn shown(&self) -> Option<Vec<u8>> {
        let picture = self.scanout.current()?;
        let geometry = picture.geometry;
        let mut pixels = Vec::new();
        for y in 0..u64::from(geometry.height) {
            let mut line = vec![0; geometry.width as usize * 4];
            let at = geometry.offset + y * u64::from(geometry.stride);
            let read = rustix::io::pread(&picture.memory, &mut line, at);
            assert_eq!(read, Ok(line.len()));
            pixels.extend(line);
        }
        Some(pixels)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.mail.send(Mail::Stop);
        let end = self.thread.take().unwrap().join();
        assert!(thread::panicking() || end.is_ok(), "the instance panicked");
    }
}

/// Longer than any of it takes.
const LIMIT: Duration = Duration::from_secs(120);

/// Drives a device of this type. The crate's drivers wait for the device without an end, so a test
/// ends before they do.
fn driven(kind: &'static str, drive: fn(&Instance, &Bus)) {
    let (done, is_done) = mpsc::channel();
    let driver = thread::spawn(move || {
        let instance = Instance::new(kind);
        let bus = Bus::new(instance.socket());
        drive(&instance, &bus);
        drop(bus);
        drop(instance);
        let _ = done.send(());
    });
    let end = is_done.recv_timeout(LIMIT);
    assert_ne!(
        end,
        Err(mpsc::RecvTimeoutError::Timeout),
        "the driver waits for the device"
    );
    driver.join().unwrap();
}
