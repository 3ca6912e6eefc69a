//! Whatever stands in a journal: nobody panics or hangs.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use vfu::client::Client;
use vfu::wire::dma::{DmaFlags, DmaMap};
use vfu::wire::irq::{IrqAction, IrqData, SetIrqs};
use vfu::wire::version::Capabilities;

use super::Daemon;
use crate::Services;
use crate::dma::DmaLimits;
use crate::fake::FakeDevice;
use crate::instance::{self, Clients, Resumption};
use crate::keep::{JOURNAL, Keep};
use crate::mailbox::{Mail, Mailbox};
use crate::session::Surroundings;
use crate::session::resume::Left;

const DEADLINE: Duration = Duration::from_secs(20);

fn limits() -> DmaLimits {
    DmaLimits {
        max_mappings: 16,
        ..DmaLimits::default()
    }
}

fn surroundings(keep: Keep) -> Surroundings {
    let services = Services {
        keep,
        ..Services::default()
    };
    Surroundings {
        limits: limits(),
        ..Surroundings::new(&services)
    }
}

/// What a session has left that has something of all.
fn left() -> (BTreeMap<u32, OwnedFd>, Client) {
    let daemon = Daemon::default();
    let around = surroundings(Keep::new(Box::new(daemon.clone())));
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    let (mailbox, mail) = Mailbox::new().unwrap();
    mail.send(Mail::Client(theirs.into())).unwrap();
    thread::spawn(move || {
        let (device, _) = FakeDevice::kept(around.interrupts.clone(), around.keep.clone()).unwrap();
        instance::run(Box::new(device), &mailbox, &around, Clients::Any, None)
    });
    let mut client = Client::negotiate(ours.into(), Capabilities::default()).unwrap();
    let ram = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&ram, 0x4000).unwrap();
    for page in 0..2 {
        let map = DmaMap {
            flags: DmaFlags::READ | DmaFlags::WRITE,
            offset: 0x1000 * page,
            iova: 0x1_0000 * page,
            size: 0x1000,
        };
        client.dma_map(&map, Some(ram.as_fd())).unwrap();
    }
    let eventfds = vec![Some(super::fd()), Some(super::fd())];
    let set = SetIrqs {
        index: 1,
        start: 0,
        count: 2,
        action: IrqAction::Trigger,
        data: IrqData::Eventfd(eventfds),
    };
    client.set_irqs(&set).unwrap();
    client.region_io_fds(2).unwrap();
    client.region_write(0, 4, &[1, 2, 3]).unwrap();
    let (stands, standing) = mpsc::channel();
    mail.send(Mail::Pause(Box::new(move || {
        stands.send(()).unwrap();
        loop {
            thread::park();
        }
    })))
    .unwrap();
    standing.recv_timeout(DEADLINE).unwrap();
    (daemon.copies(), client)
}

/// A copy of the journal, which nobody else has, with other words in it.
fn another(journal: &OwnedFd, changes: &[(u64, u64)]) -> OwnedFd {
    let len = fstat(journal).unwrap().st_size.unsigned_abs();
    let memory = crate::region_memory::RegionMemory::new("copy", len).unwrap();
    let original = crate::region_memory::RegionMemory::open(journal.try_clone().unwrap(), len);
    memory.copy_from(&original.unwrap()).unwrap();
    for (at, word) in changes {
        let at = at % (len / 8) * 8;
        rustix::io::pwrite(memory.file(), &word.to_le_bytes(), at).unwrap();
    }
    memory.file().try_clone().unwrap()
}

/// Whether a session goes on from it; it is over soon.
fn go_on(left: BTreeMap<u32, OwnedFd>) -> bool {
    let keep = Keep::resume(Box::new(Daemon::default()), left);
    let around = surroundings(keep.clone());
    let Ok(left) = Left::find(&keep, &limits()) else {
        return false;
    };
    let Ok((device, _)) = FakeDevice::kept(around.interrupts.clone(), keep) else {
        return false;
    };
    let (mailbox, mail) = Mailbox::new().unwrap();
    mail.send(Mail::Stop).unwrap();
    let (told, outlook) = mpsc::channel();
    let resumption = Resumption {
        left,
        may_go_on: Box::new(move |outlook| told.send(outlook.is_ok()).is_ok()),
    };
    let device = Box::new(device);
    instance::run(device, &mailbox, &around, Clients::Any, Some(resumption)).unwrap();
    outlook.recv_timeout(DEADLINE).unwrap()
}

/// Numbers that could do harm: small ones, positions, lengths, sums that wrap.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..300,
        any::<u64>(),
        any::<u64>().prop_map(|bits| u64::MAX - bits % 200),
        (0_u32..64).prop_map(|bit| 1 << bit),
    ]
}

/// Where words stand that say something: the head and the logs, and the two ends of the stream.
fn place() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0_u64..16, 3 => 0_u64..2400, 1 => any::<u64>()]
}

fn cases() -> u32 {
    match std::env::var_os("VGPUD_TEST_ALL") {
        Some(_) => 20_000,
        None => 400,
    }
}

#[test]
fn a_journal_that_makes_no_sense_ends_in_an_error_or_in_a_session() {
    let (left, _client) = left();
    let (done, waiting) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(cases())
        });
        let ends = stream_words(&left[&JOURNAL]);
        let places = prop_oneof![2 => place(), 2 => proptest::sample::select(ends)];
        let run = runner.run(&vec((places, word()), 0..4), |changes| {
            let mut copies: BTreeMap<_, _> = left
                .iter()
                .map(|(id, fd)| (*id, fd.try_clone().unwrap()))
                .collect();
            let (_, client) = UnixStream::pair().unwrap();
            copies.insert(crate::keep::CLIENT, client.into());
            let journal = another(&left[&JOURNAL], &changes);
            copies.insert(JOURNAL, journal);
            let goes_on = go_on(copies);
            // The magic number apart, what is as it was is gone on from.
            assert!(goes_on || !changes.is_empty());
            Ok(())
        });
        done.send(()).unwrap();
        run.unwrap_or_else(|failure| panic!("{failure}"));
    });
    let end = waiting.recv_timeout(3 * DEADLINE);
    assert!(
        !matches!(end, Err(mpsc::RecvTimeoutError::Timeout)),
        "it hangs"
    );
    thread.join().unwrap();
}

/// The words of checkpoints and of both ends of the stream, which are not 0: by what they hold,
/// since only their own modules know where they lie.
fn stream_words(journal: &OwnedFd) -> Vec<u64> {
    let len = fstat(journal).unwrap().st_size.unsigned_abs();
    let mut bytes = vec![0; len as usize];
    rustix::io::pread(journal, &mut bytes, 0).unwrap();
    let words = bytes
        .chunks_exact(8)
        .map(|word| word.iter().any(|byte| *byte != 0));
    let used = (0..).zip(words).filter(|(_, is_used)| *is_used);
    let near = used.flat_map(|(at, _)| [at, at + 1, at + 2]);
    near.collect()
}
