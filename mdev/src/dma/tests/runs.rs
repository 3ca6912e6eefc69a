//! What a physical device reaches, against a list of pins: with an IOMMU that has few addresses, and
//! refuses now and then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use vm_memory::VolatileSlice;

use super::*;
use crate::dma::pin::DeviceIommu;
use crate::dma::view::Access;
use crate::host::iova_space::IovaSpace;

/// What the client has mapped, by pages; there is a hole before the last.
const MAPPINGS: [(std::ops::Range<u64>, DmaFlags); 4] = [
    (0..7, BOTH),
    (7..8, DmaFlags::READ),
    (8..16, BOTH),
    (18..24, BOTH),
];
const PAGES: u64 = 26;
/// As few as the device may have addresses for.
const ADDRESSES: u64 = 20;

/// One call's worth of what is mapped.
#[derive(Clone, Debug, PartialEq)]
struct Mapped {
    /// In the client's view.
    first: u64,
    device: IovaRange,
    /// Where it is in this process.
    host: usize,
    write: bool,
}

#[derive(Debug)]
struct State {
    space: IovaSpace,
    /// By the first page in the device's view.
    mapped: BTreeMap<u64, Mapped>,
    /// How many pages the next calls map at most; 0 to refuse.
    mood: VecDeque<u64>,
    calls: usize,
    has_refused: bool,
}

struct Iommu(Mutex<State>);

impl Iommu {
    fn new(addresses: u64, mood: &[u64]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            space: IovaSpace::new(&[range(0, (addresses + 1) * PAGE)], 64),
            mapped: BTreeMap::new(),
            mood: mood.iter().copied().collect(),
            calls: 0,
            has_refused: false,
        })))
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }
}

impl State {
    /// Where in this process a byte is that the device sees.
    fn host(&self, device: u64) -> Option<usize> {
        let (_, found) = self.mapped.range(..=device).next_back()?;
        let into = device - found.device.start().0;
        (device <= found.device.last().0).then_some(found.host + usize::try_from(into).unwrap())
    }

    fn map(&mut self, first: Iova, host: &VolatileSlice<'_>, write: bool) -> Option<IovaRange> {
        self.calls += 1;
        let most = self.mood.pop_front().unwrap_or(u64::MAX);
        let wanted = (host.len() as u64).min(most.saturating_mul(PAGE));
        let device = self.space.take_most(wanted)?;
        let mapped = Mapped {
            first: first.0 / PAGE,
            device,
            host: host.ptr_guard().as_ptr() as usize,
            write,
        };
        let before = self.mapped.insert(device.start().0, mapped);
        assert_eq!(before, None);
        Some(device)
    }
}

impl DeviceIommu for Iommu {
    fn map(
        &self,
        first: Iova,
        host: &VolatileSlice<'_>,
        write: bool,
    ) -> std::io::Result<IovaRange> {
        assert!(first.0.is_multiple_of(PAGE) && (host.len() as u64).is_multiple_of(PAGE));
        self.with(|state| {
            let device = state.map(first, host, write);
            state.has_refused |= device.is_none();
            device.ok_or_else(|| std::io::ErrorKind::OutOfMemory.into())
        })
    }

    fn unmap(&self, first: Iova, device: IovaRange) {
        self.with(|state| {
            let was = state.mapped.remove(&device.start().0).unwrap();
            assert_eq!((was.first, was.device), (first.0 / PAGE, device));
            state.space.give_back(device);
        });
    }
}

/// A client's memory, and what is pinned of it.
struct Played {
    memory: GuestMemory,
    file: OwnedFd,
    iommu: Arc<Iommu>,
    held: Vec<(Pin, IovaRange)>,
}

#[derive(Clone, Debug)]
enum Action {
    Pin(u64, u64, bool),
    Unpin(usize),
    /// The client takes a mapping away and makes it again.
    Remap(usize),
}

