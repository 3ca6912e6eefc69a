//! Two clients that do the same: one stays with its instance, the other is handed on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use mdev::dma::Iova;
use mdev::fake::FakeDevice;
use vfu::wire::Command;

use crate::asked::Asked;
use crate::side::Side;
use crate::support::raw::{Outcome, access, dma, words};
use crate::support::{memfd, new_eventfd, signals};

const PAGE: u64 = 4096;
/// Pages of the file that is mapped.
const PAGES: u64 = 20;
/// Groups of interrupts, and vectors of each that are given eventfds.
const GROUPS: usize = 6;
const VECTORS: usize = 8;

/// What belongs to one of the two clients.
struct End {
    side: Side,
    ram: OwnedFd,
    eventfds: Vec<OwnedFd>,
    signals: Vec<u64>,
    bell: Option<OwnedFd>,
    /// The files of mapped regions.
    files: [Option<OwnedFd>; 10],
}

impl End {
    fn new() -> Self {
        let ram = memfd(PAGES * PAGE);
        for page in 0..PAGES {
            rustix::io::pwrite(&ram, &page.to_le_bytes(), page * PAGE).unwrap();
        }
        let mut end = Self {
            side: Side::new(),
            ram,
            eventfds: (0..GROUPS * VECTORS).map(|_| new_eventfd()).collect(),
            signals: vec![0; GROUPS * VECTORS],
            bell: None,
            files: Default::default(),
        };
        for region in [1, 2] {
            let (_, mut fds) = end.ask(Command::DeviceGetRegionInfo, &region_info(200, region));
            end.files[region as usize] = fds.pop();
        }
        end
    }

    fn ask(&mut self, command: Command, payload: &[u8]) -> (Outcome, Vec<OwnedFd>) {
        self.side.ask(command as u16, payload, &[])
    }

    fn count_signals(&mut self) {
        for (sum, eventfd) in self.signals.iter_mut().zip(&self.eventfds) {
            *sum += signals(eventfd);
        }
    }

    /// Every page as the device reads it.
    fn seen(&self) -> Vec<Result<u64, i32>> {
        let pages = (0..24).map(|page| {
            let mut bytes = [0; 8];
            let read = self.side.memory().read(Iova(page * PAGE), &mut bytes);
            let read = read.map_err(|error| error.errno().raw_os_error());
            read.map(|()| u64::from_le_bytes(bytes))
        });
        pages.collect()
    }

    fn ring(&mut self) {
        if self.bell.is_none() {
            let ask = words(&[100, 0, 2, 0]);
            let (_, mut fds) = self.ask(Command::DeviceGetRegionIoFds, &ask);
            self.bell = fds.pop();
        }
        let bell = FakeDevice::DOORBELL;
        let write = access(bell.offset, 2, 4, &[0; 4]);
        self.ask(Command::RegionWrite, &write);
        rustix::io::write(self.bell.as_ref().unwrap(), &1_u64.to_ne_bytes()).unwrap();
        let begin = Instant::now();
        let read = access(bell.offset, 2, 4, &[]);
        let rung = [&read[..], &(bell.datamatch.unwrap() as u32).to_le_bytes()].concat();
        while self.ask(Command::RegionRead, &read).0 != Outcome::Success(rung.clone()) {
            assert!(begin.elapsed().as_secs() < 20, "the doorbell is not heard");
        }
    }
}

fn region_info(argsz: u32, index: u32) -> Vec<u8> {
    let mut info = words(&[argsz, 0, index, 0]);
    info.extend([0; 16]);
    info
}

/// The inodes of files.
fn inodes(fds: &[OwnedFd]) -> Vec<u64> {
    let inode = |fd| rustix::fs::fstat(fd).unwrap().st_ino;
    fds.iter().map(inode).collect()
}

