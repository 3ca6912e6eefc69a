//! vGPUs on a card that is made of the software display's registers, and of a memory file.

mod apertures;
mod saved;
mod sharing;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use mdev::device::BuildError;
use mdev::host::HostError;
use mdev::region::{Access, RegionIndex};
use mdev::region_memory::RegionMemory;
use mdev::scanout::{Geometry, PixelFormat, ScanoutPublisher};
use mdev::{Attributes, MediatedDevice, Parent, Services};

use super::card::{Card, Window};
use super::model;
use super::parent::BochsParent;
use crate::bochs::mmio::Mmio;
use RegionIndex::{Bar0, Bar2};

const MIB: u64 = 1 << 20;
const SLICE: u64 = 4 * MIB;
const TYPE: &str = "bochs-slice-4m";

/// A card of 16 MiB.
#[derive(Debug)]
struct FakeCard {
    memory: RegionMemory,
    registers: Mutex<Mmio>,
    windows: Mutex<Vec<(Weak<OwnedFd>, u64, u64)>>,
}

impl Default for FakeCard {
    fn default() -> Self {
        let len = 16 << 20;
        Self {
            memory: RegionMemory::new("card", len.into()).unwrap(),
            registers: Mutex::new(Mmio::new(len, Vec::new())),
            windows: Mutex::default(),
        }
    }
}

impl Card for FakeCard {
    fn memory_len(&self) -> u64 {
        self.memory.len()
    }

    fn read(&self, at: u64, data: &mut [u8]) -> Option<()> {
        self.memory.read(at, data).ok()
    }

    fn write(&self, at: u64, data: &[u8]) -> Option<()> {
        self.memory.write(at, data).ok()
    }

    fn set_register(&self, at: u64, value: &[u8]) -> Result<(), HostError> {
        self.registers.lock().unwrap().write_all(at, value).unwrap();
        Ok(())
    }

    fn open_window(&self, at: u64, len: u64) -> Result<Window, HostError> {
        let file = Arc::new(self.memory.file().try_clone().unwrap());
        let mut windows = self.windows.lock().unwrap();
        windows.push((Arc::downgrade(&file), at, len));
        Ok((file, at))
    }

    fn is_window_held(&self, at: u64, len: u64) -> bool {
        let windows = self.windows.lock().unwrap();
        windows.iter().any(|(file, start, size)| {
            file.strong_count() > 0 && *start < at + len && at < start + size
        })
    }
}

impl FakeCard {
    /// What its screen shows, by its own memory.
    fn picture(&self) -> Option<Geometry> {
        self.registers.lock().unwrap().picture()
    }

    /// The first pixel that its screen shows.
    fn pixel(&self) -> Option<u32> {
        let mut pixel = [0; 4];
        let at = self.picture()?.offset;
        self.memory.read(at, &mut pixel).unwrap();
        Some(u32::from_le_bytes(pixel))
    }

    fn byte(&self, at: u64) -> u8 {
        let mut byte = [0];
        self.memory.read(at, &mut byte).unwrap();
        byte[0]
    }
}

/// A card and what drives it.
struct Rig {
    card: Arc<FakeCard>,
    parent: BochsParent,
}

impl Rig {
    fn new() -> Self {
        let card = Arc::new(FakeCard::default());
        let parent = BochsParent::new(Arc::clone(&card) as Arc<dyn Card>, true).unwrap();
        Self { card, parent }
    }

    fn seat(&self, attributes: &[(&str, &str)]) -> Seat {
        self.try_seat(TYPE, attributes).unwrap()
    }

    fn try_seat(&self, name: &str, attributes: &[(&str, &str)]) -> Result<Seat, BuildError> {
        let types = model::types(self.card.memory_len());
        let spec = types.iter().find(|spec| spec.name == name).unwrap();
        let attributes = attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let attributes = Attributes(attributes.collect());
        let services = Services::default();
        let scanout = services.scanout.clone();
        let device = self.parent.build(spec, &attributes, services)?;
        Ok(Seat { device, scanout })
    }
}

/// One vGPU, as its client and its console see it.
struct Seat {
    device: Box<dyn MediatedDevice>,
    scanout: ScanoutPublisher,
}

impl Seat {
    /// Draws as the client would, by the file that it maps or by messages.
    fn draw(&mut self, at: u64, data: &[u8]) {
        match self.device.regions().region(Bar0).access.clone() {
            Access::Trapped => self.device.write(Bar0, at, data).unwrap(),
            access => {
                let file: File = access.file().unwrap().try_clone().unwrap().into();
                file.write_all_at(data, access.file_offset() + at).unwrap();
            }
        }
    }

    /// Draws a picture whose first pixel has that colour, and which begins `at` there.
    fn show(&mut self, at: u64, colour: u32) {
        self.draw(at, &colour.to_le_bytes());
        for (register, value) in [
            (0x508, 0),
            (0x502, 640),
            (0x504, 480),
            (0x506, 32),
            (0x510, at % 2560 / 4),
            (0x512, at / 2560),
            (0x508, 0x41),
        ] {
            self.set(register, value as u16);
        }
    }

    fn set(&mut self, register: u64, value: u16) {
        let value = value.to_le_bytes();
        self.device.write(Bar2, register, &value).unwrap();
    }

    fn front(&mut self, on: &str) {
        self.device.set_attribute("foreground", on).unwrap();
    }

    fn is_front(&self) -> bool {
        self.attribute("foreground") == "on"
    }

    fn attribute(&self, name: &str) -> String {
        let attributes = self.device.attributes();
        let mut attributes = attributes.into_iter();
        attributes.find(|(known, _)| *known == name).unwrap().1
    }

    /// The first pixel that its console shows.
    fn seen(&self) -> Option<u32> {
        let scanout = self.scanout.current()?;
        let mut pixel = [0; 4];
        rustix::io::pread(&scanout.memory, &mut pixel, scanout.geometry.offset).unwrap();
        Some(u32::from_le_bytes(pixel))
    }
}

/// Waits for what another thread brings about.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} does not come");
        thread::sleep(Duration::from_millis(2));
    }
}
