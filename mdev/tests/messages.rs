//! DMA by message, with clients that lay it out as QEMU 11 does and as QEMU 10 did.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod support;

use std::time::Duration;

use mdev::dma::view::Access;
use mdev::dma::{AccessError, DmaLimits, GuestMemory, Iova, IovaRange};
use support::Instance;
use support::guest::{Guest, PAGE, Qemu, in_thread};
use support::raw::Outcome;
use vfu::Errno;
use vfu::wire::Command;
use vfu::wire::version::Capabilities;

const BOTH: [Qemu; 2] = [Qemu::New, Qemu::Old];
const MAX: usize = 64 << 10;

/// A guest without files, and its memory mapped.
fn guest(instance: &Instance, qemu: Qemu, pages: u64) -> Guest {
    let mut guest = Guest::new(instance, qemu, pages);
    assert_eq!(guest.map(0, pages, None), Outcome::Success(vec![]));
    guest
}

fn read(memory: &GuestMemory, at: u64, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len];
    let result = memory.read(Iova(at), &mut bytes);
    result.map(|()| bytes).map_err(|error| error.errno())
}

fn write(memory: &GuestMemory, at: u64, data: &[u8]) -> Result<(), Errno> {
    memory.write(Iova(at), data).map_err(|error| error.errno())
}

#[test]
fn what_is_written_and_read_is_not_shifted() {
    for qemu in BOTH {
        let instance = Instance::new();
        let mut guest = guest(&instance, qemu, 2);
        guest.put(0x20, b"0123456789abcdef");
        let (served, seen) = guest.serve_while(&instance, |memory| {
            write(memory, 0x24, b"WXYZ").unwrap();
            read(memory, 0x22, 8)
        });
        assert_eq!(seen.unwrap(), b"23WXYZ89", "{qemu:?}");
        assert_eq!(guest.look(0x1c, 20), b"\0\0\0\x000123WXYZ89abcdef");
        // A write of nothing to find out, and the two.
        let counts: Vec<_> = served.iter().map(|it| (it.command, it.count)).collect();
        assert_eq!(counts, [(12, 0), (12, 4), (11, 8)], "{qemu:?}");
    }
}

/// What cannot be written cannot be asked by a write.
#[test]
fn memory_that_is_only_read_is_read_rightly_before_the_layout_is_known() {
    for qemu in BOTH {
        let instance = Instance::new();
        let mut guest = guest(&instance, qemu, 1);
        guest.put(0, b"rom");
        let thread = in_thread(&instance, |memory| read(memory, 0, 3));
        let probe = guest.wanted();
        assert_eq!((probe.command, probe.count), (12, 0));
        guest.refuse(&probe, Errno::NODEV);
        let (_, seen) = guest.serve_all(thread);
        assert_eq!(seen.unwrap(), b"rom", "{qemu:?}");
    }
}

#[test]
fn large_transfers_are_split() {
    for qemu in BOTH {
        let instance = Instance::new();
        let mut guest = guest(&instance, qemu, 100);
        let data: Vec<_> = (0..200_000_u32).map(|n| (n / 7) as u8).collect();
        let expected = data.clone();
        let (served, seen) = guest.serve_while(&instance, move |memory| {
            write(memory, 100, &data).unwrap();
            read(memory, 100, data.len())
        });
        assert!(seen.unwrap() == expected, "{qemu:?}");
        let counts: Vec<_> = served.iter().map(|it| it.count).collect();
        let last = 200_000 - 3 * MAX;
        assert_eq!(counts, [0, MAX, MAX, MAX, last, MAX, MAX, MAX, last]);
    }
}

#[test]
fn a_client_gets_no_more_in_one_message_than_it_takes() {
    let instance = Instance::new();
    let small = Capabilities {
        max_data_xfer_size: Some(4096),
        ..support::offer()
    };
    let mut guest = Guest::offering(&instance, Qemu::New, 3, small);
    guest.map(0, 3, None);
    let (served, _) = guest.serve_while(&instance, |memory| read(memory, 0, 10_000).unwrap());
    let counts: Vec<_> = served.iter().map(|it| it.count).collect();
    assert_eq!(counts, [0, 4096, 4096, 10_000 - 8192]);
}

