//! The three ways to a slice.

use mdev::device::Reset;

use super::*;

#[test]
fn what_is_drawn_in_a_shadow_reaches_the_card_while_it_is_shown_and_not_else() {
    let rig = Rig::new();
    let mut hidden = rig.seat(&[]);
    let mut seat = rig.seat(&[("foreground", "on")]);
    hidden.show(0, 1);
    seat.show(0, 1);
    wait_until("the picture", || rig.card.pixel() == Some(1));
    let end = 2560 * 480 - 4;
    for (at, colour) in [(0, 2), (end, 3_u32), (100_000, 4), (end, 5)] {
        hidden.draw(at, &colour.to_le_bytes());
        seat.draw(at, &colour.to_le_bytes());
        wait_until("a tile", || rig.card.byte(SLICE + at) == colour as u8);
    }
    assert_eq!(
        (0..SLICE).step_by(4).find(|at| rig.card.byte(*at) != 0),
        None
    );
    // In its console it is seen all the same.
    assert_eq!(hidden.seen(), Some(2));
    // What is drawn while another is shown comes with the first picture.
    hidden.front("on");
    seat.draw(0, &9_u32.to_le_bytes());
    seat.front("on");
    assert_eq!(rig.card.pixel(), Some(9));
}

#[test]
fn what_is_drawn_on_the_card_is_found_by_whoever_looks() {
    for aperture in ["trap", "direct"] {
        let rig = Rig::new();
        let mut seat = rig.seat(&[("aperture", aperture)]);
        seat.show(2560 * 7, 1);
        assert_eq!(seat.seen(), Some(1), "{aperture}");
        seat.draw(2560 * 7, &2_u32.to_le_bytes());
        assert_eq!(seat.seen(), Some(2), "{aperture}");

        // Who watches has the file already, and asks no more.
        let file = seat.scanout.current().unwrap().memory;
        let watch = seat.scanout.watch().unwrap();
        let in_file = || {
            let mut pixel = [0; 4];
            rustix::io::pread(&file, &mut pixel, 2560 * 7).unwrap();
            u32::from_le_bytes(pixel)
        };
        for colour in 3..6_u32 {
            seat.draw(2560 * 7, &colour.to_le_bytes());
            wait_until(aperture, || in_file() == colour);
        }
        drop(watch);
    }
}

#[test]
fn a_window_ends_with_the_slice() {
    let rig = Rig::new();
    let _first = rig.seat(&[]);
    let seat = rig.seat(&[("aperture", "direct")]);
    let region = seat.device.regions().region(Bar0);
    assert_eq!((region.access.file_offset(), region.size), (SLICE, SLICE));
}

#[test]
fn a_slice_that_an_old_client_may_reach_is_nobody_elses() {
    let rig = Rig::new();
    let direct = [("aperture", "direct")];
    let mut seat = rig.seat(&direct);
    // What a client has that was given the file, for as long as it lives.
    let had = |seat: &Seat| seat.device.regions().region(Bar0).access.clone();
    let first = had(&seat);
    seat.device.reset(Reset::Close);
    let second = had(&seat);
    assert_eq!((first.file_offset(), second.file_offset()), (0, SLICE));
    drop(seat);
    // Two slices are held, and two are free.
    let third = rig.seat(&[]);
    let mut last = rig.seat(&direct);
    assert_eq!(had(&last).file_offset(), 3 * SLICE);
    assert!(rig.try_seat(TYPE, &[]).is_err());
    // With none left the next client gets nothing, and never the memory of the last.
    let lasting = had(&last);
    last.device.reset(Reset::Close);
    assert!(matches!(had(&last), Access::Trapped));
    assert!(last.device.read(Bar0, 0, &mut [0]).is_err());
    // Once a client is gone, its slice is to be had.
    drop(second);
    last.device.reset(Reset::Close);
    assert_eq!(had(&last).file_offset(), SLICE);
    drop((lasting, first));
    let again = rig.seat(&direct);
    assert_eq!(had(&again).file_offset(), 0);
    drop(third);
}

#[test]
fn a_client_that_has_closed_gets_the_same_slice_again() {
    let rig = Rig::new();
    let mut seat = rig.seat(&[("aperture", "direct")]);
    for _ in 0..8 {
        seat.device.reset(Reset::Close);
        assert_eq!(seat.device.regions().region(Bar0).access.file_offset(), 0);
    }
}

#[test]
fn direct_is_for_cards_whose_owner_allows_it() {
    let card = Arc::new(FakeCard::default());
    let parent = BochsParent::new(Arc::clone(&card) as Arc<dyn Card>, false).unwrap();
    let rig = Rig { card, parent };
    let error = rig.try_seat(TYPE, &[("aperture", "direct")]).err().unwrap();
    let words = "attribute 'aperture' cannot be 'direct': it gives the client the whole card, which \
                 its parent does not allow (direct = true)";
    assert_eq!(error.to_string(), words);
    let seat = rig.seat(&[]);
    assert_eq!(seat.attribute("aperture"), "shadow");
}

#[test]
fn what_an_attribute_cannot_be_is_an_error_that_says_why() {
    let rig = Rig::new();
    let mut seat = rig.seat(&[("mode", "640x480"), ("aperture", "trap")]);
    for (name, value, words) in [
        ("color", "red", "there is no attribute 'color'"),
        (
            "aperture",
            "shadow",
            "attribute 'aperture' can only be given when the device is created",
        ),
        (
            "aperture",
            "open",
            "attribute 'aperture' cannot be 'open': it is trap, shadow or direct",
        ),
        (
            "foreground",
            "1",
            "attribute 'foreground' cannot be '1': it is on or off",
        ),
    ] {
        let error = seat.device.set_attribute(name, value).unwrap_err();
        assert_eq!(error.to_string(), words);
    }
    assert!(seat.device.set_attribute("mode", "1024x768").is_err());
    seat.device.set_attribute("mode", "800x600").unwrap();
    assert_eq!(seat.attribute("mode"), "800x600");
}
