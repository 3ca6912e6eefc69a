//! Saved and restored: the same picture, the same monitor.

use mdev::migration::snapshot::{self, SnapshotError};
use mdev::state::Fields;

use super::*;

/// Bytes of the EDID.
const EDID: usize = 256;

fn save(display: &mut Display) -> Vec<u8> {
    let mut bytes = Vec::new();
    snapshot::save(&mut *display.device, &mut bytes).unwrap();
    bytes
}

fn restore(display: &mut Display, bytes: &[u8]) -> Result<(), SnapshotError> {
    let restored = snapshot::restore(&mut *display.device, &mut &bytes[..]);
    display.device.migration().unwrap().resume();
    restored
}

#[test]
fn a_restored_display_shows_the_same_picture() {
    let mut source = Display::new("bochs-16m");
    source.probe();
    source.flip(768);
    source.write(&[0xbe; 4], ENDIANNESS);
    source.device.write(Bar0, 0x30_0004, &[1, 2, 3, 4]).unwrap();
    let picture = source.picture();
    assert!(picture.is_some_and(|it| it.format == PixelFormat::Bgrx8888));
    let state = save(&mut source);
    for shows_another in [false, true] {
        let mut target = Display::new("bochs-16m");
        if shows_another {
            target.probe();
            target.device.write(Bar0, 0, &[9; 64]).unwrap();
        }
        restore(&mut target, &state).unwrap();
        assert_eq!(target.picture(), picture);
        let shown = target.scanout.current().unwrap().memory;
        assert!(Arc::ptr_eq(&shown, &target.mapped()));
        assert_eq!(pixel(&shown, 0x30_0004), [1, 2, 3, 4]);
        assert_eq!(pixel(&shown, 0), [0; 4], "what it showed before is gone");
        assert!(save(&mut target) == state);
        // And goes on from there.
        target.flip(0);
        assert_eq!(target.picture().unwrap().offset, 0);
    }
}

#[test]
fn a_blank_display_is_restored_blank() {
    let mut source = Display::new("bochs-4m");
    let state = save(&mut source);
    let mut target = Display::new("bochs-4m");
    for (register, value) in [(BPP, 32), (XRES, 640), (YRES, 480), (ENABLE, 0x41)] {
        target.write16(register, value);
    }
    assert!(target.picture().is_some());
    restore(&mut target, &state).unwrap();
    assert_eq!(target.picture(), None);
}

#[test]
fn the_monitor_is_the_one_that_the_guest_has_seen() {
    let mut source = Display::new("bochs-16m");
    for mode in ["1920x1080", "1280x720", "64x64"] {
        source.device.set_attribute("mode", mode).unwrap();
        let state = save(&mut source);
        let mut target = Display::new("bochs-16m");
        target.device.set_attribute("mode", "800x600").unwrap();
        assert_ne!(target.read::<EDID>(Bar2, 0), source.read::<EDID>(Bar2, 0));
        restore(&mut target, &state).unwrap();
        assert_eq!(target.read::<EDID>(Bar2, 0), source.read::<EDID>(Bar2, 0));
        assert_eq!(target.device.attributes(), [("mode", mode.to_owned())]);
    }
}

#[test]
fn a_mode_that_the_type_does_not_offer_is_refused_and_changes_nothing() {
    for (width, height, is_taken) in [
        (800, 600, true),
        (64, 64, true),
        (1024, 512, true),
        (1024, 513, false),
        (1024, 768, false),
        (0, 0, false),
        (63, 64, false),
        (64, 63, false),
        (4096, 64, false),
        (u16::MAX, u16::MAX, false),
    ] {
        let mut display = Display::new("bochs-4m");
        let before = save(&mut display);
        let migration = display.device.migration().unwrap();
        migration.stop();
        let mut registers = Vec::new();
        migration.save(&mut registers);
        registers[..2].copy_from_slice(&u16::to_le_bytes(width));
        registers[2..4].copy_from_slice(&u16::to_le_bytes(height));
        let restored = migration.restore(1, Fields::of_registers(&registers));
        migration.resume();
        assert_eq!(restored.is_ok(), is_taken, "{width}x{height}");
        let is_default = (width, height) == (800, 600);
        let is_same = save(&mut display) == before;
        assert_eq!(is_same, !is_taken || is_default, "{width}x{height}");
    }
}

#[test]
fn a_state_of_another_type_is_refused_and_the_picture_stays() {
    let mut small = Display::new("bochs-4m");
    let mut display = Display::new("bochs-16m");
    display.probe();
    let before = save(&mut display);
    let state = save(&mut small);
    for bad in [&state[..], &before[..before.len() - 1], &[]] {
        assert!(restore(&mut display, bad).is_err());
        assert_eq!(display.picture(), Some(XGA));
        assert!(save(&mut display) == before);
    }
}
