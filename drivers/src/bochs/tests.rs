//! The whole device, as a client and a reader of its picture see it.

mod properties;
mod rules;
mod state;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use mdev::region::{Access, RegionIndex};
use mdev::scanout::{Geometry, PixelFormat, ScanoutPublisher};
use mdev::{Attributes, Driver, MediatedDevice, Services};

use super::BochsDriver;
use RegionIndex::{Bar0, Bar2};

/// Offsets in BAR2, by the names of the Bochs API and of VGA ports.
const ATTRIBUTE: u64 = 0x400;
const MISC_OUTPUT: u64 = 0x402;
const INPUT_STATUS: u64 = 0x41a;
const DISPI: u64 = 0x500;
const XRES: u64 = 0x502;
const YRES: u64 = 0x504;
const BPP: u64 = 0x506;
const ENABLE: u64 = 0x508;
const BANK: u64 = 0x50a;
const VIRT_WIDTH: u64 = 0x50c;
const VIRT_HEIGHT: u64 = 0x50e;
const X_OFFSET: u64 = 0x510;
const Y_OFFSET: u64 = 0x512;
const VIDEO_MEMORY_64K: u64 = 0x514;
const EXTENDED_SIZE: u64 = 0x600;
const ENDIANNESS: u64 = 0x604;

struct Display {
    device: Box<dyn MediatedDevice>,
    scanout: ScanoutPublisher,
}

impl Display {
    fn new(name: &str) -> Self {
        let types = BochsDriver.types();
        let spec = types.iter().find(|spec| spec.name == name).unwrap();
        let services = Services::default();
        let scanout = services.scanout.clone();
        let device = BochsDriver
            .build(spec, &Attributes::default(), services)
            .unwrap();
        Self { device, scanout }
    }

    fn read<const N: usize>(&mut self, region: RegionIndex, offset: u64) -> [u8; N] {
        let mut data = [0xaa; N];
        self.device.read(region, offset, &mut data).unwrap();
        data
    }

    fn write16(&mut self, offset: u64, value: u16) {
        self.write(&value.to_le_bytes(), offset);
    }

    fn write(&mut self, data: &[u8], offset: u64) {
        self.device.write(Bar2, offset, data).unwrap();
    }

    /// What stock bochs-drm does when it loads and sets 1024x768: reference/qemu-11.1.md,
    /// section 13.
    fn probe(&mut self) {
        assert_eq!(self.read(Bar2, DISPI), 0xb0c5_u16.to_le_bytes());
        self.read::<2>(Bar2, VIDEO_MEMORY_64K);
        for at in 0..8 {
            self.read::<1>(Bar2, at);
        }
        self.write(&[1], MISC_OUTPUT);
        self.read::<1>(Bar2, INPUT_STATUS);
        self.write(&[0x20], ATTRIBUTE);
        for (register, value) in [
            (ENABLE, 0),
            (BPP, 32),
            (XRES, 1024),
            (YRES, 768),
            (BANK, 0),
            (VIRT_WIDTH, 1024),
            (VIRT_HEIGHT, 4096),
            (X_OFFSET, 0),
            (Y_OFFSET, 0),
            (ENABLE, 0x41),
        ] {
            assert_eq!(self.picture(), None);
            self.write16(register, value);
        }
    }

    fn flip(&mut self, y: u16) {
        for (register, value) in [(VIRT_WIDTH, 1024), (X_OFFSET, 0), (Y_OFFSET, y)] {
            self.write16(register, value);
        }
    }

    fn picture(&self) -> Option<Geometry> {
        self.scanout.current().map(|scanout| scanout.geometry)
    }

    fn sequence(&self) -> u64 {
        self.scanout.current().unwrap().sequence
    }

    /// The file that the client maps.
    fn mapped(&self) -> Arc<OwnedFd> {
        match &self.device.regions().region(Bar0).access {
            Access::Mapped { fd } => Arc::clone(fd),
            other => panic!("BAR0 is {other:?}"),
        }
    }
}

const XGA: Geometry = Geometry {
    width: 1024,
    height: 768,
    stride: 4096,
    offset: 0,
    format: PixelFormat::Xrgb8888,
};

fn pixel(file: &OwnedFd, offset: u64) -> [u8; 4] {
    let mut bytes = [0; 4];
    rustix::io::pread(file, &mut bytes, offset).unwrap();
    bytes
}
