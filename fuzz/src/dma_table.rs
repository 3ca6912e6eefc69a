//! The table of mappings and the guest memory behind it, against a list that is looked through
//! from end to end: the same answers, the same errors, the same bytes, the same written pages.

mod files;
mod holder;
mod model;

use mdev::dma::view::Access;
use mdev::dma::{DmaLimits, DmaTable, GuestMemory, Iova, IovaRange};
use vfu::wire::dma::{DmaFlags, DmaMap, DmaUnmap};

use crate::descriptors::OpenDescriptors;
use crate::input::Input;
use files::{FILE_LEN, Files};
use holder::Holder;
use model::{Model, PAGE};

/// Most actions of one input.
const MAX_ACTIONS: usize = 256;
/// Most bytes of one access.
const MAX_ACCESS: u64 = 4 * PAGE;
/// Most pages of a range that is pinned or asked about: each costs time.
const MAX_PAGES: u64 = 1 << 12;

/// Does to a table what the input says.
///
/// # Panics
///
/// If it does not do what the model does.
pub fn dma_table(data: &[u8]) {
    let mut input = Input::new(data);
    files::sealed();
    let descriptors = OpenDescriptors::count();
    let mut both = Both::new(input.u8());
    for _ in 0..MAX_ACTIONS {
        if input.is_empty() {
            break;
        }
        both.act(&mut input);
    }
    both.finish();
    descriptors.check();
}

/// What is fuzzed, and the model of it.
struct Both {
    table: DmaTable,
    memory: GuestMemory,
    device: Holder,
    files: Files,
    model: Model,
}

impl Both {
    fn new(choice: u8) -> Self {
        let limits = DmaLimits {
            max_mappings: [1 << 20, 16, 4, 1][usize::from(choice) % 4],
            ..DmaLimits::default()
        };
        Self {
            table: DmaTable::new(limits),
            memory: GuestMemory::standing_alone(limits),
            device: Holder::new(),
            files: Files::new(),
            model: Model::new(limits.max_mappings),
        }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.u8() % 16 {
            0..=3 => self.map(input),
            4 => self.unmap(&one(input)),
            5 => self.unmap_one_that_is_there(input.u8()),
            6 => self.unmap(&DmaUnmap::All),
            7 => self.lookup(input),
            8 => self.read(input),
            9 => self.write(input),
            10 => self.pin(input),
            11 => self.unpin(input.u8()),
            12 => self.track(input),
            13 => {
                self.memory.stop_tracking();
                self.table.stop_tracking();
                self.model.stop_tracking();
            }
            _ => self.take_dirty(input),
        }
        assert_eq!(self.table.len(), self.model.len());
        assert_eq!(
            self.memory.counts(),
            (self.model.len(), self.model.pinned_pages())
        );
    }

    fn map(&mut self, input: &mut Input<'_>) {
        let choice = input.u8();
        let map = DmaMap {
            flags: DmaFlags::from_bits_truncate(u32::from(choice >> 6) ^ 3),
            iova: input.number(),
            size: input.number(),
            offset: input.number(),
        };
        let file = self.files.choose(choice & 0x3f);
        let expected = self.model.map(&map, file);
        for result in [
            self.table.map(&map, self.files.open(file)),
            self.memory.map(&map, self.files.open(file)),
        ] {
            assert_eq!(
                result.map_err(|error| error.errno()),
                expected,
                "{map:?} {file:?}"
            );
        }
    }

    fn unmap(&mut self, unmap: &DmaUnmap) {
        let expected = self.model.unmap(unmap);
        let removed = self.table.unmap(unmap).map(|removed| removed.len());
        assert_eq!(
            removed.map_err(|error| error.errno()),
            expected,
            "{unmap:?}"
        );
        let result = self.memory.unmap(unmap, &mut self.device);
        let result = result.map_err(|error| error.errno());
        assert_eq!(result, expected.map(drop), "{unmap:?}");
    }

    fn unmap_one_that_is_there(&mut self, choice: u8) {
        if let Some((iova, size)) = self.model.mapping(choice.into()) {
            self.unmap(&DmaUnmap::One { iova, size });
        }
    }