/// Both.
pub(crate) struct Pair {
    stays: End,
    goes: End,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self {
            stays: End::new(),
            goes: End::new(),
        }
    }

    pub(crate) fn handed(&self) -> [u32; 2] {
        self.goes.side.handed
    }

    /// Asks both the same, with what each has of `fds`.
    fn ask(
        &mut self,
        command: Command,
        payload: &[u8],
        fds: impl for<'a> Fn(&'a End) -> Vec<BorrowedFd<'a>>,
    ) -> Vec<Vec<OwnedFd>> {
        let ends = [&mut self.stays, &mut self.goes];
        let answers = ends.map(|end| {
            let copies: Vec<_> = fds(end)
                .iter()
                .map(|fd| fd.try_clone_to_owned().unwrap())
                .collect();
            let borrowed: Vec<_> = copies.iter().map(AsFd::as_fd).collect();
            end.side.ask(command as u16, payload, &borrowed)
        });
        let [(right, right_fds), (found, found_fds)] = answers;
        assert_eq!(found, right, "{command:?} {payload:x?}");
        assert_eq!(found_fds.len(), right_fds.len());
        vec![right_fds, found_fds]
    }

    fn ask_plainly(&mut self, command: Command, payload: &[u8]) -> Vec<Vec<OwnedFd>> {
        self.ask(command, payload, |_| Vec::new())
    }

    pub(crate) fn happen(&mut self, asked: &Asked) {
        match asked {
            Asked::Read(region, offset, len) => {
                let read = access(*offset, *region, *len, &[]);
                self.ask_plainly(Command::RegionRead, &read);
            }
            Asked::Write(region, offset, data, posted) => {
                let write = access(*offset, *region, data.len() as u32, data);
                match posted {
                    true => [&mut self.stays, &mut self.goes]
                        .map(|end| end.side.post(Command::RegionWrite as u16, &write)),
                    false => {
                        self.ask_plainly(Command::RegionWrite, &write);
                        [(); 2]
                    }
                };
            }
            Asked::Multi(writes) => self.write_multi(writes),
            Asked::Mapped(region, at, byte) => {
                for end in [&self.stays, &self.goes] {
                    let file = end.files[*region as usize].as_ref().unwrap();
                    rustix::io::pwrite(file, &[*byte], *at).unwrap();
                }
            }
            Asked::Reset => _ = self.ask_plainly(Command::DeviceReset, &[]),
            Asked::Malformed(command, payload) => self.malformed(*command, payload),
            Asked::HandOver => self.goes.side.hand_over(),
            Asked::Die(calls) => {
                self.goes.side.settle();
                self.goes.side.die_after(*calls);
            }
            Asked::Ring => {
                self.stays.ring();
                self.goes.ring();
            }
            Asked::StopAndRun => self.stop_and_run(),
            Asked::Feature(feature) => {
                for flags in [1 << 16, 1 << 18 | 1 << 16] {
                    let get = words(&[100, feature | flags]);
                    self.ask_plainly(Command::DeviceFeature, &get);
                }
            }
            other => self.of_memory_and_irqs(other),
        }
    }

    fn of_memory_and_irqs(&mut self, asked: &Asked) {
        match asked {
            Asked::Map(page, pages, file, flags) => {
                let offset = file.unwrap_or(0) * PAGE;
                let map = dma(32, *flags, &[offset, page * PAGE, pages * PAGE]);
                let has_file = file.is_some();
                self.ask(Command::DmaMap, &map, |end| {
                    has_file.then(|| end.ram.as_fd()).into_iter().collect()
                });
            }
            Asked::Unmap(page, pages) => {
                let unmap = dma(24, 0, &[page * PAGE, pages * PAGE]);
                self.ask_plainly(Command::DmaUnmap, &unmap);
            }
            Asked::UnmapAll => _ = self.ask_plainly(Command::DmaUnmap, &dma(24, 2, &[0, 0])),
            Asked::Assign(group, start, count, given) => {
                let set = words(&[20, 1 << 2 | 1 << 5, *group, *start, *count]);
                let first = *group as usize * VECTORS + *start as usize;
                let count = if *given { *count as usize } else { 0 };
                self.ask(Command::DeviceSetIrqs, &set, |end| {
                    let given = &end.eventfds[first..first + count];
                    given.iter().map(AsFd::as_fd).collect()
                });
            }
            Asked::SetIrqs(group, start, flags, data) => {
                let count = (data.len() as u32).max(1);
                let size = 20 + data.len() as u32;
                let mut set = words(&[size, *flags, *group, *start, count]);
                set.extend(data);
                self.ask_plainly(Command::DeviceSetIrqs, &set);
            }
            Asked::RegionInfo(index, argsz) => {
                let info = region_info(*argsz, *index);
                for (end, fds) in self
                    .ask_plainly(Command::DeviceGetRegionInfo, &info)
                    .iter()
                    .enumerate()
                {
                    let end = [&self.stays, &self.goes][end];
                    let known = end.files.get(*index as usize).and_then(Option::as_ref);
                    let known: Vec<_> = known.iter().map(|fd| fd.try_clone().unwrap()).collect();
                    assert_eq!(inodes(fds), inodes(&known), "the same files as ever");
                }
            }
            Asked::IoFds(index) => {
                let ask = words(&[100, 0, *index, 0]);
                self.ask_plainly(Command::DeviceGetRegionIoFds, &ask);
            }
            Asked::IrqInfo(index) => {
                let ask = words(&[16, 0, *index, 0]);
                self.ask_plainly(Command::DeviceGetIrqInfo, &ask);
            }
            _ => {}
        }
    }

    fn write_multi(&mut self, writes: &[(u32, u64, Vec<u8>)]) {
        let mut payload = (writes.len() as u64).to_ne_bytes().to_vec();
        for (region, offset, data) in writes {
            let mut padded = data.clone();
            padded.resize(8, 0);
            payload.extend(access(*offset, *region, data.len() as u32, &padded));
        }
        self.ask_plainly(Command::RegionWriteMulti, &payload);
    }

    /// No VERSION, whose second ends the connection, no message that could be right and change the
    /// migration state, and none that is a reply.
    fn malformed(&mut self, command: u16, payload: &[u8]) {
        if command == Command::Version as u16 || command == Command::DeviceFeature as u16 {
            return;
        }
        let [right, found] =
            [&mut self.stays, &mut self.goes].map(|end| end.side.ask(command, payload, &[]).0);
        assert_eq!(found, right, "{command} {payload:x?}");
    }

    /// A migration does not survive a death, so nobody dies in it.
    fn stop_and_run(&mut self) {
        self.goes.side.settle();
        self.goes.side.live_on();
        for state in [1, 3, 1, 2] {
            let set = words(&[16, 1 << 17 | 2, state, 0]);
            self.ask_plainly(Command::DeviceFeature, &set);
            self.ask_plainly(Command::RegionRead, &access(0, 0, 8, &[]));
        }
    }

    /// Compares what answers do not tell.
    pub(crate) fn compare(&mut self) {
        self.goes.side.settle();
        self.goes.side.live_on();
        for (region, size) in [(0, 32), (1, 0x3000), (2, 0x3000), (7, 0x1000)] {
            let read = access(0, region, size, &[]);
            self.ask_plainly(Command::RegionRead, &read);
        }
        // Every vector that is set is told of, and no other.
        for (group, vectors) in [(0, 1), (1, 4), (2, 32), (3, 1), (4, 1)] {
            let fire = words(&[20, 1 | 1 << 5, group, 0, vectors]);
            self.ask_plainly(Command::DeviceSetIrqs, &fire);
        }
        self.ask_plainly(Command::RegionWrite, &access(4, 7, 2, &[6, 0]));
        assert_eq!(self.goes.seen(), self.stays.seen(), "guest memory");
        self.stays.ring();
        self.goes.ring();
        self.stays.count_signals();
        self.goes.count_signals();
        for (at, (found, right)) in self
            .goes
            .signals
            .iter()
            .zip(&self.stays.signals)
            .enumerate()
        {
            let vector = (at / VECTORS, at % VECTORS);
            assert!(found >= right, "{vector:?}: {found}, not {right}");
            assert_eq!(*found == 0, *right == 0, "{vector:?}: {found}, not {right}");
        }
    }
}