fn any_action() -> impl Strategy<Value = Action> {
    let start =
        (0..PAGES, 0..3_u64).prop_map(|(page, at)| (page * PAGE + at * 8).saturating_sub(8));
    let len = (0..12_u64, 1..3_u64).prop_map(|(pages, at)| pages * PAGE + at);
    prop_oneof![
        6 => (start, len, any::<bool>()).prop_map(|(at, len, w)| Action::Pin(at, len, w)),
        5 => (0..8_usize).prop_map(Action::Unpin),
        1 => (0..MAPPINGS.len()).prop_map(Action::Remap),
    ]
}

impl Played {
    fn new(mood: &[u64]) -> Self {
        let memory = connected(DmaLimits::default());
        let iommu = Iommu::new(ADDRESSES, mood);
        memory.set_device_iommu(iommu.clone()).unwrap();
        let played = Self {
            memory,
            file: memfd(PAGES),
            iommu,
            held: Vec::new(),
        };
        (0..MAPPINGS.len()).for_each(|mapping| played.map(mapping));
        played
    }

    fn map(&self, mapping: usize) {
        let (pages, flags) = MAPPINGS[mapping].clone();
        let start = pages.start;
        map(&self.memory, pages, flags, Some((&self.file, start))).unwrap();
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Pin(start, len, write) => self.pin(range(start, len), write),
            Action::Unpin(at) if !self.held.is_empty() => {
                drop(self.held.swap_remove(at % self.held.len()));
            }
            Action::Unpin(_) => {}
            Action::Remap(mapping) => {
                let pages = MAPPINGS[mapping].0.clone();
                let held = &mut self.held;
                let mut device = Device::new(|gone| held.retain(|(_, at)| !at.overlaps(gone)));
                self.memory.unmap(&one(pages), &mut device).unwrap();
                drop(device);
                self.map(mapping);
            }
        }
    }

    fn pin(&mut self, wanted: IovaRange, write: bool) {
        let access = if write { Access::Write } else { Access::Read };
        let before = self.iommu.with(|state| {
            state.has_refused = false;
            state.mapped.clone()
        });
        match self.memory.pin(wanted, access) {
            Ok(pin) => {
                assert!(is_allowed(wanted, write), "{wanted:?}");
                self.held.push((pin, wanted));
            }
            Err(AccessError::Iommu(_)) => {
                let after = self.iommu.with(|state| {
                    assert!(state.has_refused);
                    state.mapped.clone()
                });
                assert_eq!(after, before, "half of it is mapped");
            }
            Err(error) => assert!(!is_allowed(wanted, write), "{wanted:?}: {error}"),
        }
    }

    fn check(&self) {
        let pinned: BTreeSet<u64> = self.held.iter().flat_map(|(_, at)| pages(*at)).collect();
        assert_eq!(self.memory.counts().1, pinned.len());
        self.iommu.with(|state| {
            let mut seen = BTreeSet::new();
            for mapped in state.mapped.values() {
                let own = mapped.first..mapped.first + mapped.device.pages();
                // It is in one mapping of the client's, has a page that is pinned, and no other has
                // a page of it.
                let of = MAPPINGS
                    .iter()
                    .find(|it| it.0.contains(&own.start))
                    .unwrap();
                assert!(own.end <= of.0.end, "{mapped:?}");
                assert_eq!(mapped.write, of.1.contains(DmaFlags::WRITE));
                assert!(pinned.range(own.clone()).next().is_some(), "{mapped:?}");
                assert!(own.into_iter().all(|page| seen.insert(page)), "{mapped:?}");
            }
            for (pin, at) in &self.held {
                check_bytes(state, pin, *at);
            }
        });
    }
}

/// The device sees each byte of a pin where this process does, and in that order.
fn check_bytes(state: &State, pin: &Pin, at: IovaRange) {
    // No piece of a page lies across two mappings of the device's.
    let pieces = pin.device_ranges().into_iter().flat_map(|range| {
        pages(range).map(move |page| {
            let start = range.start().0.max(page * PAGE);
            let last = range.last().0.min(page * PAGE + (PAGE - 1));
            (start, usize::try_from(last - start + 1).unwrap())
        })
    });
    let device = joined(pieces.map(|(start, len)| (state.host(start).unwrap(), len)));
    let host = joined(pin.slices().map(|slice| {
        let start = slice.ptr_guard().as_ptr() as usize;
        (start, slice.len())
    }));
    let bytes: usize = host.iter().map(|(_, len)| len).sum();
    assert_eq!(Some(bytes as u64), at.len());
    assert_eq!(device, host, "{at:?}: {:?}", pin.device_ranges());
}

