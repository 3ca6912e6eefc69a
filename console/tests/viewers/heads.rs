//! What a device tells beside its picture: what was drawn, a cursor, heads; and what it is asked for.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use mdev::scanout::{Cursor, CursorImage, Rect};
use tempfile::TempDir;

use crate::fake::{Fake, draw, geometry, memory};
use crate::pictures::pattern;
use crate::programs::{Program, start_console, viewer, wait_until};
use crate::vnc::{
    self, CURSOR, CURSOR_WITH_ALPHA, DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE, Part, RAW, Viewer, ZRLE,
};

const SIZE: (u32, u32) = (200, 150);

/// A worker that tells what is drawn, what it shows, and a console of its.
fn start() -> (TempDir, Fake, Arc<OwnedFd>, Vec<u32>, Program) {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path());
    fake.publisher.promise_drawn();
    let pixels = plain(&pattern(SIZE.0 as usize, SIZE.1 as usize, 1));
    let memory = fake.show(SIZE.0, SIZE.1, &pixels);
    let console = start_console(&folder, &[]);
    // Viewers that know of one size alone come once that is known.
    sees(&mut viewer(&folder, &[RAW, DESKTOP_SIZE]), &pixels);
    (folder, fake, memory, pixels, console)
}

fn plain(pixels: &[u32]) -> Vec<u32> {
    pixels.iter().map(|pixel| pixel & 0xff_ff_ff).collect()
}

fn sees(viewer: &mut Viewer, pixels: &[u32]) -> Vec<Part> {
    let parts = viewer.wait_until(50, |viewer| viewer.pixels == pixels);
    parts.unwrap()
}

#[test]
fn what_was_drawn_is_looked_at_and_nothing_else() {
    let (folder, fake, memory, mut pixels, _console) = start();
    let mut viewer = viewer(&folder, &[RAW, DESKTOP_SIZE]);
    sees(&mut viewer, &pixels);
    // All of it is another one; a part of that is told of, in tiles that begin at 64.
    let next: Vec<u32> = pixels.iter().map(|pixel| pixel ^ 0xff).collect();
    draw(&memory, &next);
    fake.publisher.drawn(Rect {
        x: 70,
        y: 65,
        width: 3,
        height: 2,
    });
    for (at, pixel) in pixels.iter_mut().enumerate() {
        let (x, y) = (at % SIZE.0 as usize, at / SIZE.0 as usize);
        if (64..128).contains(&x) && (64..128).contains(&y) {
            *pixel ^= 0xff;
        }
    }
    let parts = sees(&mut viewer, &pixels);
    let rects: Vec<_> = parts.iter().map(|part| part.rect).collect();
    assert_eq!(rects, [[64, 64, 64, 64]]);
    // Who wants all of it anew gets what was seen, and the last of it once it is told of.
    viewer.request(false).unwrap();
    viewer.update().unwrap();
    assert_eq!(viewer.pixels, pixels);
    fake.publisher.drawn(Rect::whole(SIZE.0, SIZE.1));
    sees(&mut viewer, &next);
}

/// An arrow of half a dozen pixels: opaque, half clear, clear.
fn arrow() -> CursorImage {
    let pixels = [
        0xff_10_20_30,
        0x80_40_00_00,
        0,
        0xff_ff_ff_ff,
        0,
        0x00_00_00_00,
    ];
    CursorImage {
        memory: memory(&pixels),
        geometry: geometry(3, 2),
        hot_x: 1,
        hot_y: 0,
        sequence: 0,
    }
}

/// The arrow at a place.
fn arrow_at(x: i32, y: i32) -> Cursor {
    Cursor {
        image: Some(arrow()),
        x,
        y,
    }
}

#[test]
fn viewers_that_know_of_shapes_are_shown_the_cursor_as_one() {
    let (folder, fake, _memory, pixels, _console) = start();
    let mut shape = viewer(&folder, &[ZRLE, CURSOR]);
    let mut alpha = viewer(&folder, &[RAW, CURSOR, CURSOR_WITH_ALPHA]);
    for viewer in [&mut shape, &mut alpha] {
        sees(viewer, &pixels);
        assert_eq!(viewer.cursor, None, "none was shown yet");
    }
    fake.publisher.set_cursor(arrow_at(63, 10));
    let looks = [
        [0xff_10_20_30, 0xff_7f_00_00, 0, 0xff_ff_ff_ff, 0, 0],
        [0xff_10_20_30, 0x80_40_00_00, 0, 0xff_ff_ff_ff, 0, 0],
    ];
    for (viewer, look) in [&mut shape, &mut alpha].into_iter().zip(looks) {
        let look = vnc::Cursor {
            width: 3,
            hot: (1, 0),
            pixels: look.to_vec(),
        };
        let is_so = |viewer: &Viewer| viewer.cursor.as_ref() == Some(&look);
        viewer.wait_until(50, is_so).unwrap();
        assert_eq!(viewer.pixels, pixels);
    }
    fake.publisher.set_cursor(Cursor::default());
    for viewer in [&mut shape, &mut alpha] {
        let cursor = |viewer: &Viewer| viewer.cursor.as_ref().is_some_and(|it| it.width == 0);
        viewer.wait_until(50, cursor).unwrap();
    }
}

