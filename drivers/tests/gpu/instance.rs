//! A GPU to be tried, and how it is asked.

#![allow(
    dead_code,
    reason = "several programs have this file, and need different parts of it"
)]

use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mdev::device::AttributeError;
use mdev::instance::{self, Clients};
use mdev::mailbox::{Mail, MailSender, Mailbox};
use mdev::polling::Polling;
use mdev::scanout::{Scanout, ScanoutPublisher};
use mdev::session::Surroundings;
use mdev::{Attributes, Services};
use vfu::Errno;
use virtio::guest::Guest;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A GPU in its own thread.
pub(crate) struct Instance {
    pub(crate) mail: MailSender,
    pub(crate) scanout: ScanoutPublisher,
    thread: Option<JoinHandle<Result<(), Errno>>>,
}

impl Instance {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// One with attributes.
    pub(crate) fn with(attributes: &[(&str, &str)]) -> Self {
        Self::of(attributes, Services::default())
    }

    /// One that looks at an empty queue for so long.
    pub(crate) fn looking(window: Duration) -> Self {
        let mut services = Services::default();
        services.polling = Polling::Fixed(window);
        Self::of(&[], services)
    }

    fn of(attributes: &[(&str, &str)], services: Services) -> Self {
        let (driver, spec) = drivers::find_type("gpu-2d-hd").unwrap();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let attributes = Attributes(attributes.iter().map(owned).collect());
        let scanout = services.scanout.clone();
        let around = Surroundings::new(&services);
        let device = driver.build(&spec, &attributes, services);
        let device = device.unwrap();
        let (mailbox, mail) = Mailbox::new().unwrap();
        let serve = move || instance::run(device, &mailbox, &around, Clients::Any, None);
        Self {
            mail,
            scanout,
            thread: Some(thread::spawn(serve)),
        }
    }

    /// A connection of a client.
    pub(crate) fn socket(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.mail.send(Mail::Client(theirs.into())).unwrap();
        ours
    }

    /// A guest. The one before may be going: so many times is it tried.
    pub(crate) fn guest(&self, features: u64) -> Guest {
        for _ in 0..2000 {
            if let Ok(guest) = Guest::try_new(self.socket(), features) {
                return guest;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("no guest is served");
    }

    /// Changes an attribute.
    pub(crate) fn set(
        &self,
        name: &'static str,
        value: &'static str,
    ) -> Result<(), AttributeError> {
        let set = move |device: &mut dyn mdev::MediatedDevice| device.set_attribute(name, value);
        self.mail.call(set).unwrap()
    }

    /// The pixels that are shown.
    pub(crate) fn shown(&self) -> Option<Vec<u8>> {
        self.shown_on(0)
    }

    /// The pixels that a head shows to who has it brought up to date.
    pub(crate) fn shown_on(&self, head: u32) -> Option<Vec<u8>> {
        self.scanout.head(head).unwrap().catch_up(PATIENCE);
        self.lies_on(head)
    }

    /// The pixels that lie there, for who asks for no more.
    pub(crate) fn lies_on(&self, head: u32) -> Option<Vec<u8>> {
        let picture = self.scanout.head(head).unwrap().current()?;
        Some(pixels(&picture))
    }
}

/// The pixels of a picture, as they lie.
pub(crate) fn pixels(picture: &Scanout) -> Vec<u8> {
    let geometry = picture.geometry;
    let mut pixels = Vec::new();
    for y in 0..u64::from(geometry.height) {
        let mut line = vec![0; geometry.width as usize * 4];
        let at = geometry.offset + y * u64::from(geometry.stride);
        let read = rustix::io::pread(&picture.memory, &mut line, at);
        assert_eq!(read, Ok(line.len()));
        pixels.extend(line);
    }
    pixels
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.mail.send(Mail::Stop);
        let end = self.thread.take().unwrap().join();
        assert!(thread::panicking() || end.is_ok(), "the instance panicked");
    }
}

pub(crate) fn command(number: u32, words: &[u32]) -> Vec<u8> {
    let header = [number, 0, 0, 0, 0, 0];
    let all = header.iter().chain(words);
    all.flat_map(|word| word.to_le_bytes()).collect()
}

/// What a command on a queue is answered.
pub(crate) fn ask_on(guest: &mut Guest, queue: u16, number: u32, words: &[u32]) -> u32 {
    let answer = guest.ask(queue, &command(number, words), 24);
    assert_eq!(answer.len(), 24);
    u32::from_le_bytes(answer[..4].try_into().unwrap())
}

pub(crate) fn ask(guest: &mut Guest, number: u32, words: &[u32]) -> u32 {
    ask_on(guest, 0, number, words)
}
