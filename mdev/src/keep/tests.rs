//! What is held elsewhere, and journals that make no sense.

mod fuzzed;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::event::{EventfdFlags, eventfd};
use vfu::wire::version::Capabilities;

use super::journal::Journal;
use super::shelf::RELEASE_AT_ONCE;
use super::{FIRST_FREE, Held, JOURNAL, Keep, Park};
use crate::dma::DmaLimits;
use crate::session::able;
use crate::session::resume::{Left, ResumeError};

/// Numbers of what a daemon holds, and whether it still takes any.
#[derive(Clone, Debug, Default)]
struct Daemon(Arc<Mutex<(BTreeMap<u32, OwnedFd>, bool)>>);

impl Daemon {
    fn ids(&self) -> Vec<u32> {
        self.0.lock().unwrap().0.keys().copied().collect()
    }

    fn copies(&self) -> BTreeMap<u32, OwnedFd> {
        let parked = &self.0.lock().unwrap().0;
        let copies = parked.iter().map(|(id, fd)| (*id, fd.try_clone().unwrap()));
        copies.collect()
    }

    fn fail(&self) {
        self.0.lock().unwrap().1 = true;
    }

    fn check(&self) -> io::Result<()> {
        match self.0.lock().unwrap().1 {
            true => Err(io::ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        }
    }
}

impl Park for Daemon {
    fn park(&mut self, fds: &[(u32, BorrowedFd<'_>)]) -> io::Result<()> {
        self.check()?;
        let parked = &mut self.0.lock().unwrap().0;
        for (id, fd) in fds {
            parked.insert(*id, fd.try_clone_to_owned()?);
        }
        Ok(())
    }

    fn release(&mut self, ids: &[u32]) -> io::Result<()> {
        self.check()?;
        let parked = &mut self.0.lock().unwrap().0;
        ids.iter().for_each(|id| drop(parked.remove(id)));
        Ok(())
    }
}

fn keep() -> (Keep, Daemon) {
    let daemon = Daemon::default();
    (Keep::new(Box::new(daemon.clone())), daemon)
}

fn fd() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC).unwrap()
}

fn ids(held: &[Held]) -> Vec<u32> {
    held.iter().map(Held::id).collect()
}

#[test]
fn eventfds_are_let_go_many_at_a_time_and_all_else_at_once() {
    let (keep, daemon) = keep();
    let fd = fd();
    let held = keep.hold_eventfds(&[fd.as_fd(); RELEASE_AT_ONCE - 1]);
    let before = ids(&held);
    drop(held);
    assert_eq!(daemon.ids(), before, "not yet");
    drop(keep.hold_eventfds(&[fd.as_fd()]));
    assert!(daemon.ids().is_empty());
    drop(keep.hold_eventfds(&[fd.as_fd()]));
    drop(keep.hold(fd.as_fd()));
    assert!(daemon.ids().is_empty(), "what waited goes along");
}

#[test]
fn no_number_is_given_out_while_it_is_in_use() {
    let left: BTreeMap<_, _> = [3, 16, u32::MAX - 1].map(|id| (id, fd())).into();
    let daemon = Daemon::default();
    let keep = Keep::resume(Box::new(daemon.clone()), left);
    let fd = fd();
    let held = keep.hold_eventfds(&[fd.as_fd(); 3]);
    // Past the highest, and then from the first on: 16 is taken.
    assert_eq!(ids(&held), [u32::MAX, FIRST_FREE + 1, FIRST_FREE + 2]);
    let (_, claimed) = keep.claim(16).unwrap();
    assert_eq!(keep.hold(fd.as_fd()).unwrap().id(), FIRST_FREE + 3);
    drop(claimed);
}

#[test]
fn what_was_left_is_claimed_once_and_let_go_if_nobody_claims_it() {
    let (first, daemon) = keep();
    let fd = fd();
    let held = first.hold_eventfds(&[fd.as_fd(); 3]);
    let keep = Keep::resume(Box::new(daemon.clone()), daemon.copies());
    let (_, claimed) = keep.claim(held[1].id()).unwrap();
    assert!(keep.claim(held[1].id()).is_none());
    keep.settle();
    assert_eq!(daemon.ids(), [claimed.id()]);
    assert!(keep.claim(held[0].id()).is_none());
    std::mem::forget(held);
}

#[test]
fn a_number_that_is_taken_again_is_not_let_go() {
    let (keep, daemon) = keep();
    let fd = fd();
    let before = keep.hold_as(JOURNAL, fd.as_fd()).unwrap();
    let now = keep.hold_as(JOURNAL, fd.as_fd()).unwrap();
    drop(before);
    keep.settle();
    assert_eq!(daemon.ids(), [JOURNAL], "another one is held under it");
    let other = Daemon::default();
    keep.adopt(Box::new(other.clone())).unwrap();
    assert_eq!(other.ids(), [JOURNAL]);
    drop(now);
    keep.settle();
    assert!(other.ids().is_empty());
}

#[test]
fn a_park_that_fails_harms_nobody_and_the_next_one_gets_all() {
    let (keep, daemon) = keep();
    let fd = fd();
    let first = keep.hold(fd.as_fd()).unwrap();
    daemon.fail();
    let second = keep.hold(fd.as_fd()).unwrap();
    let gone = keep.hold(fd.as_fd()).unwrap();
    drop(gone);
    assert!(keep.adopt(Box::new(daemon)).is_err());
    let next = Daemon::default();
    keep.adopt(Box::new(next.clone())).unwrap();
    assert_eq!(next.ids(), [first.id(), second.id()]);
}

/// A daemon that stood still, say, until there was no room for more.
#[test]
fn nobody_goes_on_from_what_is_not_all_there() {
    let limits = DmaLimits {
        max_mappings: 8,
        ..DmaLimits::default()
    };
    let find = |daemon: &Daemon| {
        let keep = Keep::resume(Box::new(Daemon::default()), daemon.copies());
        Left::find(&keep, &limits)
    };
    let (keep, daemon) = keep();
    let (_journal, _) = Journal::new(&keep, &able(), limits.max_mappings).unwrap();
    find(&daemon).unwrap();
    daemon.fail();
    let _memory = keep.hold(fd().as_fd()).unwrap();
    assert!(matches!(find(&daemon), Err(ResumeError::Incomplete)));
    let next = Daemon::default();
    keep.adopt(Box::new(next.clone())).unwrap();
    find(&next).unwrap();
}

#[test]
fn nothing_is_held_where_nothing_outlives_the_process() {
    let keep = Keep::default();
    let fd = fd();
    assert!(!keep.is_active() && keep.hold(fd.as_fd()).is_none());
    assert!(keep.hold_eventfds(&[fd.as_fd()]).is_empty());
    assert!(keep.adopt(Box::new(Daemon::default())).is_err());
    keep.memory("memory", 4096).unwrap();
}

#[test]
fn memory_that_was_left_is_found_by_its_name_and_length() {
    let (first, daemon) = keep();
    let (_journal, _) = Journal::new(&first, &able(), 8).unwrap();
    let memory = first.memory("one", 4096).unwrap();
    memory.write(0, b"kept").unwrap();
    let keep = Keep::resume(Box::new(daemon.clone()), daemon.copies());
    let (file, held) = keep.claim(JOURNAL).unwrap();
    let (journal, _) = Journal::open(file, held, &able(), 8).unwrap();
    keep.set_left_memories(journal.memories.get());
    for (name, len, is_it) in [
        ("two", 4096, false),
        ("one", 8192, false),
        ("one", 4096, true),
        ("one", 4096, false),
    ] {
        let mut bytes = [0; 4];
        let found = keep.memory(name, len).unwrap();
        found.read(0, &mut bytes).unwrap();
        assert_eq!(bytes == *b"kept", is_it, "{name} {len}");
    }
}

#[test]
fn a_journal_is_opened_only_by_a_program_that_lays_it_out_in_the_same_way() {
    let (keep, daemon) = keep();
    let (_journal, _) = Journal::new(&keep, &able(), 8).unwrap();
    let smaller = Capabilities {
        max_data_xfer_size: Some(4096),
        ..able()
    };
    for (able, max_mappings, is_same) in [
        (able(), 8, true),
        (able(), 9, false),
        (able(), 7, false),
        (able(), 1 << 20, false),
        (smaller, 8, false),
    ] {
        let keep = Keep::resume(Box::new(Daemon::default()), daemon.copies());
        let (file, held) = keep.claim(JOURNAL).unwrap();
        let opened = Journal::open(file, held, &able, max_mappings);
        assert_eq!(opened.is_ok(), is_same, "{max_mappings}");
    }
}

#[test]
fn a_journal_of_another_version_is_not_opened() {
    let (keep, daemon) = keep();
    let (_journal, _) = Journal::new(&keep, &able(), 8).unwrap();
    let copies = daemon.copies();
    rustix::io::pwrite(&copies[&JOURNAL], b"vgpudjn\x02", 0).unwrap();
    let keep = Keep::resume(Box::new(Daemon::default()), copies);
    let (file, held) = keep.claim(JOURNAL).unwrap();
    assert!(Journal::open(file, held, &able(), 8).is_err());
}
