//! Guest memory against a list of pages that is looked through one byte at a time.

mod pages;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress, VolatileSlice};

use super::*;
use crate::dma::view::Access;
use pages::Model;

/// Pages of the address space that is played in, and of the file.
const PAGES: u64 = 16;
const FILE_PAGES: u64 = 8;

#[derive(Clone, Debug)]
enum Action {
    Map(std::ops::Range<u64>, DmaFlags, Option<u64>),
    Unmap(std::ops::Range<u64>),
    UnmapAll,
    Read(u64, usize),
    Write(u64, usize, u8),
    Slices(u64, usize, bool),
    Pin(u64, usize, bool),
    Unpin(usize),
    Typed(u64, u64),
    /// The guest writes by itself.
    GuestWrites(u64, u8),
}

fn any_action() -> impl Strategy<Value = Action> {
    let pages = || (0..PAGES, 1..5_u64).prop_map(|(start, len)| start..(start + len).min(PAGES));
    let flags = prop_oneof![
        4 => Just(BOTH),
        2 => Just(DmaFlags::READ),
        1 => Just(DmaFlags::WRITE),
        1 => Just(DmaFlags::empty()),
    ];
    let file = prop_oneof![5 => (0..FILE_PAGES).prop_map(Some), 1 => Just(None)];
    // Around the ends of pages, where one mapping meets the next.
    let address =
        || (0..=PAGES, 0..24_u64).prop_map(|(page, by)| (page * PAGE + by).saturating_sub(12));
    let len = || prop_oneof![3 => 0..40_usize, 2 => 4080..4120_usize, 1 => 0..3 * PAGE as usize];
    prop_oneof![
        8 => (pages(), flags, file).prop_map(|(pages, flags, file)| Action::Map(pages, flags, file)),
        3 => pages().prop_map(Action::Unmap),
        1 => Just(Action::UnmapAll),
        5 => (address(), len()).prop_map(|(at, len)| Action::Read(at, len)),
        5 => (address(), len(), any::<u8>()).prop_map(|(at, len, x)| Action::Write(at, len, x)),
        4 => (address(), len(), any::<bool>()).prop_map(|(at, len, w)| Action::Slices(at, len, w)),
        4 => (address(), len(), any::<bool>()).prop_map(|(at, len, w)| Action::Pin(at, len, w)),
        2 => (0..4_usize).prop_map(Action::Unpin),
        4 => (address(), any::<u64>()).prop_map(|(at, value)| Action::Typed(at, value)),
        2 => (0..FILE_PAGES * PAGE, any::<u8>()).prop_map(|(at, x)| Action::GuestWrites(at, x)),
    ]
}

fn errno<T>(result: Result<T, AccessError>) -> Result<T, Errno> {
    result.map_err(|error| error.errno())
}

fn access(write: bool) -> (Access, DmaFlags) {
    if write {
        (Access::Write, DmaFlags::WRITE)
    } else {
        (Access::Read, DmaFlags::READ)
    }
}

fn content<'a, B: vm_memory::bitmap::BitmapSlice + 'a>(
    slices: impl Iterator<Item = VolatileSlice<'a, B>>,
) -> Vec<u8> {
    slices
        .flat_map(|slice| {
            let mut bytes = vec![0; slice.len()];
            slice.copy_to(&mut bytes[..]);
            bytes
        })
        .collect()
}

type Pins = Arc<Mutex<Vec<(IovaRange, Pin)>>>;

/// Guest memory, the model of it, and what is pinned in both.
struct Both {
    memory: GuestMemory,
    model: Model,
    fd: OwnedFd,
    pins: Pins,
    device: Device<Box<dyn FnMut(IovaRange) + Send>>,
}

