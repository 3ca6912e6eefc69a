//! What is whose, and who is shown.

use mdev::device::Reset;
use rustix::io::Errno;

use super::*;
use crate::bochs_host::screen::Screen;

#[test]
fn the_card_shows_who_is_brought_to_the_front_in_the_first_picture() {
    for aperture in ["trap", "shadow", "direct"] {
        let rig = Rig::new();
        let mut seats = [0; 2].map(|_| rig.seat(&[("aperture", aperture)]));
        assert_eq!(rig.card.picture(), None);
        for (at, (seat, colour)) in seats.iter_mut().zip([0xaaaa, 0xbbbb]).enumerate() {
            seat.show(2560 * at as u64 + 400, colour);
            assert_eq!(rig.card.picture(), None, "{aperture}");
        }
        let [first, second] = &mut seats;
        for _ in 0..2 {
            first.front("on");
            assert_eq!(rig.card.pixel(), Some(0xaaaa), "{aperture}");
            assert!(first.is_front() && !second.is_front());
            second.front("on");
            assert_eq!(rig.card.pixel(), Some(0xbbbb), "{aperture}");
            assert!(!first.is_front() && second.is_front());
        }
        let expected = Geometry {
            width: 640,
            height: 480,
            stride: 2560,
            offset: SLICE + 2560 + 400,
            format: PixelFormat::Xrgb8888,
        };
        assert_eq!(rig.card.picture(), Some(expected), "{aperture}");
        // Whoever is not shown can give up nothing.
        first.front("off");
        assert_eq!(rig.card.pixel(), Some(0xbbbb), "{aperture}");
        second.front("off");
        assert_eq!(rig.card.picture(), None, "{aperture}");
        assert!(!first.is_front() && !second.is_front());
    }
}

/// Where the card would show what is another's.
#[test]
fn a_picture_that_the_card_cannot_be_told_of_is_not_shown() {
    let len = 64 << 20;
    let card = Arc::new(FakeCard {
        memory: RegionMemory::new("card", len).unwrap(),
        registers: Mutex::new(Mmio::new(len as u32, Vec::new())),
        windows: Mutex::default(),
    });
    let screen = Screen::new(Arc::clone(&card) as Arc<dyn Card>).unwrap();
    let picture = |stride, offset| Geometry {
        width: 64,
        height: 64,
        stride,
        offset,
        format: PixelFormat::Xrgb8888,
    };
    for (stride, offset, shown) in [
        (256, 0, true),
        // The last line that the register counts to, and the one behind it.
        (256, 65_535 * 256, true),
        (256, 65_536 * 256, false),
        (1024, 65_536 * 256, true),
        // The last of the card's memory, in whole lines and in all but a part of one.
        (1024, len - 64 * 1024, true),
        (1024, len - 64 * 1024 + 768, false),
    ] {
        let expected = picture(stride, offset);
        screen.take(mdev::host::Seat(1), Some(expected));
        assert_eq!(
            card.picture(),
            shown.then_some(expected),
            "{stride} {offset:#x}"
        );
    }
}

#[test]
fn the_card_follows_the_modes_and_flips_of_who_is_in_front() {
    for aperture in ["trap", "shadow", "direct"] {
        let rig = Rig::new();
        let attributes = [("aperture", aperture), ("foreground", "on")];
        let mut other = rig.seat(&[]);
        let mut seat = rig.seat(&attributes);
        for (at, colour) in [(0, 1), (2560 * 480, 2), (100, 3), (SLICE - 2560 * 480, 4)] {
            seat.show(at, colour);
            other.show(at, 0xeeee);
            wait_until(aperture, || rig.card.pixel() == Some(colour));
            let offset = rig.card.picture().unwrap().offset;
            assert_eq!(offset, SLICE + at, "{aperture}");
        }
        seat.set(0x508, 0);
        assert_eq!(rig.card.picture(), None, "{aperture}");
    }
}

