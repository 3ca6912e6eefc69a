//! The device that is attacked, and what it looks like while nobody has touched it.

use std::sync::OnceLock;

use mdev::region::{Region, RegionIndex};
use mdev::{Attributes, MediatedDevice, Services};

use super::script::Opening;

/// Types by name: what there is to attack.
const TYPES: [&str; 4] = ["serial-1", "serial-2", "bochs-4m", "edu-1"];

/// Ways to build each.
const CHOICES: usize = 4;

/// A type of device, and how it is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceKind {
    place: usize,
    attributes: usize,
}

impl DeviceKind {
    pub(super) fn choose(opening: Opening) -> Self {
        Self {
            place: usize::from(opening.device) % TYPES.len(),
            attributes: usize::from(opening.attributes) % CHOICES,
        }
    }

    /// A device of the type, with some of the attributes that it can have.
    pub(super) fn build(self, services: Services) -> Box<dyn MediatedDevice> {
        let name = TYPES[self.place];
        let (driver, spec) = drivers::find_type(name).expect("the type exists");
        let attributes: &[(&str, &str)] = match (driver.name(), self.attributes) {
            ("edu", 0) => &[("dma", "copy"), ("dma-mask", "64")],
            ("edu", 1) => &[("dma-mask", "64")],
            ("bochs", 1) => &[("mode", "640x480")],
            _ => &[],
        };
        let own = attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let attributes = Attributes(own.collect());
        let device = driver.build(&spec, &attributes, services);
        device.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// What one looks like that nobody has touched.
    pub(super) fn as_new(self) -> &'static Look {
        static LOOKS: [[OnceLock<Look>; CHOICES]; TYPES.len()] =
            [const { [const { OnceLock::new() }; CHOICES] }; TYPES.len()];
        let look = &LOOKS[self.place][self.attributes];
        look.get_or_init(|| as_new(&mut *self.build(Services::default())))
    }
}

/// What can be seen of a device's state.
pub(super) type Look = Vec<(RegionIndex, u64, Result<Vec<u8>, &'static str>)>;

/// Looks at registers and at the beginning of memory.
pub(super) fn as_new(device: &mut dyn MediatedDevice) -> Look {
    let mut look = Look::new();
    let mut config = vec![0; device.config().size() as usize];
    device.config().read(0, &mut config);
    look.push((RegionIndex::Config, 0, Ok(config)));
    for index in RegionIndex::ALL {
        let Region { size, .. } = *device.regions().region(index);
        if size == 0 || index == RegionIndex::Config {
            continue;
        }
        let bytes = (0..8).map(|offset| (offset, 1));
        let words = (0x500..0x518).step_by(2).map(|offset| (offset, 2));
        let longs = (0..0x100).step_by(4).map(|offset| (offset, 4));
        for (offset, len) in bytes.chain(words).chain(longs) {
            if offset + len as u64 <= size {
                let mut data = vec![0; len];
                let read = device.read(index, offset, &mut data);
                look.push((index, offset, read.map(|()| data).map_err(|fault| fault.0)));
            }
        }
    }
    look
}
