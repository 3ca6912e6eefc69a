//! The state of a vGPU, taken to another one, of the same device or not.

use mdev::migration::snapshot;

use super::*;
use crate::edu::registers::{Register, command};
use crate::edu::transfer::BUFFER;

fn save(seat: &Instance) -> Vec<u8> {
    let save = |device: &mut dyn mdev::MediatedDevice| {
        let mut bytes = Vec::new();
        snapshot::save(device, &mut bytes).map(|()| bytes)
    };
    seat.mail.call(save).unwrap().unwrap()
}

fn restore(seat: &Instance, bytes: Vec<u8>) {
    let restore =
        move |device: &mut dyn mdev::MediatedDevice| snapshot::restore(device, &mut &bytes[..]);
    seat.mail.call(restore).unwrap().unwrap();
}

#[test]
fn the_buffer_comes_along_and_the_device_has_none_of_what_was_there() {
    let ((_, here), (fake, there)) = (parent(LIMIT), parent(LIMIT));
    let (from, to) = (seat(&here, &[]), seat(&there, &[]));
    let (mut first, _ram) = guest(&from, 1);
    let (mut second, memory) = guest(&to, 2);
    assert_eq!(first.load(IOVA, PAGE), None);
    first.write(Register::Liveness, 7);
    // The device has these bytes of the second, and is not to take them for its own again.
    assert_eq!(second.load(IOVA, PAGE), None);
    restore(&to, save(&from));
    assert_eq!(second.read(Register::Liveness), !7);
    assert_eq!(second.store(IOVA + PAGE, PAGE), None);
    assert_eq!(memory.read(PAGE, PAGE), pattern(1, PAGE));
    assert_eq!(fake.faults(), 0);
}

#[test]
fn a_stop_waits_for_no_turn_and_what_waited_is_done_once_it_goes_on() {
    let (fake, parent) = parent(LIMIT);
    let (first, second) = (seat(&parent, &[]), seat(&parent, &[]));
    let (mut holder, _ram) = guest(&first, 1);
    let (mut waiting, memory) = guest(&second, 2);
    assert_eq!(waiting.load(IOVA, PAGE), None);
    fake.state().is_stuck = true;
    holder.start_load(IOVA, PAGE, 0);
    fake.wait_until_begun(3);
    waiting.start(BUFFER, IOVA + PAGE, PAGE, command::START | command::TO_RAM);
    // It stops for that, and goes on.
    let state = save(&second);
    assert_ne!(waiting.read(Register::DmaCommand) & 1, 0);
    fake.go_on();
    assert_eq!((holder.finish(), waiting.finish()), (None, None));
    assert_eq!(memory.read(PAGE, PAGE), pattern(2, PAGE));
    // Wherever that state goes, the transfer is done there.
    memory.write(PAGE, &[0; BUFFER_LEN]);
    restore(&second, state);
    assert_eq!(waiting.finish(), None);
    assert_eq!(memory.read(PAGE, PAGE), pattern(2, PAGE));
}