#[test]
fn nobody_reaches_past_a_slice_by_messages_or_with_the_picture() {
    for aperture in ["trap", "shadow", "direct"] {
        let rig = Rig::new();
        let attributes = [("aperture", aperture)];
        let mut seats: Vec<_> = (0..4).map(|_| rig.seat(&attributes)).collect();
        let neighbours = [0, SLICE - 1, 2 * SLICE, 3 * SLICE - 1];
        for at in neighbours {
            rig.card.write(at, &[0x5a]).unwrap();
        }
        let seat = &mut seats[1];
        seat.front("on");
        let whole = seat.device.regions().region(Bar0).size;
        assert_eq!(whole, SLICE);
        for (at, len, is_in) in [
            (0, 8, true),
            (SLICE - 8, 8, true),
            (SLICE - 7, 8, false),
            (SLICE - 1, 2, false),
            (SLICE, 1, false),
            (2 * SLICE, 4, false),
            (u64::MAX - 3, 4, false),
            (u64::MAX - 3, 8, false),
        ] {
            let mut data = vec![0xee; len];
            let written = seat.device.write(Bar0, at, &data);
            assert_eq!(written.is_ok(), is_in, "{aperture} {at:#x}");
            data.fill(0);
            let read = seat.device.read(Bar0, at, &mut data);
            assert_eq!(read.is_ok(), is_in, "{aperture} {at:#x}");
            assert_eq!(data == vec![0xee; len], is_in, "{aperture} {at:#x}");
        }
        // The last line that is in, and the first that is not.
        let last = (SLICE / 2560 - 480) as u16;
        seat.show(0, 1);
        for (y, is_shown) in [(last, true), (last + 1, false), (u16::MAX, false)] {
            seat.set(0x512, y);
            let end = || rig.card.picture().map(|picture| picture.end().unwrap());
            match is_shown {
                true => wait_until(aperture, || end().is_some_and(|end| end > 2 * SLICE - 2560)),
                false => assert_eq!(end(), None, "{aperture}"),
            }
        }
        for at in neighbours {
            assert_eq!(rig.card.byte(at), 0x5a, "{aperture} {at:#x}");
        }
    }
}

#[test]
fn a_client_that_goes_leaves_neither_its_memory_nor_its_picture() {
    for aperture in ["trap", "shadow", "direct"] {
        let rig = Rig::new();
        let mut seat = rig.seat(&[("aperture", aperture), ("foreground", "on")]);
        seat.show(0, 0xaaaa);
        wait_until(aperture, || rig.card.pixel() == Some(0xaaaa));
        seat.device.reset(Reset::Close);
        assert_eq!(rig.card.picture(), None, "{aperture}");
        assert!(!seat.is_front(), "{aperture}");
        assert_eq!(rig.card.byte(0), 0, "{aperture}");
        // The last picture stays for those who look.
        assert_eq!(seat.seen(), Some(0xaaaa), "{aperture}");
        let mut data = [0xff; 4];
        seat.device.read(Bar0, 0, &mut data).unwrap();
        assert_eq!(data, [0; 4], "{aperture}");
        seat.front("on");
        seat.show(0, 0xbbbb);
        wait_until(aperture, || rig.card.pixel() == Some(0xbbbb));
        assert_eq!(seat.seen(), Some(0xbbbb), "{aperture}");
    }
}

#[test]
fn a_reset_blanks_and_leaves_memory_and_foreground() {
    for aperture in ["trap", "shadow", "direct"] {
        let rig = Rig::new();
        let mut seat = rig.seat(&[("aperture", aperture), ("foreground", "on")]);
        seat.show(0, 0xaaaa);
        wait_until(aperture, || rig.card.pixel() == Some(0xaaaa));
        seat.device.reset(Reset::Device);
        assert_eq!((rig.card.picture(), seat.seen()), (None, None));
        let mut data = [0; 4];
        seat.device.read(Bar0, 0, &mut data).unwrap();
        assert_eq!(u32::from_le_bytes(data), 0xaaaa, "{aperture}");
        assert!(seat.is_front(), "{aperture}");
    }
}

#[test]
fn a_card_is_divided_until_nothing_is_left_and_what_comes_back_is_cleared() {
    let rig = Rig::new();
    let small = rig.seat(&[]);
    let large = rig.try_seat("bochs-slice-8m", &[]).unwrap();
    let mut last = rig.seat(&[("aperture", "trap")]);
    last.draw(SLICE - 1, &[7]);
    // The first and the second quarter, the upper half.
    assert_eq!(rig.card.byte(2 * SLICE - 1), 7);
    for name in [TYPE, "bochs-slice-16m"] {
        let error = rig.try_seat(name, &[]).err().unwrap();
        assert_eq!(
            error.to_string(),
            "cannot have part of the card's video memory"
        );
        let BuildError::Os { source, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(source.to_string(), "no slice of this size is free");
        assert_eq!(HostError::errno_in(&source), Errno::NOSPC);
    }
    drop(last);
    assert_eq!(rig.card.byte(2 * SLICE - 1), 0);
    drop((small, large));
    rig.card.write(9, &[9]).unwrap();
    let mut whole = rig
        .try_seat("bochs-slice-16m", &[("aperture", "trap")])
        .unwrap();
    let mut byte = [0xff];
    whole.device.read(Bar0, 9, &mut byte).unwrap();
    assert_eq!(byte, [0]);
}

#[test]
fn a_card_that_nobody_uses_shows_nothing() {
    let rig = Rig::new();
    let mut seat = rig.seat(&[("aperture", "trap"), ("foreground", "on")]);
    seat.show(0, 1);
    assert_eq!(rig.card.pixel(), Some(1));
    drop(seat);
    assert_eq!(rig.card.picture(), None);
}
