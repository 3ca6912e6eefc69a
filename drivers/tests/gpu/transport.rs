//! Registers, interrupts and changes of mode, as virtio's own.

use std::time::Duration;

use virtio::guest::End;

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
fn a_driver_that_was_asked_for_no_notification_is_served_after_bus_mastering_was_off() {
    // As good as for ever: it is always being looked at.
    let instance = Instance::looking(Duration::from_secs(600));
    let mut guest = instance.guest(0);
    for _ in 0..5 {
        assert_eq!(ask(&mut guest, CREATE, &[0; 4]), NO_RESOURCE);
        for command in [[2, 0], [6, 0]] {
            guest.client.region_write(7, 4, &command).unwrap();
            // Meanwhile the thread of the queues looks.
            for _ in 0..200 {
                guest.status();
            }
        }
        guest.offer(0, 0, 1);
        if guest.used_flags(0) == 0 {
            guest.write(0x3000, &[0, 0]);
        }
        assert_eq!(guest.wait(0), End::Used(24));
    }
}

#[test]
fn a_change_of_mode_is_told_of_until_the_driver_has_heard() {
    let instance = Instance::new();
    let mut guest = instance.guest(0);
    let set = |mode| instance.set("mode", mode);
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

/// The window in configuration space, which is the last capability.
struct Window(u64);

impl Window {
    fn find(guest: &mut Guest) -> Self {
        let mut at = [0x34];
        let mut found = None;
        while at != [0] {
            let begin = u64::from(at[0]);
            let mut head = [0; 4];
            guest.client.region_read(7, begin, &mut head).unwrap();
            let [id, next, len, kind] = head;
            if begin != 0x34 && (id, len, kind) == (9, 20, 5) {
                found = Some(begin);
            }
            at = match begin {
                0x34 => [id],
                _ => [next],
            };
        }
        Self(found.unwrap())
    }

    fn open(&self, guest: &mut Guest, bar: u8, offset: u32, len: u32) {
        guest.client.region_write(7, self.0 + 4, &[bar]).unwrap();
        let place = [offset.to_le_bytes(), len.to_le_bytes()].concat();
        guest.client.region_write(7, self.0 + 8, &place).unwrap();
    }

    fn read<const N: usize>(&self, guest: &mut Guest) -> [u8; N] {
        let mut data = [0; N];
        guest.client.region_read(7, self.0 + 16, &mut data).unwrap();
        data
    }

    fn write(&self, guest: &mut Guest, data: &[u8]) {
        guest.client.region_write(7, self.0 + 16, data).unwrap();
    }
}

#[test]
fn registers_are_reached_through_the_window_in_configuration_space() {
    let instance = Instance::new();
    let mut guest = instance.guest(0);
    let window = Window::find(&mut guest);
    // The status is that of the driver that is up.
    window.open(&mut guest, 0, 0x14, 1);
    assert_eq!(window.read(&mut guest), [15]);
    // A register of two bytes, written and read by its other way.
    window.open(&mut guest, 0, 0x16, 2);
    window.write(&mut guest, &[1, 0]);
    assert_eq!(guest.read(0x16), [1, 0]);
    window.open(&mut guest, 0, 0x18, 2);
    assert_eq!(window.read(&mut guest), [16, 0], "the cursor's queue");
    // The device's own configuration, and what is after the bytes that were asked for.
    window.open(&mut guest, 0, 0x2008, 4);
    let heads = guest.config(8);
    assert_ne!(heads, 0);
    assert_eq!(window.read(&mut guest), heads.to_le_bytes());
    // A notification: the chain is there, and nobody else has told of it.
    guest.put(FREE, &command(FLUSH, &[0; 6]));
    let request = [(FREE, 48, NEXT, 1), (FREE + 0x100, 24, WRITE, 0)];
    guest.describe(0, &request);
    guest.offer(0, 0, 1);
    window.open(&mut guest, 0, 0x3000, 2);
    window.write(&mut guest, &[0, 0]);
    assert_eq!(guest.wait(0), End::Used(24));
    // The device is reset.
    window.open(&mut guest, 0, 0x14, 1);
    window.write(&mut guest, &[0]);
    assert_eq!(guest.status(), 0);
}

#[test]
fn a_window_to_nothing_reads_as_ones_and_drops_what_is_written() {
    let instance = Instance::new();
    let mut guest = instance.guest(0);
    let window = Window::find(&mut guest);
    for (bar, offset, len) in [
        (0, 0, 0),
        (0, 0, 3),
        (0, 0, 8),
        (0, 0x14, 4),
        (0, 0x4000, 4),
        (0, 0x3fff, 2),
        (0, u32::MAX, 4),
        (0, u32::MAX, u32::MAX),
        (1, 0, 4),
        (6, 0, 4),
        (7, 0, 4),
        (255, 0, 4),
    ] {
        window.open(&mut guest, bar, offset, len);
        window.write(&mut guest, &[0; 4]);
        assert_eq!(
            window.read(&mut guest),
            [0xff; 4],
            "{bar} {offset:#x} {len}"
        );
        assert_eq!(guest.status(), 15, "{bar} {offset:#x} {len}");
    }
    // The client's table of vectors is not here.
    window.open(&mut guest, 2, 0, 4);
    assert_eq!(window.read(&mut guest), [0; 4]);
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
