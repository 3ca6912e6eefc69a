//! The parent, and its seats.

use std::fs;
use std::os::unix::net::UnixListener;
use std::thread;

use drivers::bochs_host::BochsHostDriver;
use guest::pattern;
use mdev::host::{HostDevice, HostIdentity, PciBus};
use mdev::instance::{self, Clients};
use mdev::mailbox::{Mail, MailSender, Mailbox};
use mdev::scanout::{ScanoutPublisher, Watch};
use mdev::session::Surroundings;
use mdev::{Attributes, Parent, ParentDriver, Services, TypeSpec};
use std::sync::Arc;

use crate::{Failure, asked};

/// Where the server is asked.
const SEATS: &str = "/tmp/seats";

/// One vGPU.
struct Seat {
    mail: MailSender,
    scanout: ScanoutPublisher,
    watch: Option<Watch>,
}

/// A card that is shared, and what types there are on it.
pub(crate) struct Card {
    parent: Arc<dyn Parent>,
    types: Vec<TypeSpec>,
}

impl Card {
    pub(crate) fn open(address: &str, settings: &str) -> Result<Self, Failure> {
        let (bus, address) = (PciBus::new("/"), address.parse()?);
        let driver = BochsHostDriver;
        let identity = HostIdentity::read(&bus, address)?;
        if !driver.drives(&identity) {
            return Err("it is no bochs display".into());
        }
        let device = HostDevice::open(&bus, address, driver.address_bits(&identity))?;
        Ok(Self {
            parent: driver.open(device, &attributes(settings.split(',')))?,
            types: driver.types(&identity),
        })
    }

    /// Builds a vGPU, described as `TYPE,NAME=VALUE...`.
    pub(crate) fn build(
        &self,
        seat: &str,
        services: Services,
    ) -> Result<Box<dyn mdev::MediatedDevice>, Failure> {
        let mut words = seat.split(',');
        let name = words.next().unwrap_or_default();
        let spec = self.types.iter().find(|spec| spec.name == name);
        let spec = spec.ok_or("no such type")?;
        let built = self.parent.build(spec, &attributes(words), services);
        Ok(built.map_err(|error| with_source(&error))?)
    }
}

pub(crate) fn run(address: &str, settings: &str, seats: &[&str]) -> Result<(), Failure> {
    let card = Card::open(address, settings)?;
    let seats: Result<Vec<_>, Failure> = (0..)
        .zip(seats)
        .map(|(number, seat)| Seat::start(&card, number, seat))
        .collect();
    let mut seats = seats?;
    asked::serve(SEATS, |words| match *words {
        ["end"] => {
            for seat in &seats {
                seat.mail.send(Mail::Stop)?;
            }
            Ok(None)
        }
        ["more", seat] => {
            seats.push(Seat::start(&card, seats.len(), seat)?);
            Ok(Some(format!("seat {}", seats.len() - 1)))
        }
        [seat, ref words @ ..] => {
            let seat = seats
                .get_mut(seat.parse::<usize>()?)
                .ok_or("no such seat")?;
            seat.answer(words).map(Some)
        }
        [] => Err("nothing is asked".into()),
    })
}

/// `NAME=VALUE`; words without a value are passed over.
fn attributes<'a>(words: impl Iterator<Item = &'a str>) -> Attributes {
    let pairs = words.filter_map(|word| word.split_once('='));
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Attributes(pairs.collect())
}

fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl Seat {
    fn start(card: &Card, number: usize, seat: &str) -> Result<Self, Failure> {
        let services = Services::default();
        let around = Surroundings::new(&services);
        let scanout = services.scanout.clone();
        let device = card.build(seat, services)?;
        let (mailbox, mail) = Mailbox::new()?;
        let path = format!("/tmp/seat-{number}");
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        let clients = mail.clone();
        thread::spawn(move || {
            let served = instance::run(device, &mailbox, &around, Clients::Any, None);
            println!("seat {number}: {served:?}");
        });
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if clients.send(Mail::Client(client.into())).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            mail,
            scanout,
            watch: None,
        })
    }

    fn answer(&mut self, words: &[&str]) -> Result<String, Failure> {
        match *words {
            ["set", name, value] => {
                let (name, value) = (name.to_owned(), value.to_owned());
                let set = self
                    .mail
                    .call(move |device| device.set_attribute(&name, &value));
                set?.map_err(|error| error.to_string())?;
                Ok("set".to_owned())
            }
            ["attributes"] => {
                let attributes = self.mail.call(|device| device.attributes())?;
                let pairs = attributes
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"));
                Ok(pairs.collect::<Vec<_>>().join(" "))
            }
            ["watch"] => {
                self.watch = Some(self.scanout.watch()?);
                Ok("watched".to_owned())
            }
            ["seen", seed] => self.seen(seed.parse()?),
            ["stop"] => {
                self.mail.send(Mail::Stop)?;
                Ok("stopped".to_owned())
            }
            _ => Err("no such request".into()),
        }
    }

    /// Whether a console sees the test picture of a seed.
    fn seen(&self, seed: u32) -> Result<String, Failure> {
        let Some(scanout) = self.scanout.current() else {
            return Ok("nothing".to_owned());
        };
        let picture = scanout.geometry;
        let mut line = vec![0; picture.width as usize * 4];
        let mut expected = line.clone();
        for y in 0..picture.height {
            let at = picture.offset + u64::from(y) * u64::from(picture.stride);
            rustix::io::pread(&scanout.memory, &mut line, at)?;
            pattern::fill_row(seed, y, &mut expected);
            if line != expected {
                return Ok(format!("line {y} is another"));
            }
        }
        Ok(format!("{}x{} right", picture.width, picture.height))
    }
}
