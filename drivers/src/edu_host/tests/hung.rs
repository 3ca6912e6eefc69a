//! A device that does not end what it was told to do.

use rustix::io::Errno;

use super::*;

/// How long it may take here.
const SHORT: Duration = Duration::from_millis(100);

#[test]
fn a_device_that_hangs_is_quiet_and_its_guest_is_told() {
    let (fake, parent) = parent(SHORT);
    let (first, second) = (seat(&parent, &[]), seat(&parent, &[]));
    let (mut first, ram) = guest(&first, 1);
    let (mut second, other) = guest(&second, 2);
    assert_eq!(first.load(IOVA, PAGE), None);
    let before = ram.read(0, 4 * PAGE);
    fake.state().is_stuck = true;
    assert_eq!(first.store(IOVA + PAGE, PAGE), Some(Errno::IO));
    assert!(!fake.is_bus_master());
    assert_eq!(fake.mapped(), 2 * OWN);
    // Nobody else has it begin anything while it may still be at that.
    let begun = fake.begun();
    assert_eq!(second.store(IOVA, PAGE), Some(Errno::IO));
    assert_eq!((fake.begun(), fake.mapped()), (begun, 2 * OWN));
    // It ends what it was at, to no effect; then it does what it is told again.
    fake.go_on();
    assert_eq!(ram.read(0, 4 * PAGE), before);
    assert_eq!(second.store(IOVA, PAGE), None);
    assert_eq!(other.read(0, PAGE), [0; BUFFER_LEN]);
    assert_eq!(first.store(IOVA + PAGE, PAGE), None);
    assert_eq!(ram.read(PAGE, PAGE), pattern(1, PAGE));
    assert_eq!(fake.faults(), 0);
}

#[test]
fn a_device_that_hangs_is_reset_if_it_can_be() {
    let (fake, parent) = parent(SHORT);
    let seat = seat(&parent, &[]);
    let (mut guest, ram) = guest(&seat, 1);
    assert_eq!(guest.load(IOVA, PAGE), None);
    fake.state().can_reset = true;
    fake.state().is_stuck = true;
    assert_eq!(guest.load(IOVA + PAGE, PAGE), Some(Errno::IO));
    // The buffer is as it was before that.
    assert_eq!(guest.store(IOVA + 2 * PAGE, PAGE), None);
    assert_eq!(ram.read(2 * PAGE, PAGE), pattern(1, PAGE));
    assert!(fake.is_bus_master());
    assert_eq!(fake.state().resets, 1);
}

/// As after a process that died in the middle of a transfer.
#[test]
fn a_device_is_let_reach_memory_once_it_is_idle() {
    let (fake, parent) = parent(LIMIT);
    fake.state().is_stuck = true;
    use crate::edu_host::hardware::Hardware;
    fake.store(crate::edu::registers::Register::DmaCommand, 1);
    let seat = seat(&parent, &[]);
    let (mut guest, _ram) = guest(&seat, 1);
    guest.start_load(IOVA, PAGE, 0);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!((fake.begun(), fake.is_bus_master()), (1, false));
    fake.go_on();
    assert_eq!(guest.finish(), None);
    assert_eq!(fake.begun(), 3);
}

#[test]
fn a_reset_and_an_end_wait_for_no_turn() {
    let (fake, parent) = parent(LIMIT);
    let (first, second) = (seat(&parent, &[]), seat(&parent, &[]));
    let (mut guest_of_first, _ram) = guest(&first, 1);
    let (mut other, _memory) = guest(&second, 2);
    fake.state().is_stuck = true;
    guest_of_first.start_load(IOVA, PAGE, 0);
    fake.wait_until_begun(1);
    other.start_load(IOVA, PAGE, 0);
    other.client.reset().unwrap();
    other.start_load(IOVA, PAGE, 0);
    drop((other, second));
    assert_eq!(fake.mapped(), OWN + 1);
    fake.go_on();
    assert_eq!(guest_of_first.finish(), None);
    assert_eq!(fake.begun(), 2);
}