/// Tells the client's layout, so that nothing is left to find out.
fn warm_up(instance: &Instance, guest: &mut Guest) {
    let (_, result) = guest.serve_while(instance, |memory| write(memory, 0, b"x"));
    result.unwrap();
}

#[test]
fn few_are_in_flight_and_replies_may_come_in_any_order() {
    let instance = Instance::new();
    let mut guest = guest(&instance, Qemu::New, 8);
    warm_up(&instance, &mut guest);
    let threads: Vec<_> = (0..7_u8)
        .map(|n| {
            guest.put(u64::from(n) * PAGE, &[n; 8]);
            in_thread(&instance, move |memory| {
                read(memory, u64::from(n) * PAGE, 8)
            })
        })
        .collect();
    let mut left = threads.len();
    while left > 0 {
        let wanted: Vec<_> = (0..left.min(3)).map(|_| guest.wanted()).collect();
        assert!(!guest.is_asked(), "more than three are in flight");
        // The session goes on meanwhile.
        assert!(guest.raw.is_in_step());
        for wanted in wanted.iter().rev() {
            guest.serve(wanted);
        }
        left -= wanted.len();
    }
    for (n, thread) in (0..7).zip(threads) {
        assert_eq!(thread.join().unwrap(), Ok(vec![n; 8]));
    }
}