/// Pieces of memory, those that follow each other as one.
fn joined(pieces: impl Iterator<Item = (usize, usize)>) -> Vec<(usize, usize)> {
    let mut all: Vec<(usize, usize)> = Vec::new();
    for (start, len) in pieces {
        match all.last_mut() {
            Some(last) if last.0 + last.1 == start => last.1 += len,
            _ => all.push((start, len)),
        }
    }
    all
}

fn pages(range: IovaRange) -> std::ops::RangeInclusive<u64> {
    range.start().0 / PAGE..=range.last().0 / PAGE
}

fn is_allowed(wanted: IovaRange, write: bool) -> bool {
    pages(wanted).all(|page| {
        MAPPINGS.iter().any(|(pages, flags)| {
            pages.contains(&page) && (!write || flags.contains(DmaFlags::WRITE))
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_device_reaches_every_page_that_is_pinned_and_nothing_when_none_is(
        actions in proptest::collection::vec(any_action(), 1..40),
        mood in proptest::collection::vec(
            prop_oneof![1 => Just(0), 2 => 1..4_u64, 4 => Just(u64::MAX)], 0..40),
    ) {
        let mut played = Played::new(&mood);
        let free = played.iommu.with(|state| state.space.free());
        for action in &actions {
            played.act(action);
            played.check();
        }
        played.held.clear();
        played.check();
        played.iommu.with(|state| {
            assert!(state.mapped.is_empty());
            assert_eq!(state.space.free(), free);
        });
    }
}

#[test]
fn two_mebibytes_are_one_call_and_what_is_pinned_already_is_none() {
    let memory = connected(DmaLimits::default());
    let iommu = Iommu::new(2000, &[]);
    memory.set_device_iommu(iommu.clone()).unwrap();
    map(&memory, 0..1500, BOTH, Some((&memfd(1500), 0))).unwrap();
    let calls = || iommu.with(|state| std::mem::take(&mut state.calls));
    let pin = |first, pages| {
        memory
            .pin(range(first * PAGE, pages * PAGE), Access::Write)
            .unwrap()
    };
    let large = pin(3, 512);
    assert_eq!((calls(), large.device_ranges().len()), (1, 1));
    let within = pin(4, 300);
    assert_eq!(calls(), 0);
    drop(large);
    assert_eq!(iommu.with(|state| state.mapped.len()), 1);
    // One page keeps no more than that within reach: beyond them there is another call.
    let around = pin(0, 1028);
    assert_eq!(calls(), 3);
    drop((within, around));
    assert_eq!(iommu.with(|state| state.mapped.len()), 0);
}

/// Pages that were mapped before the refusal, and the one that panics.
#[test]
fn a_panic_in_the_middle_leaves_nothing_within_reach() {
    struct Panics(Arc<Iommu>);
    impl DeviceIommu for Panics {
        fn map(
            &self,
            first: Iova,
            host: &VolatileSlice<'_>,
            write: bool,
        ) -> std::io::Result<IovaRange> {
            assert!(first.0 < 2 * PAGE, "told to panic");
            self.0.map(first, host, write)
        }

        fn unmap(&self, first: Iova, device: IovaRange) {
            self.0.unmap(first, device);
        }
    }
    let memory = connected(DmaLimits::default());
    let iommu = Iommu::new(10, &[1, 1, 1]);
    memory
        .set_device_iommu(Arc::new(Panics(iommu.clone())))
        .unwrap();
    map(&memory, 0..4, BOTH, Some((&memfd(4), 0))).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        memory.pin(range(0, 4 * PAGE), Access::Write)
    }));
    assert!(panicked.is_err());
    assert_eq!(
        iommu.with(|state| (state.calls, state.mapped.len())),
        (2, 0)
    );
    assert_eq!(memory.counts().1, 0);
    // And it goes on.
    drop(memory.pin(range(0, 2 * PAGE), Access::Write).unwrap());
    assert_eq!(iommu.with(|state| state.mapped.len()), 0);
}
