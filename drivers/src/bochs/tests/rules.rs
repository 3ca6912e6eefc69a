//! What the device promises, one rule a test.

use std::sync::Arc;

use mdev::device::Reset;

use super::*;

#[test]
fn the_device_is_the_one_that_stock_drivers_look_for() {
    for (name, size) in [
        ("bochs-4m", 4 << 20),
        ("bochs-16m", 16 << 20),
        ("bochs-64m", 64 << 20),
    ] {
        let mut display = Display::new(name);
        let mut header = [0; 64];
        display.device.config().read(0, &mut header);
        assert_eq!(header[..4], [0x34, 0x12, 0x11, 0x11]);
        assert_eq!(header[8..12], [2, 0, 0x80, 3]);
        assert_eq!(header[0x2c..0x30], [0xf4, 0x1a, 0x00, 0x11]);
        let sizes = RegionIndex::ALL.map(|index| display.device.regions().region(index).size);
        assert_eq!(sizes, [size, 0, 4096, 0, 0, 0, 0, 256, 0]);
        assert_eq!(
            rustix::fs::fstat(display.mapped()).unwrap().st_size as u64,
            size
        );
        let irqs = display.device.config().irqs();
        assert_eq!((irqs.intx, irqs.msi, irqs.msix), (0, 0, 0));
    }
}

#[test]
fn the_sequence_of_bochs_drm_shows_its_mode() {
    let mut display = Display::new("bochs-16m");
    display.probe();
    assert_eq!(display.picture(), Some(XGA));
    let shown = display.scanout.current().unwrap().memory;
    assert!(Arc::ptr_eq(&shown, &display.mapped()));
}

#[test]
fn a_flip_moves_the_picture_and_the_same_place_is_not_published_again() {
    let mut display = Display::new("bochs-16m");
    display.probe();
    let before = display.sequence();
    display.flip(0);
    assert_eq!(display.sequence(), before);
    display.flip(768);
    let offset = 768 * 4096;
    assert_eq!(display.picture(), Some(Geometry { offset, ..XGA }));
    assert_eq!(display.sequence(), before + 1);
    display.write16(X_OFFSET, 3);
    let offset = offset + 12;
    assert_eq!(display.picture(), Some(Geometry { offset, ..XGA }));
}

#[test]
fn leaving_the_mode_or_the_memory_blanks_and_coming_back_shows() {
    for (register, bad, good) in [
        (ENABLE, 0, 0x41),
        (BPP, 24, 32),
        (XRES, 63, 1024),
        (YRES, 16_000, 768),
        (Y_OFFSET, 4096 - 767, 0),
        (VIRT_WIDTH, 65_535, 1024),
    ] {
        let mut display = Display::new("bochs-16m");
        display.probe();
        display.write16(register, bad);
        assert_eq!(display.picture(), None, "{register:#x} = {bad}");
        display.write16(register, good);
        assert_eq!(display.picture(), Some(XGA), "{register:#x} = {good}");
    }
}

#[test]
fn the_guest_can_blank_and_choose_the_byte_order() {
    let mut display = Display::new("bochs-16m");
    display.probe();
    display.read::<1>(Bar2, INPUT_STATUS);
    display.write(&[0], ATTRIBUTE);
    assert_eq!(display.picture(), None);
    display.read::<1>(Bar2, INPUT_STATUS);
    display.write(&[0x20], ATTRIBUTE);
    assert_eq!(display.picture(), Some(XGA));
    display.write(&[0xbe; 4], ENDIANNESS);
    let format = PixelFormat::Bgrx8888;
    assert_eq!(display.picture(), Some(Geometry { format, ..XGA }));
}

