//! Memory that is taken away while the device may be writing to it.

use std::hint;

use super::guest::{Guest, Instance, PAGE, Ram};
use crate::edu::registers::{Register, command};

/// Most turns of a loop that the guest waits: about as long as a transfer takes to begin and to
/// end. With neither the device nor `mdev` waiting for pins, a few in 5,000 rounds then fail.
const MAX_DELAY: u64 = 4_000;

const IOVA: u64 = 0x40_0000;

const DATA: [u8; PAGE as usize] = [0xa5; PAGE as usize];
/// What the guest fills its memory with once it has it back.
const CANARY: [u8; PAGE as usize] = [0x5c; PAGE as usize];

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn delay(&mut self) {
        for _ in 0..self.below(MAX_DELAY) {
            hint::spin_loop();
        }
    }
}

/// Starts a transfer to memory, unless one is under way, and waits for nothing.
fn post_start(guest: &mut Guest) {
    let command = command::START | command::TO_RAM;
    guest.post(Register::DmaCommand, command as u32);
}

/// Takes memory away, at random moments, as often as `rounds` says.
fn check_unmap_under_transfers(way: &str, rounds: usize) {
    let instance = Instance::new(&[("dma", way)]);
    let mut guest = instance.guest();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let ram = Ram::new(PAGE);
    ram.write(0, &DATA);
    guest.map_rw(&ram, IOVA, PAGE);
    assert_eq!(guest.load(IOVA, PAGE), None);
    assert_eq!(guest.store(IOVA, PAGE), None);
    for round in 0..rounds {
        for _ in 0..random.below(8) {
            post_start(&mut guest);
        }
        random.delay();
        guest.unmap(IOVA, PAGE);
        // The memory is the guest's own from here on.
        ram.write(0, &CANARY);
        post_start(&mut guest);
        guest.finish();
        assert!(ram.read(0, PAGE) == CANARY, "round {round}, by {way}");
        guest.map_rw(&ram, IOVA, PAGE);
    }
    assert_eq!(guest.store(IOVA, PAGE), None);
    assert!(
        ram.read(0, PAGE) == DATA,
        "it was to be written all the time"
    );
}

#[test]
fn no_byte_lands_in_pinned_memory_once_its_unmap_is_answered() {
    check_unmap_under_transfers("pin", 10_000);
}

#[test]
fn no_byte_lands_in_copied_memory_once_its_unmap_is_answered() {
    check_unmap_under_transfers("copy", 5_000);
}
