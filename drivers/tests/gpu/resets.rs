//! Resets of the device and of single queues.

use std::collections::BTreeSet;

use super::*;

/// What a driver does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Create(u32),
    Unref(u32),
    ResetQueue(u16),
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..4_u32).prop_map(Step::Create),
        4 => (1..4_u32).prop_map(Step::Unref),
        4 => (0..2_u16).prop_map(Step::ResetQueue),
        1 => Just(Step::Reset),
    ];
    prop::collection::vec(step, 1..40)
}

/// Resources live as long as the device is not reset, whichever queue is. An answer that is given
/// twice, or a command that is taken for another at its position, differs.
#[test]
fn every_command_is_done_once_whatever_is_reset_between() {
    let instance = Instance::new();
    let features = feature::RING_RESET | feature::EVENT_IDX;
    let mut guest = instance.guest(features);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..60 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        guest.set_up(features);
        let mut known = BTreeSet::new();
        for (at, step) in steps.iter().enumerate() {
            let (answer, expected) = match *step {
                Step::Create(id) => {
                    let expected = if known.insert(id) { OK } else { NO_RESOURCE };
                    (ask(&mut guest, CREATE, &[id, 1, 8, 8]), expected)
                }
                Step::Unref(id) => {
                    let expected = if known.remove(&id) { OK } else { NO_RESOURCE };
                    (ask(&mut guest, UNREF, &[id, 0]), expected)
                }
                Step::ResetQueue(queue) => {
                    guest.reset_queue(queue);
                    continue;
                }
                Step::Reset => {
                    guest.set_up(features);
                    known.clear();
                    continue;
                }
            };
            assert_eq!(answer, expected, "{at} of {steps:?}");
        }
    }
}

#[test]
fn a_queue_that_is_reset_begins_anew_and_the_others_go_on() {
    let instance = Instance::new();
    let mut guest = instance.guest(feature::RING_RESET | feature::EVENT_IDX);
    // What changes something at a position is done at that position of the next time too.
    for id in 1..5 {
        assert_eq!(ask(&mut guest, CREATE, &[id, 1, 8, 8]), OK);
        ask_on(&mut guest, 1, MOVE_CURSOR, &[0; 8]);
        guest.reset_queue(0);
        assert_eq!(ask(&mut guest, CREATE, &[id + 10, 1, 8, 8]), OK);
        assert_eq!(ask(&mut guest, UNREF, &[id, 0]), OK);
        assert_eq!(guest.used(0), 2, "counted from the reset");
        guest.reset_queue(0);
        guest.reset_queue(1);
        assert_eq!(ask(&mut guest, UNREF, &[id, 0]), NO_RESOURCE);
    }
    // What was not told of before is not done after.
    guest.put(FREE, &command(UNREF, &[11, 0]));
    guest.describe(0, &[(FREE, 32, NEXT, 1), (FREE + 0x100, 24, WRITE, 0)]);
    guest.offer(0, 0, 1);
    guest.reset_queue(0);
    guest.write(0x3000, &[0, 0]);
    assert_eq!(ask(&mut guest, UNREF, &[11, 0]), OK);
    // It is off until it is set up, and has its own size again.
    guest.write(0x16, &[0, 0]);
    guest.write(0x3a, &[1, 0]);
    assert_eq!(guest.read::<2>(0x1a), [0xff, 0xff]);
    assert_eq!(guest.read::<8>(0x20), [0; 8]);
    guest.write(0x3000, &[0, 0]);
    ask_on(&mut guest, 1, MOVE_CURSOR, &[0; 8]);
}

#[test]
fn a_queue_is_reset_only_where_that_was_agreed_on() {
    let instance = Instance::new();
    let mut guest = instance.guest(0);
    for value in [1_u16, 0, 2] {
        guest.write(0x16, &[0, 0]);
        guest.write(0x3a, &value.to_le_bytes());
        assert_eq!(guest.read::<2>(0x1c), [1, 0], "{value}");
    }
    guest.set_up(feature::RING_RESET);
    for (queue, value) in [(0_u16, 0_u16), (0, 2), (7, 1)] {
        guest.write(0x16, &queue.to_le_bytes());
        guest.write(0x3a, &value.to_le_bytes());
        guest.write(0x16, &[0, 0]);
        assert_eq!(guest.read::<2>(0x1c), [1, 0], "{queue} {value}");
    }
    assert_eq!(ask(&mut guest, CREATE, &[1, 1, 8, 8]), OK);
}
