//! Registers, interrupts and changes of mode, as virtio's own.

use super::*;

/// Waits until the device has told of what it did last: it tells of it after it has done it.
fn settle(guest: &mut Guest) {
    // The thread of the queues does one thing after the other.
    ask_on(guest, 1, MOVE_CURSOR, &[0; 8]);
}

#[test]
fn the_driver_is_interrupted_when_it_wants_to_be() {
    let instance = Instance::new();
    let mut guest = instance.guest(0);
    for (wanted, fired) in [(true, 1), (false, 0), (true, 1)] {
        guest.want_interrupts(0, wanted);
        assert_eq!(ask(&mut guest, CREATE, &[0; 4]), NO_RESOURCE);
        settle(&mut guest);
        assert_eq!(guest.fired(0), fired, "{wanted}");
    }
    guest.set_up(feature::EVENT_IDX);
    for (position, at, fired) in [(0, 0, 1), (1, 7, 0), (2, 7, 0), (3, 3, 1), (4, 3, 0)] {
        guest.want_interrupt_at(0, at);
        assert_eq!(ask(&mut guest, CREATE, &[0; 4]), NO_RESOURCE);
        settle(&mut guest);
        assert_eq!(guest.fired(0), fired, "{position} {at}");
    }
}

#[test]
fn a_change_of_mode_is_told_of_until_the_driver_has_heard() {
    let instance = Instance::new();
    let mut guest = instance.guest(0);
    let set = |mode: &'static str| {
        let set = move |device: &mut dyn mdev::MediatedDevice| device.set_attribute("mode", mode);
        instance.mail.call(set).unwrap()
    };
    guest.write(0x10, &[2, 0]);
    let [generation] = guest.read(0x15);
    set("800x600").unwrap();
    assert_eq!(guest.fired(2), 1);
    assert_ne!(guest.read(0x15), [generation]);
    assert_eq!(guest.config(0), 1);
    let info = guest.ask(0, &command(DISPLAY_INFO, &[]), 408);
    assert_eq!(info[32..40], [0x20, 3, 0, 0, 0x58, 2, 0, 0]);
    guest.write(0x2004, &[1, 0, 0, 0]);
    assert_eq!(guest.config(0), 0);
    // The same once more is no change, and what cannot be changes nothing.
    set("800x600").unwrap();
    set("4000x4000").unwrap_err();
    assert_eq!((guest.fired(2), guest.config(0)), (0, 0));
    // A reset is not one of the operator's words.
    guest.set_up(0);
    let info = guest.ask(0, &command(DISPLAY_INFO, &[]), 408);
    assert_eq!(info[32..40], [0x20, 3, 0, 0, 0x58, 2, 0, 0]);
}

#[test]
fn the_device_is_set_up_as_the_specification_says_or_not_at_all() {
    let instance = Instance::new();
    let mut guest = instance.guest(0);
    // Features that are not offered, and a device without VERSION_1, are not accepted.
    for (low, high) in [(1_u32, 1_u32), (0, 2), (0, 0)] {
        guest.write(0x14, &[0]);
        guest.write(0x14, &[3]);
        for (select, half) in [(0_u32, low), (1, high)] {
            guest.write(8, &select.to_le_bytes());
            guest.write(0xc, &half.to_le_bytes());
        }
        guest.write(0x14, &[11]);
        assert_eq!(guest.status(), 3, "{low:#x} {high:#x}");
    }
    // Only what is sound is enabled.
    guest.write(0x14, &[0]);
    for (register, value, enabled) in [
        (0x20, 8_u64, 0),
        (0x28, 1, 0),
        (0x30, 2, 0),
        (0x20, !15, 0),
        (0x30, !3, 0),
        (0x20, 0x1000, 1),
    ] {
        guest.write(0x14, &[0]);
        guest.write(register, &value.to_le_bytes());
        guest.write(0x1c, &[1, 0]);
        assert_eq!(
            guest.read::<2>(0x1c),
            [enabled, 0],
            "{register:#x} {value:#x}"
        );
    }
    // It stays as it is then; sizes are powers of two, and no vector is made up.
    guest.write(0x20, &[0; 8]);
    assert_eq!(guest.read::<8>(0x20), 0x1000_u64.to_le_bytes());
    guest.write(0x14, &[0]);
    for (size, then) in [(300_u16, 256), (100, 256), (0, 256), (128, 128), (1, 1)] {
        guest.write(0x18, &size.to_le_bytes());
        assert_eq!(guest.read::<2>(0x18), u16::to_le_bytes(then), "{size}");
    }
    for (vector, then) in [(2_u16, 2), (3, 0xffff), (0xffff, 0xffff)] {
        guest.write(0x1a, &vector.to_le_bytes());
        assert_eq!(guest.read::<2>(0x1a), u16::to_le_bytes(then), "{vector}");
    }
    // There is no third queue.
    guest.write(0x16, &[2, 0]);
    assert_eq!(guest.read::<2>(0x18), [0, 0]);
    guest.set_up(0);
    assert_eq!(ask(&mut guest, CREATE, &[1, 1, 8, 8]), OK);
}