    fn lookup(&self, input: &mut Input<'_>) {
        let (address, len) = (input.number(), input.number());
        let start = |range: IovaRange| range.start().0;
        let found = self.table.find(Iova(address)).map(|it| start(it.range));
        assert_eq!(found, self.model.find(address), "{address:#x}");
        let view = self.memory.view().expect("it masters the bus");
        let translated = view.translate(Iova(address)).map(|it| start(it.range));
        assert_eq!(translated, found, "{address:#x}");
        let Some(range) = IovaRange::new(Iova(address), len) else {
            assert!(len == 0 || address.checked_add(len - 1).is_none());
            return;
        };
        let holder = self.table.lookup(range).map(|it| start(it.range));
        assert_eq!(
            holder,
            self.model.lookup(address, range.last().0),
            "{range:?}"
        );
    }

    fn read(&self, input: &mut Input<'_>) {
        let (at, len) = (input.number(), input.number() % MAX_ACCESS);
        let mut bytes = vec![0; len as usize];
        let result = self.memory.read(Iova(at), &mut bytes);
        let result = result.map(|()| bytes).map_err(|error| error.errno());
        assert!(
            result == self.model.read(at, len),
            "{len:#x} bytes at {at:#x}"
        );
    }

    fn write(&mut self, input: &mut Input<'_>) {
        let (at, len) = (input.number(), input.number() % MAX_ACCESS);
        let bytes: Vec<_> = (0..len).map(|n| n as u8 ^ len as u8).collect();
        let result = self.memory.write(Iova(at), &bytes);
        let expected = self.model.write(at, &bytes);
        assert_eq!(
            result.map_err(|error| error.errno()),
            expected,
            "{len:#x} at {at:#x}"
        );
    }

    fn pin(&mut self, input: &mut Input<'_>) {
        let (at, len) = (input.number(), input.number() % (MAX_PAGES * PAGE));
        let Some(range) = IovaRange::new(Iova(at), len) else {
            return;
        };
        let write = len % 2 == 1;
        let access = if write { Access::Write } else { Access::Read };
        let result = self.memory.pin(range, access);
        let expected = self.model.pin(at, len, write);
        match result {
            Ok(pin) => {
                assert_eq!((pin.len() as u64, expected), (len, Ok(())));
                self.device.pins().push((range, pin));
            }
            Err(error) => assert_eq!(Err(error.errno()), expected, "{range:?} {access:?}"),
        }
    }

    fn unpin(&mut self, choice: u8) {
        let pins = self.device.pins();
        if !pins.is_empty() {
            let place = usize::from(choice) % pins.len();
            drop(pins.remove(place));
            self.model.unpin(place);
        }
    }

    fn track(&mut self, input: &mut Input<'_>) {
        let max = input.number();
        let expected = self.model.start_tracking(max);
        for result in [
            self.memory.start_tracking(max),
            self.table.start_tracking(max),
        ] {
            assert_eq!(result.map_err(|error| error.errno()), expected, "{max}");
        }
    }

    fn take_dirty(&mut self, input: &mut Input<'_>) {
        let (at, len) = (input.number(), input.number());
        let Some(range) = IovaRange::new(Iova(at), len) else {
            return;
        };
        if range.pages() > MAX_PAGES && self.model.may_report(range.pages()) {
            return;
        }
        let result = self.memory.take_dirty(range);
        let result = result.map_err(|error| error.errno()).map(|report| {
            let pages = 0..range.pages();
            let dirty = pages.filter(|page| report.is_dirty(*page));
            dirty.map(|page| at / PAGE + page).collect::<Vec<_>>()
        });
        assert_eq!(
            result,
            self.model.take_dirty(at, range.last().0),
            "{range:?}"
        );
    }

    fn finish(self) {
        let mut bytes = vec![0; FILE_LEN];
        self.files.read(&mut bytes);
        assert!(
            bytes == self.model.bytes(),
            "the guest sees what was written"
        );
    }
}

fn one(input: &mut Input<'_>) -> DmaUnmap {
    DmaUnmap::One {
        iova: input.number(),
        size: input.number(),
    }
}