impl Both {
    fn new() -> Self {
        let pins = Pins::default();
        let held = Arc::clone(&pins);
        // As a device must: what is unmapped is let go.
        let let_go: Box<dyn FnMut(IovaRange) + Send> =
            Box::new(move |gone| held.lock().unwrap().retain(|(it, _)| !it.overlaps(gone)));
        Self {
            memory: connected(DmaLimits::default()),
            model: Model::new(),
            fd: memfd(FILE_PAGES),
            pins,
            device: Device::new(let_go),
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Map(pages, flags, file) => {
                let result = map(
                    &self.memory,
                    pages.clone(),
                    *flags,
                    file.map(|at| (&self.fd, at)),
                );
                assert_eq!(result, self.model.map(pages, *flags, *file));
            }
            Action::Unmap(pages) => {
                let result = self.memory.unmap(&one(pages.clone()), &mut self.device);
                let expected = self.model.unmap(pages);
                assert_eq!(result.map_err(|error| error.errno()), expected);
            }
            Action::UnmapAll => {
                self.memory.unmap(&DmaUnmap::All, &mut self.device).unwrap();
                self.model.pages.fill(None);
            }
            Action::Read(at, len) => self.read(*at, *len),
            Action::Write(at, len, byte) => {
                let data: Vec<_> = (0..*len).map(|n| byte.wrapping_add(n as u8)).collect();
                let result = errno(self.memory.write(Iova(*at), &data));
                assert_eq!(result, self.model.write(*at, &data));
            }
            Action::Slices(at, len, write) => self.slices(*at, *len, *write),
            Action::Pin(at, len, write) => self.pin(*at, *len, *write),
            Action::Unpin(n) => {
                let mut pins = self.pins.lock().unwrap();
                if *n < pins.len() {
                    pins.remove(*n);
                }
            }
            Action::Typed(at, value) => self.typed(*at, *value),
            Action::GuestWrites(at, byte) => {
                rustix::io::pwrite(&self.fd, &[*byte], *at).unwrap();
                self.model.file[*at as usize] = *byte;
            }
        }
    }

    fn read(&self, at: u64, len: usize) {
        let mut out = vec![0; len];
        let result = errno(self.memory.read(Iova(at), &mut out)).map(|()| out);
        let places = self.model.places(at, len, DmaFlags::READ, Errno::NODEV);
        assert_eq!(result, places.map(|places| self.model.bytes(&places)));
    }

    fn slices(&self, at: u64, len: usize, write: bool) {
        let Some(range) = IovaRange::new(Iova(at), len as u64) else {
            return;
        };
        let (access, needs) = access(write);
        let view = self.memory.view().unwrap();
        let slices: Result<Vec<_>, _> = errno(view.slices(range, access).collect());
        let places = self.model.places(at, len, needs, Errno::OPNOTSUPP);
        let seen = slices.map(|slices| content(slices.into_iter()));
        assert_eq!(seen, places.map(|places| self.model.bytes(&places)));
    }

    fn pin(&self, at: u64, len: usize, write: bool) {
        let Some(range) = IovaRange::new(Iova(at), len as u64) else {
            return;
        };
        let (access, needs) = access(write);
        let places = self.model.places(at, len, needs, Errno::OPNOTSUPP);
        let result = errno(self.memory.pin(range, access));
        let seen = result
            .as_ref()
            .map(|pin| content(pin.slices()))
            .map_err(|it| *it);
        assert_eq!(seen, places.map(|places| self.model.bytes(&places)));
        if let Ok(pin) = result {
            assert_eq!(pin.len(), len);
            self.pins.lock().unwrap().push((range, pin));
        }
    }

    /// By the traits of `vm-memory`.
    fn typed(&mut self, at: u64, value: u64) {
        let view = self.memory.view().unwrap();
        let address = GuestAddress(at);
        let places = |needs| self.model.places(at, 8, needs, Errno::OPNOTSUPP);
        let readable = places(DmaFlags::READ).ok();
        let bytes = readable.map(|places| self.model.bytes(&places).try_into().unwrap());
        let expected = bytes.map(u64::from_ne_bytes);
        assert_eq!(view.read_obj(address).ok(), expected);
        let aligned = expected.filter(|_| at.is_multiple_of(8));
        assert_eq!(view.load(address, Ordering::Acquire).ok(), aligned);
        let may_store = places(DmaFlags::WRITE).is_ok() && at.is_multiple_of(8);
        let stored = view.store(value, address, Ordering::Release);
        assert_eq!(stored.is_ok(), may_store, "{stored:?}");
        if may_store {
            self.model.write(at, &value.to_ne_bytes()).unwrap();
        }
    }

    fn check(&self) {
        let mut pinned: Vec<_> = self
            .pins
            .lock()
            .unwrap()
            .iter()
            .flat_map(|(range, _)| range.start().0 / PAGE..=range.last().0 / PAGE)
            .collect();
        pinned.sort_unstable();
        pinned.dedup();
        assert_eq!(self.memory.counts(), (self.model.mappings(), pinned.len()));
        let mut file = vec![0; self.model.file.len()];
        rustix::io::pread(&self.fd, &mut file, 0).unwrap();
        assert!(
            file == self.model.file,
            "the guest sees what the model sees"
        );
    }
}

proptest! {
    #[test]
    fn guest_memory_does_what_a_list_of_pages_does(
        actions in proptest::collection::vec(any_action(), 0..80),
    ) {
        let mut both = Both::new();
        for action in actions {
            both.act(&action);
            both.check();
        }
    }
}