#[test]
fn refused_and_garbled_answers_are_errors_and_the_next_ones_are_taken() {
    type Answer = fn(&Guest, &support::guest::Wanted);
    let answers: [(Answer, Errno); 6] = [
        (
            |guest, wanted| guest.refuse(wanted, Errno::NODEV),
            Errno::NODEV,
        ),
        (|guest, wanted| guest.reply(wanted, &[]), Errno::PROTO),
        (
            |guest, wanted| guest.reply(wanted, &[0; 16 + 7]),
            Errno::PROTO,
        ),
        (
            |guest, wanted| guest.reply(wanted, &[0; 16 + 9]),
            Errno::PROTO,
        ),
        // As an older QEMU would, though this one is not.
        (
            |guest, wanted| guest.reply(wanted, &[0; 12 + 8]),
            Errno::PROTO,
        ),
        (
            |guest, wanted| {
                let command = Command::DmaWrite as u16;
                let wrong = support::guest::Wanted {
                    command,
                    ..wanted.clone()
                };
                guest.reply(&wrong, &[0; 16 + 8]);
            },
            Errno::PROTO,
        ),
    ];
    let instance = Instance::new();
    let mut guest = guest(&instance, Qemu::New, 1);
    warm_up(&instance, &mut guest);
    for (answer, expected) in answers {
        let thread = in_thread(&instance, |memory| read(memory, 0, 8));
        let wanted = guest.wanted();
        answer(&guest, &wanted);
        assert_eq!(thread.join().unwrap(), Err(expected));
        warm_up(&instance, &mut guest);
    }
    // A write of which less was done than was asked for.
    let thread = in_thread(&instance, |memory| write(memory, 0, b"12345678"));
    let wanted = guest.wanted();
    guest.reply(&wanted, &[0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(thread.join().unwrap(), Err(Errno::PROTO));
    assert!(guest.raw.is_in_step());
}

#[test]
fn an_answer_that_comes_late_is_dropped() {
    let instance = Instance::with_limits(DmaLimits {
        message: Duration::from_millis(100),
        ..DmaLimits::default()
    });
    let mut guest = guest(&instance, Qemu::New, 2);
    warm_up(&instance, &mut guest);
    guest.put(0, b"old");
    let thread = in_thread(&instance, |memory| read(memory, 0, 3));
    let late = guest.wanted();
    assert_eq!(thread.join().unwrap(), Err(Errno::TIMEDOUT));
    guest.serve(&late);
    guest.serve(&late);
    guest.put(PAGE, b"new");
    let (_, seen) = guest.serve_while(&instance, |memory| read(memory, PAGE, 3));
    assert_eq!(seen.unwrap(), b"new");
    assert!(guest.raw.is_in_step());
}

#[test]
fn the_sessions_own_thread_is_refused_instead_of_hanging() {
    let instance = Instance::new();
    let mut guest = guest(&instance, Qemu::New, 1);
    let memory = instance.memory.clone();
    let result = instance
        .mail
        .call(move |_| (read(&memory, 0, 1), write(&memory, 0, b"x")));
    let deadlock = Errno::DEADLK;
    assert_eq!(result.unwrap(), (Err(deadlock), Err(deadlock)));
    assert!(guest.raw.is_in_step());
}

#[test]
fn an_unmap_ends_the_waits_for_its_memory_and_no_others() {
    let instance = Instance::new();
    let mut guest = Guest::new(&instance, Qemu::New, 6);
    guest.map(0, 2, None);
    guest.map(2, 2, None);
    warm_up(&instance, &mut guest);
    let go = || in_thread(&instance, |memory| read(memory, PAGE, 4));
    let stay = || in_thread(&instance, |memory| read(memory, 3 * PAGE, 4));
    // As many as may be in flight, so the last one waits for its turn; then one less.
    for (others, sent) in [(3, 3), (2, 3)] {
        let staying: Vec<_> = (0..others).map(|_| stay()).collect();
        let mut wanted: Vec<_> = (0..others).map(|_| guest.wanted()).collect();
        let going = go();
        wanted.extend((others..sent).map(|_| guest.wanted()));
        assert!(!guest.is_asked());
        assert!(matches!(guest.unmap(0, 2), Outcome::Success(_)));
        let ended = going.join().unwrap().unwrap_err();
        // A thread that was slow to begin finds nothing any more.
        assert!([Errno::CANCELED, Errno::FAULT].contains(&ended), "{ended}");
        assert!(!staying.iter().any(|thread| thread.is_finished()));
        guest.put(3 * PAGE, b"here");
        wanted.iter().for_each(|wanted| guest.serve(wanted));
        for thread in staying {
            assert_eq!(thread.join().unwrap().unwrap(), b"here");
        }
        guest.map(0, 2, None);
    }
    guest.unmap(0, 2);
    let after = in_thread(&instance, |memory| read(memory, PAGE, 4));
    assert_eq!(after.join().unwrap(), Err(Errno::FAULT));
}

/// Also that of threads which were waiting for their turn.
#[test]
fn an_unmap_and_the_end_of_the_session_end_every_wait() {
    let instance = Instance::new();
    for ends_session in [false, true] {
        let mut guest = guest(&instance, Qemu::New, 1);
        warm_up(&instance, &mut guest);
        let threads: Vec<_> = (0..9)
            .map(|_| in_thread(&instance, |memory| read(memory, 0, 4)))
            .collect();
        for _ in 0..3 {
            guest.wanted();
        }
        let expected = if ends_session {
            drop(guest);
            // One that begins after the end finds its memory gone.
            vec![Errno::NODEV, Errno::PERM, Errno::FAULT]
        } else {
            assert!(matches!(guest.unmap(0, 1), Outcome::Success(_)));
            vec![Errno::CANCELED, Errno::FAULT]
        };
        for thread in threads {
            let error = thread.join().unwrap().unwrap_err();
            assert!(expected.contains(&error), "{error}");
        }
    }
}

#[test]
fn memory_without_a_file_cannot_be_pointed_to() {
    let instance = Instance::new();
    let mut guest = guest(&instance, Qemu::New, 1);
    let range = IovaRange::new(Iova(0), PAGE).unwrap();
    let (served, ()) = guest.serve_while(&instance, move |memory| {
        let pin = memory.pin(range, Access::Read);
        assert!(matches!(pin, Err(AccessError::NeedsMessages(Iova(0)))));
        let view = memory.view().unwrap();
        let slice = view.slices(range, Access::Read).next().unwrap();
        assert!(matches!(slice, Err(AccessError::NeedsMessages(Iova(0)))));
    });
    assert_eq!(served, [], "there is no file to judge");
}
