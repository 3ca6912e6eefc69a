//! Viewers that do what viewers don't.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use console::hub::MAX_VIEWERS;
use tempfile::TempDir;

use crate::fake::{Fake, draw};
use crate::pictures::pattern;
use crate::programs::{start_console, viewer, wait_until};
use crate::vnc::{DESKTOP_SIZE, QEMU_KEYS, RAW, Viewer, ZRLE};

fn connect(folder: &TempDir) -> UnixStream {
    let stream = UnixStream::connect(folder.path().join("vnc")).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
}

/// A viewer that is in.
fn enter(folder: &TempDir) -> UnixStream {
    let mut stream = connect(folder);
    stream.write_all(b"RFB 003.008\n\x01\x01").unwrap();
    let mut greeting = [0; 12 + 2 + 4 + 4 + 16 + 4 + 4];
    stream.read_exact(&mut greeting).unwrap();
    stream
}

/// That the other end closes, whatever it sends before.
fn is_sent_away(mut stream: UnixStream, why: &[u8]) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{why:?}"),
    }
}

#[test]
fn what_makes_no_sense_is_sent_away_and_others_look_on() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path());
    let mut console = start_console(&folder, &[]);
    let memory = fake.show(64, 64, &pattern(64, 64, 0));
    let mut other = viewer(&folder, &[RAW, DESKTOP_SIZE]);
    for first in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"RFB 002.000\n",
        b"RFB 003.008\n\x02",
        b"RFB 003.008\n\x00",
        &[0xff; 100],
    ] {
        let mut stream = connect(&folder);
        // It may be gone before it has been told everything.
        let _ = stream.write_all(first);
        is_sent_away(stream, first);
    }
    let mut format = vec![0, 0, 0, 0, 24];
    format.extend([0; 15]);
    for (seed, message) in [
        &[1_u8, 0, 0, 0][..],
        &[7],
        &[255, 1, 0, 0],
        &[2, 0, 0xff, 0xff],
        &[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        &format,
    ]
    .into_iter()
    .enumerate()
    {
        let mut stream = enter(&folder);
        stream.write_all(message).unwrap();
        is_sent_away(stream, message);
        let picture = pattern(64, 64, seed as u32);
        draw(&memory, &picture);
        let seen: Vec<_> = picture.iter().map(|pixel| pixel & 0xff_ff_ff).collect();
        other
            .wait_until(50, |viewer| viewer.pixels == seen)
            .unwrap();
    }
    assert!(console.child.try_wait().unwrap().is_none());
}

#[test]
fn messages_may_come_in_any_pieces_and_long_texts_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path());
    let _console = start_console(&folder, &[]);
    fake.show(64, 64, &vec![5; 64 * 64]);
    let mut viewer = viewer(&folder, &[QEMU_KEYS, ZRLE, DESKTOP_SIZE]);
    let seen = |viewer: &Viewer| viewer.pixels == vec![5; 64 * 64];
    viewer.wait_until(50, seen).unwrap();
    let mut text = vec![6, 0, 0, 0, 0, 16, 0, 0];
    text.extend(vec![3; 1 << 20]);
    // Keys, the pointer, a wish for a size that is not heard.
    text.extend([4, 1, 0, 0, 0, 0, 0, 0x61]);
    text.extend([255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 0x1e]);
    text.extend([5, 1, 0, 9, 0, 9]);
    text.extend([251, 0, 4, 0, 3, 0, 0, 0]);
    viewer.send(&text).unwrap();
    for byte in [3, 0, 0, 0, 0, 0, 0, 64, 0, 64] {
        viewer.send(&[byte]).unwrap();
    }
    viewer.update().unwrap();
    assert!(seen(&viewer));
}

#[test]
fn a_viewer_that_reads_nothing_holds_up_nobody_and_there_is_an_end_to_places() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path());
    let console = start_console(&folder, &[]);
    let memory = fake.show(1024, 768, &pattern(1024, 768, 0));
    let mut looks = viewer(&folder, &[ZRLE, DESKTOP_SIZE]);
    looks.wait_until(50, |viewer| viewer.width == 1024).unwrap();
    let mut stuck = Vec::new();
    wait_until("one place is left", || {
        stuck.push(enter(&folder));
        (stuck.len() == MAX_VIEWERS - 2).then_some(())
    });
    for stream in &mut stuck {
        // Raw: 3 MiB each time, of which the socket takes a part.
        for _ in 0..200 {
            stream.write_all(&[3, 0, 0, 0, 0, 0, 4, 0, 3, 0]).unwrap();
        }
    }
    for seed in 1..6 {
        let picture = pattern(1024, 768, seed);
        draw(&memory, &picture);
        let seen: Vec<_> = picture.iter().map(|pixel| pixel & 0xff_ff_ff).collect();
        looks
            .wait_until(50, |viewer| viewer.pixels == seen)
            .unwrap();
    }
    let last = enter(&folder);
    let one_more = connect(&folder);
    is_sent_away(one_more, b"too many");
    assert!(console.log().contains("too many"));
    // What they hold is bounded, however much they asked for: the picture is 3 MiB.
    assert!(resident_kib(console.inside()) < 100 << 10);
    drop((stuck, last));
    // Their places are free again.
    wait_until("a place is free", || {
        let mut viewer = Viewer::connect(&folder.path().join("vnc")).ok()?;
        viewer.request(false).ok()?;
        viewer.update().ok().map(drop)
    });
}

#[test]
fn ten_thousand_updates_cost_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path());
    let console = start_console(&folder, &["--fps", "1000"]);
    let memory = fake.show(64, 64, &vec![0; 64 * 64]);
    let mut viewers = [RAW, ZRLE].map(|body| viewer(&folder, &[body, DESKTOP_SIZE]));
    for viewer in &mut viewers {
        viewer
            .wait_until(50, |viewer| viewer.pixels[0] == 0)
            .unwrap();
        assert_eq!(viewer.width, 64);
    }
    let mut turns = |from: u32, to: u32| {
        for turn in from..to {
            draw(&memory, &[turn]);
            for viewer in &mut viewers {
                viewer.request(true).unwrap();
                viewer.update().unwrap();
                assert_eq!(viewer.pixels[0], turn);
            }
        }
        resident_kib(console.inside())
    };
    let before = turns(1, 500);
    let after = turns(500, 5_500);
    assert!(after <= before + 256, "{before} KiB, then {after}");
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().split_whitespace().next();
    number.unwrap().parse().unwrap()
}
