//! The cursor.

use mdev::scanout::CursorImage;

use super::*;

const BYTES: usize = 64 * 64 * 4;

/// A resource of 64×64 with these pixels.
fn resource(guest: &mut Guest, id: u32, format: u32, pixels: &[u8]) {
    guest.put(FREE, pixels);
    let bytes = pixels.len() as u32;
    for (number, words) in [
        (CREATE, &[id, format, 64, 64][..]),
        (ATTACH, &[id, 1, FREE as u32, 0, bytes, 0]),
        (TRANSFER, &[0, 0, 64, 64, 0, 0, id, 0]),
    ] {
        assert_eq!(ask(guest, number, words), OK, "{number:#x}");
    }
}

fn pixels(seed: usize) -> Vec<u8> {
    (0..BYTES).map(|at| (at * 11 + seed) as u8).collect()
}

fn read(image: &CursorImage) -> Vec<u8> {
    let geometry = image.geometry;
    assert_eq!(
        (geometry.width, geometry.height, geometry.stride),
        (64, 64, 256)
    );
    let mut bytes = vec![0; BYTES];
    let read = rustix::io::pread(&image.memory, &mut bytes, geometry.offset);
    assert_eq!(read, Ok(BYTES));
    bytes
}

/// What a command on the cursor's queue is answered.
fn point(guest: &mut Guest, number: u32, at: [u32; 3], look: [u32; 3]) -> u32 {
    let [head, x, y] = at;
    let [id, hot_x, hot_y] = look;
    ask_on(guest, 1, number, &[head, x, y, 0, id, hot_x, hot_y, 0])
}

#[test]
fn a_cursor_is_as_its_resource_was_when_the_driver_said_so() {
    let instance = Instance::with(&[("heads", "2")]);
    let mut guest = instance.guest(0);
    resource(&mut guest, 1, 1, &pixels(1));
    assert_eq!(point(&mut guest, UPDATE_CURSOR, [1, 30, 40], [1, 5, 6]), OK);
    let second = instance.scanout.head(1).unwrap();
    let watch = second.watch().unwrap();
    let (cursor, _) = second.cursor();
    let image = cursor.image.unwrap();
    assert_eq!(
        (cursor.x, cursor.y, image.hot_x, image.hot_y),
        (30, 40, 5, 6)
    );
    assert!(read(&image) == pixels(1));

    // Drawing does not change it, nor does the end of its resource.
    guest.put(FREE, &pixels(2));
    assert_eq!(ask(&mut guest, TRANSFER, &[0, 0, 64, 64, 0, 0, 1, 0]), OK);
    let left_of_it = (-7_i32).cast_unsigned();
    assert_eq!(
        point(&mut guest, MOVE_CURSOR, [1, left_of_it, 9], [0; 3]),
        OK
    );
    assert!(rustix::io::read(watch.eventfd(), &mut [0; 8]).is_ok());
    let (cursor, _) = second.cursor();
    assert_eq!((cursor.x, cursor.y), (-7, 9));
    let same = cursor.image.unwrap();
    assert_eq!(same.sequence, image.sequence);
    assert!(read(&same) == pixels(1));

    assert_eq!(point(&mut guest, UPDATE_CURSOR, [1, 0, 0], [1, 99, 0]), OK);
    let (cursor, _) = second.cursor();
    let next = cursor.image.unwrap();
    assert_eq!((next.hot_x, next.sequence), (63, image.sequence + 1));
    assert!(read(&next) == pixels(2));
    assert!(
        read(&image) == pixels(1),
        "who reads the last one is not disturbed"
    );

    assert!(instance.scanout.cursor().0.image.is_none());
    assert_eq!(ask(&mut guest, UNREF, &[1, 0]), OK);
    assert!(second.cursor().0.image.is_some());
    assert_eq!(point(&mut guest, UPDATE_CURSOR, [1, 3, 4], [0; 3]), OK);
    assert!(second.cursor().0.image.is_none());
}

#[test]
fn what_is_no_cursor_is_refused_and_the_last_one_stays() {
    let instance = Instance::new();
    let mut guest = instance.guest(0);
    resource(&mut guest, 1, 2, &pixels(1));
    assert_eq!(ask(&mut guest, CREATE, &[2, 1, 64, 63]), OK);
    // Blobs: a good one, one too small, one with nothing behind it, one that is not in memory.
    let entry = |at: u32, len: u32| [at, 0, len, 0];
    for (id, count, size, entry) in [
        (3, 1, BYTES as u32, entry(FREE as u32, BYTES as u32)),
        (4, 1, BYTES as u32 - 1, entry(FREE as u32, BYTES as u32)),
        (5, 0, BYTES as u32, [0; 4]),
        (6, 1, BYTES as u32, entry(RAM as u32, BYTES as u32)),
    ] {
        let fields = [id, 1, 0, count, 0, 0, size, 0];
        let words = [&fields[..], &entry].concat();
        assert_eq!(ask(&mut guest, CREATE_BLOB, &words), OK, "{id}");
    }
    assert_eq!(point(&mut guest, UPDATE_CURSOR, [0, 0, 0], [3, 0, 0]), OK);
    let blob = instance.scanout.cursor().0.image.unwrap();
    assert!(read(&blob) == pixels(1), "alpha and all");
    assert_eq!(point(&mut guest, UPDATE_CURSOR, [0, 1, 2], [1, 0, 0]), OK);
    for (at, id, answer) in [
        ([4, 0, 0], 1, NO_SCANOUT),
        ([4, 0, 0], 0, NO_SCANOUT),
        ([0, 0, 0], 9, NO_RESOURCE),
        ([0, 0, 0], 2, BAD_PARAMETER),
        ([0, 0, 0], 4, BAD_PARAMETER),
        ([0, 0, 0], 5, UNSPECIFIED),
        ([0, 0, 0], 6, UNSPECIFIED),
    ] {
        assert_eq!(
            point(&mut guest, UPDATE_CURSOR, at, [id, 0, 0]),
            answer,
            "{id}"
        );
    }
    assert_eq!(
        point(&mut guest, MOVE_CURSOR, [4, 0, 0], [0; 3]),
        NO_SCANOUT
    );
    let (cursor, _) = instance.scanout.cursor();
    assert_eq!((cursor.x, cursor.y), (1, 2));
    let image = cursor.image.unwrap();
    // Its format has no alpha; Linux takes that one, and means it.
    assert!(read(&image) == pixels(1));
    // It is gone with the driver, and so are its pixels.
    guest.set_up(0);
    assert!(instance.scanout.cursor().0.image.is_none());
    assert!(read(&image) == [0; BYTES]);
}