#[test]
fn registers_read_the_same_in_any_size() {
    let mut display = Display::new("bochs-16m");
    display.probe();
    let whole: [u8; 16] = display.read(Bar2, DISPI);
    for at in 0..16 {
        let byte: [u8; 1] = display.read(Bar2, DISPI + at);
        assert_eq!(byte[0], whole[at as usize], "{at}");
    }
    assert_eq!(display.read::<8>(Bar2, DISPI + 3), whole[3..11]);
    assert_eq!(display.read::<4>(Bar2, EXTENDED_SIZE), [8, 0, 0, 0]);
    assert_eq!(display.read::<4>(Bar2, ENDIANNESS), [0x1e; 4]);
    for unused in [0x080, 0x3f8, 0x420, 0x4f8, 0x516, 0x608, 0xff8] {
        display.write(&[0xff; 8], unused);
        assert_eq!(display.read::<8>(Bar2, unused), [0; 8], "{unused:#x}");
    }
}

#[test]
fn two_registers_can_be_written_at_once() {
    let mut display = Display::new("bochs-16m");
    display.write(&[0x00, 0x04, 0x00, 0x03], XRES);
    display.write(&[32, 0, 0x41, 0], BPP);
    assert_eq!(display.picture(), Some(XGA));
}

#[test]
fn messages_and_the_mapping_reach_the_same_bytes() {
    let mut display = Display::new("bochs-4m");
    let file = display.mapped();
    let end = (4 << 20) - 4;
    for offset in [0, 4093, end] {
        display.device.write(Bar0, offset, b"four").unwrap();
        assert_eq!(pixel(&file, offset), *b"four", "{offset:#x}");
        rustix::io::pwrite(&file, b"here", offset).unwrap();
        assert_eq!(display.read(Bar0, offset), *b"here", "{offset:#x}");
    }
}

#[test]
fn a_reset_keeps_the_memory_and_blanks() {
    for cause in [Reset::Device, Reset::Function] {
        let mut display = Display::new("bochs-16m");
        display.probe();
        let file = display.mapped();
        display.device.write(Bar0, 0, b"kept").unwrap();
        display.device.reset(cause);
        assert_eq!(display.picture(), None);
        assert_eq!(display.read(Bar2, XRES), [0; 2]);
        assert!(Arc::ptr_eq(&file, &display.mapped()));
        assert_eq!(display.read(Bar0, 0), *b"kept");
        display.probe();
        assert_eq!(display.picture(), Some(XGA));
    }
}

#[test]
fn the_next_client_gets_fresh_memory_and_the_last_picture_stays() {
    let mut display = Display::new("bochs-16m");
    display.probe();
    display.device.write(Bar0, 0, b"mine").unwrap();
    let old = display.mapped();
    display.device.reset(Reset::Close);

    let kept = display.scanout.current().unwrap();
    assert_eq!(kept.geometry, XGA);
    assert_eq!(pixel(&kept.memory, 0), *b"mine");

    assert!(!Arc::ptr_eq(&old, &display.mapped()));
    assert_eq!(display.read(Bar0, 0), [0; 4]);
    rustix::io::pwrite(&old, b"late", 0).unwrap();
    assert_eq!(display.read(Bar0, 0), [0; 4]);

    display.device.reset(Reset::Device);
    display.probe();
    let shown = display.scanout.current().unwrap();
    assert!(Arc::ptr_eq(&shown.memory, &display.mapped()));
}

#[test]
fn a_new_mode_is_in_the_next_edid_and_outlives_reset() {
    let mut display = Display::new("bochs-16m");
    let width = |display: &mut Display| {
        let timing: [u8; 18] = display.read(Bar2, 54);
        u16::from(timing[2]) | u16::from(timing[4] >> 4) << 8
    };
    assert_eq!(width(&mut display), 1920);
    display.device.set_attribute("mode", "1280x720").unwrap();
    display.device.reset(Reset::Close);
    assert_eq!(width(&mut display), 1280);
    for (name, value) in [("mode", "1920x1200"), ("mode", ""), ("xres", "800")] {
        assert!(display.device.set_attribute(name, value).is_err());
        let now = display.device.attributes();
        assert_eq!(now, [("mode", "1280x720".to_owned())], "{name}={value}");
    }
    assert_eq!(width(&mut display), 1280);
}
