//! Drivers that are out to harm the device, or say whatever comes to their mind.

use mdev::migration::snapshot::{self, SnapshotError};

use super::*;

/// Where a test's request and answer lie.
const REQUEST: u64 = FREE;
const ANSWER: u64 = FREE + 0x1000;
const TABLE: u64 = FREE + 0x2000;

/// Chains, and what becomes of each. All begin with the first descriptor.
#[expect(clippy::too_many_lines, reason = "a table, each case a line or two")]
fn hostile() -> Vec<(&'static str, Vec<Descriptor>, End)> {
    let request = |next| (REQUEST, 24, NEXT, next);
    let answer = (ANSWER, 24, WRITE, 0);
    vec![
        ("a good one", vec![request(1), answer], End::Used(24)),
        ("no room at all", vec![(REQUEST, 24, 0, 0)], End::Used(0)),
        (
            "little room",
            vec![request(1), (ANSWER, 23, WRITE, 0)],
            End::Used(0),
        ),
        ("nothing", vec![(0, 0, 0, 0)], End::Used(0)),
        ("nothing said", vec![answer], End::Used(24)),
        (
            "half a header",
            vec![(REQUEST, 12, NEXT, 1), answer],
            End::Used(24),
        ),
        (
            "a request past memory",
            vec![(RAM, 24, NEXT, 1), answer],
            End::Used(24),
        ),
        (
            "a request past the end",
            vec![(RAM - 8, 24, NEXT, 1), answer],
            End::Used(24),
        ),
        (
            "a request that wraps",
            vec![(u64::MAX - 3, 24, NEXT, 1), answer],
            End::Used(24),
        ),
        (
            "an answer past memory",
            vec![request(1), (1 << 60, 24, WRITE, 0)],
            End::Used(0),
        ),
        ("a loop", vec![request(1), request(0)], End::NeedsReset),
        ("a loop of one", vec![request(0)], End::NeedsReset),
        ("no such descriptor", vec![request(256)], End::NeedsReset),
        (
            "a wrong order",
            vec![(ANSWER, 24, WRITE | NEXT, 1), (REQUEST, 24, 0, 0)],
            End::NeedsReset,
        ),
        (
            "more than 4 GiB",
            vec![(0, u32::MAX, NEXT, 1), (0, u32::MAX, 0, 0)],
            End::NeedsReset,
        ),
        ("a table", vec![(TABLE, 32, INDIRECT, 0)], End::Used(24)),
        (
            "a table of nothing",
            vec![(TABLE, 0, INDIRECT, 0)],
            End::NeedsReset,
        ),
        (
            "a table and a half",
            vec![(TABLE, 24, INDIRECT, 0)],
            End::NeedsReset,
        ),
        (
            "a table too short",
            vec![(TABLE, 16, INDIRECT, 0)],
            End::NeedsReset,
        ),
        (
            "a table and more",
            vec![(TABLE, 32, INDIRECT | NEXT, 1)],
            End::NeedsReset,
        ),
        (
            "a table past memory",
            vec![(u64::MAX - 15, 32, INDIRECT, 0)],
            End::NeedsReset,
        ),
        (
            "a table in a table",
            vec![(TABLE + 0x100, 16, INDIRECT, 0)],
            End::NeedsReset,
        ),
        (
            "a very long table",
            vec![(TABLE, !15, INDIRECT, 0)],
            End::NeedsReset,
        ),
    ]
}

