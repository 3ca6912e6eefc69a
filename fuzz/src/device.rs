//! The devices that are attacked, and what they look like while nobody has touched them.

use std::sync::OnceLock;

use mdev::migration::snapshot;
use mdev::region::{Region, RegionIndex};
use mdev::{Attributes, MediatedDevice, Services};

/// Types by name: what there is to attack.
const TYPES: [&str; 5] = ["serial-1", "serial-2", "bochs-4m", "edu-1", "edu-2"];

/// Places in [`TYPES`]. A display is chosen seldom: to save and compare its memory takes ten times
/// as long as all else together.
const CHOSEN: [usize; 16] = [0, 1, 2, 3, 4, 0, 1, 3, 4, 0, 1, 3, 4, 1, 3, 4];

/// Ways to build each.
const CHOICES: usize = 4;

/// A type of device, and how it is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceKind {
    place: usize,
    attributes: usize,
}

/// Something that is made once for each [`DeviceKind`].
type OfEach<T> = [[OnceLock<T>; CHOICES]; TYPES.len()];

impl DeviceKind {
    pub(crate) fn choose(device: u8, attributes: u8) -> Self {
        Self {
            place: CHOSEN[usize::from(device) % CHOSEN.len()],
            attributes: usize::from(attributes) % CHOICES,
        }
    }

    pub(crate) fn is_edu(self) -> bool {
        TYPES[self.place].starts_with("edu")
    }

    /// A device of the type, with some of the attributes that it can have.
    pub(crate) fn build(self, services: Services) -> Box<dyn MediatedDevice> {
        let name = TYPES[self.place];
        let (driver, spec) = drivers::find_type(name).expect("the type exists");
        let attributes: &[(&str, &str)] = match (driver.name(), self.attributes) {
            ("edu", 0) => &[("dma", "copy"), ("dma-mask", "64")],
            ("edu", 1) => &[("dma-mask", "64")],
            ("bochs", 1) => &[("mode", "640x480")],
            _ => &[],
        };
        let own = attributes.iter();
        let own = own.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let device = driver.build(&spec, &Attributes(own.collect()), services);
        device.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// What one looks like that nobody has touched.
    pub(crate) fn as_new(self) -> &'static Look {
        static LOOKS: OfEach<Look> = [const { [const { OnceLock::new() }; CHOICES] }; TYPES.len()];
        let own = &LOOKS[self.place][self.attributes];
        own.get_or_init(|| look(&mut *self.build(Services::default())))
    }

    /// The state of one that was used a little.
    pub(crate) fn saved(self) -> &'static [u8] {
        static STATES: OfEach<Vec<u8>> =
            [const { [const { OnceLock::new() }; CHOICES] }; TYPES.len()];
        let own = &STATES[self.place][self.attributes];
        own.get_or_init(|| {
            let mut device = self.build(Services::default());
            poke(&mut *device);
            saved(&mut *device)
        })
    }
}

/// The state of a device.
pub(crate) fn saved(device: &mut dyn MediatedDevice) -> Vec<u8> {
    let mut stream = Vec::new();
    snapshot::save(device, &mut stream).expect("a device can be saved");
    stream
}

/// Uses a device a little: what one of them does not have, it faults or ignores.
pub(crate) fn poke(device: &mut dyn MediatedDevice) {
    let bytes: [(u64, u8); 8] = [
        (3, 0x83),
        (0, 1),
        (1, 0),
        (3, 3),
        (2, 7),
        (4, 0x1b),
        (1, 0xf),
        (0, 0x41),
    ];
    for (offset, value) in bytes {
        for port in [RegionIndex::Bar0, RegionIndex::Bar1] {
            write(device, port, offset, &[value]);
        }
    }
    // A mode that fits the smallest display.
    for (register, value) in [(1, 640_u16), (2, 480), (3, 32), (4, 0x41)] {
        let offset = 0x500 + register * 2;
        write(device, RegionIndex::Bar2, offset, &value.to_le_bytes());
    }
    // All that a transfer needs, but the command.
    for offset in [0x04, 0x08, 0x20, 0x60, 0x80, 0x88, 0x90, 0x3000] {
        write(device, RegionIndex::Bar0, offset, &0x1b4_u32.to_le_bytes());
    }
}

fn write(device: &mut dyn MediatedDevice, region: RegionIndex, offset: u64, data: &[u8]) {
    if offset + data.len() as u64 <= device.regions().region(region).size {
        // A fault is counted, and no more.
        let _ = device.write(region, offset, data);
    }
}

/// A piece of what can be seen of a device: where, and what was read there or why nothing was.
pub(crate) type Seen = (RegionIndex, u64, Result<Vec<u8>, &'static str>);

/// What can be seen of a device, and whether it runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Look {
    seen: Vec<Seen>,
    runs: bool,
}

impl Look {
    /// Whether the two are the same but for what a saved state changes for good: the monitor that
    /// a display has.
    pub(crate) fn is_but_for_monitor(&self, other: &Self) -> bool {
        self.runs == other.runs && self.without_monitor().eq(other.without_monitor())
    }

    fn without_monitor(&self) -> impl Iterator<Item = &Seen> {
        let is_monitor =
            |(region, offset, _): &&Seen| *region == RegionIndex::Bar2 && *offset < 0x400;
        self.seen.iter().filter(move |seen| !is_monitor(seen))
    }
}

/// Looks at registers and at the beginning of memory.
pub(crate) fn look(device: &mut dyn MediatedDevice) -> Look {
    let mut config = vec![0; device.config().size() as usize];
    device.config().read(0, &mut config);
    let mut seen = vec![(RegionIndex::Config, 0, Ok(config))];
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
                seen.push((index, offset, read.map(|()| data).map_err(|fault| fault.0)));
            }
        }
    }
    let runs = device
        .migration()
        .is_none_or(|migration| !migration.is_stopped());
    Look { seen, runs }
}
