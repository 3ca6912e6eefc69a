//! The device's own section of a state: what is in it, and what is refused.

use mdev::dma::IovaRange;
use mdev::region::RegionIndex;
use mdev::state::Fields;
use mdev::{MediatedDevice, Services};
use proptest::prelude::*;

use super::guest::{PAGE, build};
use crate::edu::registers::{Register, command};

/// Where the number of failures lies in the device's own section, and its length.
const FAILURES: usize = 54;
const SAVED_LEN: usize = FAILURES + 8 + 4 + 1 + PAGE as usize;

/// The device's own section.
fn saved(device: &mut dyn MediatedDevice) -> Vec<u8> {
    let migration = device.migration().unwrap();
    migration.stop();
    let mut bytes = Vec::new();
    migration.save(&mut bytes);
    assert_eq!(bytes.len(), SAVED_LEN);
    bytes
}

fn is_taken(device: &mut dyn MediatedDevice, bytes: &[u8]) -> bool {
    let migration = device.migration().unwrap();
    migration.restore(1, Fields::of_registers(bytes)).is_ok()
}

#[test]
fn a_state_that_cannot_be_is_refused_and_changes_nothing() {
    let mut device = build(&[], Services::default());
    let before = saved(&mut *device);
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = before.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    for (why, bytes) in [
        ("too short", before[..SAVED_LEN - 1].to_vec()),
        ("too long", [&before[..], &[0]].concat()),
        ("another mask", with(0, &[0])),
        ("an interrupt neither wanted nor not", with(48, &[2])),
        ("under way without a command", with(49, &[1])),
        ("an errno that is none", with(50, &4096_u32.to_le_bytes())),
        ("a negative errno", with(50, &u32::MAX.to_le_bytes())),
        ("a pin without a cause", with(FAILURES + 12, &[1])),
    ] {
        assert!(!is_taken(&mut *device, &bytes), "{why}");
        assert!(saved(&mut *device) == before, "{why}");
    }
}

#[test]
fn failures_are_counted_as_far_as_the_register_goes() {
    let mut device = build(&[], Services::default());
    let mut bytes = saved(&mut *device);
    bytes[FAILURES..][..8].fill(0xff);
    assert!(is_taken(&mut *device, &bytes));
    device.migration().unwrap().resume();
    let mut failures = [0; 8];
    for _ in 0..2 {
        // Bus mastering is off.
        let start = command::START.to_le_bytes();
        let at = Register::DmaCommand as u64;
        device.write(RegionIndex::Bar0, at, &start).unwrap();
        device.dma_unmap(IovaRange::EVERYTHING);
        saved(&mut *device);
        device.migration().unwrap().resume();
        let at = Register::DmaFailures as u64;
        device.read(RegionIndex::Bar0, at, &mut failures).unwrap();
        assert_eq!(failures, [0xff; 8]);
        let mut command = [0; 8];
        let at = Register::DmaCommand as u64;
        device.read(RegionIndex::Bar0, at, &mut command).unwrap();
        assert_eq!(command, [0; 8], "the engine lives, and has ended it");
    }
}

proptest! {
    #[test]
    fn what_is_taken_is_what_is_saved_again(
        changes in prop::collection::vec((8..FAILURES + 13, any::<u8>()), 0..6),
    ) {
        let mut device = build(&[], Services::default());
        let before = saved(&mut *device);
        let mut bytes = before.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        let is_taken = is_taken(&mut *device, &bytes);
        let expected = if is_taken { bytes } else { before };
        prop_assert!(saved(&mut *device) == expected);
    }
}