#[test]
fn a_chain_that_is_wrong_costs_the_driver_its_device_until_it_resets_it() {
    let instance = Instance::new();
    let features = feature::INDIRECT_DESC | feature::EVENT_IDX;
    let mut guest = instance.guest(features);
    let before = [0x5a; 0x1000];
    for (what, descriptors, end) in hostile() {
        guest.put(REQUEST, &command(0, &[]));
        guest.put(ANSWER, &before);
        let table = [(REQUEST, 24, NEXT, 1), (ANSWER, 24, WRITE, 0)];
        guest.describe_at(TABLE, &table);
        guest.describe_at(TABLE + 0x100, &[(TABLE, 32, INDIRECT, 0)]);
        guest.describe(0, &descriptors);
        guest.kick(0, 0, 1);
        assert_eq!(guest.wait(0), end, "{what}");
        let written = match end {
            End::Used(len) => len as usize,
            End::NeedsReset => 0,
        };
        assert!(
            guest.look(ANSWER + written as u64, 64) == before[..64],
            "{what}"
        );
        if end == End::NeedsReset {
            // Nothing more is done before that.
            guest.kick(1, 0, 1);
            assert_eq!(guest.wait(1), End::NeedsReset, "{what}");
            guest.set_up(features);
        }
        assert_eq!(ask(&mut guest, CREATE, &[1, 1, 8, 8]), OK, "after {what}");
        assert_eq!(ask(&mut guest, UNREF, &[1, 0]), OK, "after {what}");
    }
    // More than the ring has, and a first descriptor that there is not.
    for (head, count) in [(0, 257), (256, 1), (u16::MAX, 1)] {
        guest.kick(0, head, count);
        assert_eq!(guest.wait(0), End::NeedsReset, "{head} {count}");
        guest.set_up(features);
    }
    // Without the feature a table is none.
    guest.set_up(0);
    guest.describe(0, &[(TABLE, 32, INDIRECT, 0)]);
    guest.kick(0, 0, 1);
    assert_eq!(guest.wait(0), End::NeedsReset);
}

/// A command that has something of a real one, and its queue.
fn commands() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let number = prop_oneof![
        8 => 0x100..0x110_u32,
        1 => 0x200..0x20a_u32,
        2 => 0x300..0x302_u32,
        1 => any::<u32>(),
    ];
    let word = prop_oneof![4 => 0..5_u32, 2 => 0..5000_u32, 1 => any::<u32>()];
    (number, prop::collection::vec(word, 0..24), 0..4_usize).prop_map(|(number, words, cut)| {
        let mut bytes = command(number, &words);
        bytes.truncate(bytes.len() - cut);
        (u16::from((0x300..0x400).contains(&number)), bytes)
    })
}

/// A state of the device, which it then goes on from.
fn saved_and_restored(instance: &Instance) -> Vec<u8> {
    let save = |device: &mut dyn mdev::MediatedDevice| {
        let mut bytes = Vec::new();
        snapshot::save(device, &mut bytes)?;
        snapshot::restore(device, &mut &bytes[..])?;
        Ok::<_, SnapshotError>(bytes)
    };
    instance.mail.call(save).unwrap().unwrap()
}

#[test]
fn whatever_a_driver_says_is_answered_and_can_be_saved_and_the_device_works_on() {
    let instance = Instance::with(&[("heads", "3")]);
    let mut guest = instance.guest(feature::EVENT_IDX);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    // So that there are things to speak of.
    for words in [[1, 1, 64, 64], [2, 2, 32, 16]] {
        assert_eq!(ask(&mut guest, CREATE, &words), OK);
    }
    let blob = [3, 1, 0, 1, 0, 0, 65536, 0, FREE as u32, 0, 65536, 0];
    assert_eq!(ask(&mut guest, CREATE_BLOB, &blob), OK);
    for number in 1..=4000 {
        let (queue, request) = commands().new_tree(&mut runner).unwrap().current();
        let answer = guest.ask(queue, &request, 1056);
        let kind = u32::from_le_bytes(answer[..4].try_into().unwrap());
        assert!((0x1100..0x1300).contains(&kind), "{request:x?}");
        if number % 400 == 0 {
            let state = saved_and_restored(&instance);
            assert!(saved_and_restored(&instance) == state, "after {number}");
        }
    }
    guest.set_up(0);
    assert_eq!(
        ask(&mut guest, CREATE, &[1, 1, 4096, 4096]),
        OK,
        "all is given back"
    );
}
