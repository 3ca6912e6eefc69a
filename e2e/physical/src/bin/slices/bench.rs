//! Frames in each of the ways to the card's memory, against the bare memory.

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use guest::noise::Noise;
use mdev::Services;
use mdev::host::{HostDevice, PciBus};
use mdev::instance::{self, Clients};
use mdev::mailbox::{Mail, Mailbox};
use mdev::session::Surroundings;
use vfu::client::Client;
use vfu::wire::version::Capabilities;

use crate::Failure;
use crate::client::{self, Display};
use crate::serve::Card;

const SIZE: (u16, u16) = (800, 600);
const FRAME: usize = SIZE.0 as usize * SIZE.1 as usize * 4;

/// Bytes of a write, as a VMM sends that gathers a line.
const LINE: usize = SIZE.0 as usize * 4;

const LINES_AT_A_TIME: usize = 25;

/// Two frames, of which every tile differs.
struct Frames([Vec<u8>; 2]);

impl Frames {
    fn new() -> Self {
        Self([1, 2].map(|seed| Noise::new(seed).take(FRAME).collect()))
    }

    /// Draws one after the other for so long, and returns how many nanoseconds one took.
    fn draw(
        &self,
        time: Duration,
        mut write: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
    ) -> Result<f64, Failure> {
        let start = Instant::now();
        let frames = self.0.iter().cycle();
        let mut lines = frames.flat_map(|frame| (0..).zip(frame.chunks(LINE)));
        let mut count = 0_u32;
        while start.elapsed() < time {
            // A frame may take seconds, and to ask for the time takes some.
            for (line, data) in lines.by_ref().take(LINES_AT_A_TIME) {
                write(line * LINE as u64, data)?;
                count += 1;
            }
        }
        let line = start.elapsed().as_nanos() as f64 / f64::from(count.max(1));
        Ok(line * f64::from(SIZE.1))
    }
}

/// Prints a line for each way: its name, and nanoseconds a frame.
pub(crate) fn run(address: &str, milliseconds: u64) -> Result<(), Failure> {
    let time = Duration::from_millis(milliseconds);
    let frames = Frames::new();
    let device = HostDevice::open(&PciBus::new("/"), address.parse()?, 32)?;
    let memory = device.map(0, 0, 4 << 20)?;
    for shown in ["off", "on"] {
        if shown == "on" {
            show(&device)?;
        }
        let bare = frames.draw(time, |at, data| {
            let written = memory.write(usize::try_from(at)?, data);
            Ok(written.ok_or("outside")?)
        })?;
        println!("bare-{shown} {bare:.0}");
    }
    drop((memory, device));
    let card = Card::open(address, "direct=on")?;
    for way in ["direct", "shadow", "trap"] {
        for foreground in ["off", "on"] {
            let seat = format!("bochs-slice-4m,aperture={way},foreground={foreground}");
            let drawn = serve(&card, &seat, &frames, time)?;
            println!("{way}-{foreground} {drawn:.0}");
        }
    }
    Ok(())
}

/// Has the card show what the frames are.
fn show(device: &HostDevice) -> Result<(), Failure> {
    for (register, value) in client::mode(SIZE.0, SIZE.1, 0) {
        device.write(client::REGISTERS, register, &value.to_le_bytes())?;
    }
    Ok(())
}

fn serve(card: &Card, seat: &str, frames: &Frames, time: Duration) -> Result<f64, Failure> {
    let services = Services::default();
    let around = Surroundings::new(&services);
    let device = card.build(seat, services)?;
    let (mailbox, mail) = Mailbox::new()?;
    let (ours, theirs) = UnixStream::pair()?;
    mail.send(Mail::Client(theirs.into()))?;
    let server = thread::spawn(move || {
        let served = instance::run(device, &mailbox, &around, Clients::One, None);
        served.map_err(|errno| errno.to_string())
    });
    let mut display = Display::new(Client::negotiate(ours.into(), Capabilities::default())?)?;
    display.set_mode(SIZE.0, SIZE.1, 0)?;
    let drawn = frames.draw(time, |at, data| display.write(at, data))?;
    drop(display);
    server.join().map_err(|_| "the server panicked")??;
    Ok(drawn)
}
