//! Several heads: what each shows, what the driver is told of them, and what was drawn.

use mdev::device::ResizeError;
use mdev::scanout::Rect;

use super::*;

/// What the driver is told of the heads: place, size and whether they are on.
fn heads(guest: &mut Guest) -> Vec<[u32; 5]> {
    let info = guest.ask(0, &command(DISPLAY_INFO, &[]), 408);
    let words: Vec<_> = info[24..]
        .chunks(4)
        .map(|it| u32::from_le_bytes(it.try_into().unwrap()))
        .collect();
    let heads = words.chunks(6);
    heads.map(|head| head[..5].try_into().unwrap()).collect()
}

/// The mode that the EDID of a head prefers, and its serial number.
fn edid(guest: &mut Guest, head: u32) -> (u16, u16, u8) {
    let edid = &guest.ask(0, &command(EDID, &[head, 0]), 1056)[32..160];
    let timing = &edid[54..72];
    let number =
        |low: usize, high: usize| u16::from(timing[low]) | u16::from(timing[high] >> 4) << 8;
    (number(2, 4), number(5, 7), edid[12])
}

/// A resource with a picture of one word, backed at the start of free memory.
fn resource(guest: &mut Guest, id: u32, (width, height): (u32, u32), word: u32) {
    let bytes = width * height * 4;
    guest.put(FREE, &word.to_le_bytes().repeat((bytes / 4) as usize));
    let whole = [0, 0, width, height, 0, 0, id, 0];
    for (number, words) in [
        (CREATE, &[id, 1, width, height][..]),
        (ATTACH, &[id, 1, FREE as u32, 0, bytes, 0]),
        (TRANSFER, &whole),
    ] {
        assert_eq!(ask(guest, number, words), OK, "{number:#x}");
    }
}

fn picture(word: u32, (width, height): (u32, u32)) -> Option<Vec<u8>> {
    Some(word.to_le_bytes().repeat((width * height) as usize))
}

#[test]
fn each_head_shows_what_it_is_told_to_and_its_resource_hides_it_on_all() {
    let instance = Instance::with(&[("heads", "4")]);
    let mut guest = instance.guest(0);
    let (small, wide) = ((16, 8), (32, 4));
    resource(&mut guest, 1, small, 0x1111);
    resource(&mut guest, 2, wide, 0x2222);
    for (head, id, (width, height)) in [(0, 1, small), (3, 2, wide), (1, 2, (8, 2))] {
        let words = [0, 0, width, height, head, id];
        assert_eq!(ask(&mut guest, SCANOUT, &words), OK, "{head}");
    }
    let shown = |head| instance.shown_on(head);
    assert_eq!(shown(0), picture(0x1111, small));
    assert_eq!(shown(1), picture(0x2222, (8, 2)));
    assert_eq!(shown(2), None);
    assert_eq!(shown(3), picture(0x2222, wide));
    assert_eq!(ask(&mut guest, SCANOUT, &[0, 0, 0, 0, 3, 0]), OK);
    assert_eq!((shown(3), shown(0)), (None, picture(0x1111, small)));
    assert_eq!(ask(&mut guest, SCANOUT, &[0, 0, 32, 4, 2, 2]), OK);
    assert_eq!(ask(&mut guest, UNREF, &[2, 0]), OK);
    for head in 1..4 {
        assert_eq!(shown(head), None, "{head}");
    }
    assert_eq!(shown(0), picture(0x1111, small));
    guest.set_up(0);
    assert_eq!(shown(0), None);
}