/// The picture with the arrow drawn over it.
fn with_arrow(pixels: &[u32], x: i32, y: i32) -> Vec<u32> {
    let mut over = pixels.to_vec();
    let mut put = |column, line, act: &dyn Fn(u32) -> u32| {
        let (x, y) = (x + column, y + line);
        if (0..SIZE.0 as i32).contains(&x) && (0..SIZE.1 as i32).contains(&y) {
            let pixel = &mut over[(y * SIZE.0 as i32 + x) as usize];
            *pixel = act(*pixel);
        }
    };
    put(0, 0, &|_| 0x10_20_30);
    put(1, 0, &|under| {
        let half = |shift: u32| ((under >> shift & 255) * 127 + 127) / 255;
        (half(16) + 0x40) << 16 | half(8) << 8 | half(0)
    });
    put(0, 1, &|_| 0xff_ff_ff);
    over
}

#[test]
fn viewers_that_know_of_no_shapes_are_shown_the_cursor_in_the_picture() {
    let (folder, fake, _memory, pixels, _console) = start();
    let mut drawn = viewer(&folder, &[ZRLE]);
    sees(&mut drawn, &pixels);
    // Over two tiles; then elsewhere, partly outside; then not at all.
    fake.publisher.set_cursor(arrow_at(63, 10));
    sees(&mut drawn, &with_arrow(&pixels, 63, 10));
    for (x, y) in [(199, 149), (-1, -1)] {
        fake.publisher.move_cursor(x, y);
        sees(&mut drawn, &with_arrow(&pixels, x, y));
    }
    fake.publisher.set_cursor(Cursor::default());
    sees(&mut drawn, &pixels);
    // Who learns of shapes later does not keep what was drawn.
    fake.publisher.set_cursor(arrow_at(5, 5));
    sees(&mut drawn, &with_arrow(&pixels, 5, 5));
    drawn.set_encodings(&[ZRLE, CURSOR]).unwrap();
    sees(&mut drawn, &pixels);
    drawn.set_encodings(&[ZRLE]).unwrap();
    sees(&mut drawn, &with_arrow(&pixels, 5, 5));
}

#[test]
fn a_cursor_that_cannot_be_is_not_shown_and_the_picture_is() {
    let (folder, fake, memory, pixels, console) = start();
    let mut viewer = viewer(&folder, &[RAW, CURSOR]);
    sees(&mut viewer, &pixels);
    let large = geometry(4096, 4096);
    let outside = geometry(64, 1000);
    let empty = geometry(0, 7);
    for geometry in [large, outside, empty] {
        let image = CursorImage {
            geometry,
            ..arrow()
        };
        fake.publisher.set_cursor(Cursor {
            image: Some(image),
            x: 0,
            y: 0,
        });
        let next: Vec<u32> = viewer.pixels.iter().map(|pixel| pixel ^ 0x0f0f).collect();
        draw(&memory, &next);
        fake.publisher.drawn(Rect::whole(SIZE.0, SIZE.1));
        sees(&mut viewer, &next);
    }
    assert!(console.log().contains("the cursor cannot be read"));
}

/// Asks for a size: what came of it.
fn ask(viewer: &mut Viewer, width: u16, height: u16) -> [u16; 2] {
    viewer.set_size(width, height).unwrap();
    let mut answer = None;
    for _ in 0..50 {
        viewer.request(true).unwrap();
        for part in viewer.update().unwrap() {
            if part.encoding == EXTENDED_DESKTOP_SIZE && part.rect[0] == 1 {
                answer = Some([part.rect[0], part.rect[1]]);
            }
        }
        if let Some(answer) = answer {
            return answer;
        }
    }
    panic!("no answer")
}

#[test]
fn a_viewers_wish_for_a_size_reaches_the_device_and_its_answer_the_viewer() {
    let (folder, fake, _memory, pixels, _console) = start();
    let mut viewer = viewer(&folder, &[RAW, EXTENDED_DESKTOP_SIZE]);
    sees(&mut viewer, &pixels);
    assert_eq!(ask(&mut viewer, 300, 210), [1, 4], "forwarded");
    for (errno, status) in [("ENOTSUP", 1), ("EINVAL", 3), ("ENOSPC", 2)] {
        fake.wishes.lock().unwrap().refuse_by = Some(errno);
        assert_eq!(ask(&mut viewer, 400, 100), [1, status], "{errno}");
    }
    assert_eq!(
        fake.wishes.lock().unwrap().asked[..2],
        [(300, 210), (400, 100)]
    );
    // The guest does it in its own time.
    let next = plain(&pattern(300, 210, 2));
    fake.show(300, 210, &next);
    sees(&mut viewer, &next);
    assert_eq!(viewer.width, 300);
}

#[test]
fn of_a_flood_of_wishes_few_reach_the_device_and_the_last_does() {
    let (folder, fake, _memory, pixels, _console) = start();
    let mut viewer = viewer(&folder, &[RAW, EXTENDED_DESKTOP_SIZE]);
    sees(&mut viewer, &pixels);
    for width in 1..=5000 {
        viewer.set_size(width, 7).unwrap();
    }
    wait_until("the last one is asked for", || {
        let wishes = fake.wishes.lock().unwrap();
        (wishes.asked.last() == Some(&(5000, 7))).then_some(())
    });
    let count = fake.wishes.lock().unwrap().asked.len();
    assert!(count < 100, "{count}");
}

#[test]
fn each_head_has_a_console_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path());
    fake.publisher.set_heads(2);
    let second = fake.publisher.head(1).unwrap();
    let pictures = [plain(&pattern(100, 80, 1)), plain(&pattern(90, 70, 2))];
    fake.show(100, 80, &pictures[0]);
    second.publish(memory(&pictures[1]), geometry(90, 70));
    for (head, picture) in pictures.iter().enumerate() {
        let _console = start_console(&folder, &["--head", &head.to_string()]);
        sees(&mut viewer(&folder, &[RAW, DESKTOP_SIZE]), picture);
        // The one before may take a moment to end.
        std::fs::remove_file(folder.path().join("vnc")).unwrap();
    }
}