#[test]
fn heads_are_plugged_in_and_out_of_a_running_guest() {
    let instance = Instance::with(&[("mode", "800x600,640x480")]);
    let mut guest = instance.guest(0);
    guest.write(0x10, &[2, 0]);
    let off = [0; 5];
    assert_eq!(heads(&mut guest)[..2], [[0, 0, 800, 600, 1], off]);
    for (value, second, is_told) in [
        ("2", [800, 0, 640, 480, 1], true),
        ("2", [800, 0, 640, 480, 1], false),
        ("1", off, true),
        ("4", [800, 0, 640, 480, 1], true),
    ] {
        instance.set("heads", value).unwrap();
        assert_eq!(guest.fired(2), u64::from(is_told), "{value}");
        assert_eq!(guest.config(0), u32::from(is_told), "{value}");
        guest.write(0x2004, &[1, 0, 0, 0]);
        assert_eq!(heads(&mut guest)[1], second, "{value}");
    }
    assert_eq!(heads(&mut guest)[3..5], [[2080, 0, 640, 480, 1], off]);
    for (head, told) in [(0, (800, 600, 0)), (1, (640, 480, 1)), (3, (640, 480, 3))] {
        assert_eq!(edid(&mut guest, head), told);
    }
    for value in ["0", "5", ""] {
        instance.set("heads", value).unwrap_err();
    }
    let fixed = instance.set("blob", "off").unwrap_err();
    assert!(matches!(fixed, AttributeError::Fixed(_)), "{fixed}");
    assert_eq!((guest.fired(2), guest.config(0)), (0, 0));
}

#[test]
fn whoever_looks_may_wish_for_a_size_until_the_guest_is_another() {
    let instance = Instance::with(&[("heads", "2"), ("mode", "800x600")]);
    let mut guest = instance.guest(0);
    guest.write(0x10, &[2, 0]);
    let wish = |head, width, height| {
        let wish = move |device: &mut dyn mdev::MediatedDevice| device.resize(head, width, height);
        instance.mail.call(wish).unwrap()
    };
    wish(1, 1001, 701).unwrap();
    assert_eq!((guest.fired(2), guest.config(0)), (1, 1));
    assert_eq!(heads(&mut guest)[1], [800, 0, 1001, 701, 1]);
    assert_eq!(edid(&mut guest, 1), (1001, 701, 1));
    assert_eq!(wish(2, 640, 480), Err(ResizeError::NoHead(2)));
    wish(0, 4000, 4000).unwrap_err();
    assert_eq!(guest.fired(2), 0);
    // The driver may be another: the wish is about the monitor.
    guest.set_up(0);
    assert_eq!(heads(&mut guest)[1][2..4], [1001, 701]);
    drop(guest);
    let mut guest = instance.guest(0);
    assert_eq!(heads(&mut guest)[1][2..4], [800, 600]);
}

#[test]
fn what_is_flushed_is_told_in_the_pixels_of_each_head_that_shows_it() {
    let instance = Instance::with(&[("heads", "3")]);
    let mut guest = instance.guest(0);
    resource(&mut guest, 1, (64, 32), 7);
    let publishers: Vec<_> = (0..3)
        .map(|head| instance.scanout.head(head).unwrap())
        .collect();
    let watches: Vec<_> = publishers.iter().map(|it| it.watch().unwrap()).collect();
    let drawn = |head: usize| publishers[head].take_drawn(&watches[head]).unwrap();
    // The whole of it, and its right half.
    assert_eq!(ask(&mut guest, SCANOUT, &[0, 0, 64, 32, 0, 1]), OK);
    assert_eq!(ask(&mut guest, SCANOUT, &[32, 8, 32, 16, 1, 1]), OK);
    assert_eq!(drawn(0), Rect::whole(64, 32));
    assert_eq!(drawn(1), Rect::whole(32, 16));
    let rect = |x, y, width, height| Rect {
        x,
        y,
        width,
        height,
    };
    for (flushed, first, second) in [
        (rect(30, 4, 8, 8), rect(30, 4, 8, 8), rect(0, 0, 6, 4)),
        (rect(0, 0, 4, 4), rect(0, 0, 4, 4), Rect::default()),
        (rect(60, 20, 4, 12), rect(60, 20, 4, 12), rect(28, 12, 4, 4)),
    ] {
        let Rect {
            x,
            y,
            width,
            height,
        } = flushed;
        assert_eq!(ask(&mut guest, FLUSH, &[x, y, width, height, 1, 0]), OK);
        assert_eq!(drawn(0), first, "{flushed:?}");
        assert_eq!(drawn(1), second, "{flushed:?}");
        assert_eq!(drawn(2), Rect::default());
    }
}
