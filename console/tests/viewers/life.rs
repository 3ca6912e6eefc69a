//! A console's life: workers come and go, pictures too; and its end.

use mdev::scanout::{Geometry, PixelFormat};
use rustix::fs::ftruncate;
use rustix::process::Signal;

use crate::fake::{Fake, draw, geometry, memory};
use crate::pictures::pattern;
use crate::programs::{refused, start_console, tcp_address, viewer, wait_until};
use crate::vnc::{DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE, RAW, Viewer, ZRLE};
use console::frame::DARK;
use console::password::Password;

const SIZES: [i32; 3] = [RAW, DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE];

fn strip(pixels: &[u32]) -> Vec<u32> {
    pixels.iter().map(|pixel| pixel & 0xff_ff_ff).collect()
}

/// Waits until a viewer sees these pixels.
fn sees(viewer: &mut Viewer, width: usize, pixels: &[u32]) {
    let pixels = strip(pixels);
    viewer
        .wait_until(50, |viewer| {
            viewer.width == width && viewer.pixels == pixels
        })
        .unwrap();
}

#[test]
fn where_there_is_no_picture_it_is_dark() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path());
    let _console = start_console(&folder, &[]);
    let mut viewer = viewer(&folder, &SIZES);
    sees(&mut viewer, 640, &vec![DARK; 640 * 480]);
    let picture = pattern(100, 80, 1);
    fake.show(100, 80, &picture);
    sees(&mut viewer, 100, &picture);
    fake.publisher.blank();
    sees(&mut viewer, 100, &vec![DARK; 100 * 80]);
}

#[test]
fn a_picture_outlives_its_worker_and_the_next_one_shows_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path());
    let mut console = start_console(&folder, &["--patience", "20"]);
    let mut viewer = viewer(&folder, &SIZES);
    let picture = pattern(100, 80, 1);
    let memory = fake.show(100, 80, &picture);
    sees(&mut viewer, 100, &picture);
    drop(fake);
    wait_until("it misses the worker", || {
        console.log().contains("the picture stays").then_some(())
    });
    // All of it is there, for who asks for all of it.
    viewer.request(false).unwrap();
    viewer.update().unwrap();
    assert_eq!(viewer.pixels, strip(&picture));
    // The guest draws on.
    let next = pattern(100, 80, 2);
    draw(&memory, &next);
    sees(&mut viewer, 100, &next);
    let fake = Fake::start(folder.path());
    let other = pattern(64, 64, 3);
    fake.show(64, 64, &other);
    sees(&mut viewer, 64, &other);
    assert!(console.child.try_wait().unwrap().is_none());
}

#[test]
fn it_ends_when_the_worker_is_gone_for_good_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path());
    let mut console = start_console(&folder, &["--patience", "0"]);
    drop(fake);
    assert!(console.end().success(), "{}", console.log());
    assert!(
        console.log().contains("the vGPU is gone"),
        "{}",
        console.log()
    );
    assert!(!folder.path().join("vnc").exists());
}

#[test]
fn a_signal_ends_both_processes() {
    let folder = tempfile::tempdir().unwrap();
    let _fake = Fake::start(folder.path());
    for (signal, removes) in [(Signal::TERM, true), (Signal::KILL, false)] {
        let mut console = start_console(&folder, &[]);
        let inside = format!("/proc/{}", console.inside());
        console.signal(signal);
        assert_eq!(console.end().success(), removes);
        wait_until("the other process ends", || {
            (!std::path::Path::new(&inside).exists()).then_some(())
        });
        assert_eq!(folder.path().join("vnc").exists(), !removes);
    }
}

#[test]
fn pictures_that_cannot_be_are_dark_and_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path());
    let mut console = start_console(&folder, &[]);
    let mut viewer = viewer(&folder, &SIZES);
    let picture = pattern(64, 64, 1);
    let memory = memory(&picture);
    let good = geometry(64, 64);
    for bad in [
        Geometry { width: 0, ..good },
        Geometry { height: 65, ..good },
        Geometry { offset: 1, ..good },
        Geometry {
            offset: u64::MAX,
            ..good
        },
        Geometry {
            stride: u32::MAX,
            ..good
        },
        geometry(1 << 20, 1),
        geometry(16_384, 16_384),
        geometry(u32::MAX, u32::MAX),
    ] {
        fake.publish(&memory, good);
        sees(&mut viewer, 64, &picture);
        fake.publish(&memory, bad);
        sees(&mut viewer, 64, &vec![DARK; 64 * 64]);
    }
    assert!(console.child.try_wait().unwrap().is_none());
}

#[test]
fn lines_may_overlap_or_lie_apart_and_bytes_stand_either_way() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path());
    let _console = start_console(&folder, &[]);
    let mut viewer = viewer(&folder, &SIZES);
    let pixels = pattern(1000, 70, 9);
    let memory = memory(&pixels);
    let at = |x: usize, y: usize, stride: usize, first: usize| pixels[first + y * stride + x];
    // In pixels.
    for (stride, first) in [(1000, 0), (90, 7), (70, 0), (64, 1), (3, 0), (0, 5)] {
        let geometry = Geometry {
            stride: stride as u32 * 4,
            offset: first as u64 * 4,
            ..geometry(64, 66)
        };
        fake.publish(&memory, geometry);
        let lines = (0..66).flat_map(|y| (0..64).map(move |x| (x, y)));
        let seen: Vec<_> = lines.map(|(x, y)| at(x, y, stride, first)).collect();
        sees(&mut viewer, 64, &seen);
        let other = Geometry {
            format: PixelFormat::Bgrx8888,
            ..geometry
        };
        fake.publish(&memory, other);
        let swapped: Vec<_> = seen.iter().map(|pixel| pixel.swap_bytes()).collect();
        sees(&mut viewer, 64, &swapped);
    }
}

#[test]
fn a_memory_file_that_is_cut_off_costs_its_picture_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path());
    let mut console = start_console(&folder, &[]);
    let mut viewer = viewer(&folder, &SIZES);
    let picture = pattern(100, 80, 1);
    let memory = fake.show(100, 80, &picture);
    sees(&mut viewer, 100, &picture);
    ftruncate(&memory, 100).unwrap();
    viewer.request(false).unwrap();
    viewer.update().unwrap();
    wait_until("it is told in the log", || {
        console
            .log()
            .contains("cannot be read any more")
            .then_some(())
    });
    let next = pattern(100, 80, 2);
    fake.show(100, 80, &next);
    sees(&mut viewer, 100, &next);
    assert!(console.child.try_wait().unwrap().is_none());
}

#[test]
fn a_viewer_that_knows_one_size_sees_what_fits_in() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path());
    let _console = start_console(&folder, &[]);
    let picture = pattern(200, 150, 1);
    fake.show(200, 150, &picture);
    sees(&mut viewer(&folder, &SIZES), 200, &picture);
    let mut fixed = viewer(&folder, &[ZRLE]);
    sees(&mut fixed, 200, &picture);
    for (width, height, seed) in [(100, 60, 2), (300, 200, 3), (150, 180, 4), (200, 150, 5)] {
        let other = pattern(width, height, seed);
        fake.show(width as u32, height as u32, &other);
        let pixel = |x: usize, y: usize| {
            let is_inside = x < width && y < height;
            if is_inside {
                other[y * width + x]
            } else {
                DARK
            }
        };
        let places = (0..150).flat_map(|y| (0..200).map(move |x| (x, y)));
        let expected: Vec<_> = places.map(|(x, y)| pixel(x, y)).collect();
        sees(&mut fixed, 200, &expected);
    }
}

#[test]
fn only_what_has_changed_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path());
    let _console = start_console(&folder, &[]);
    let mut pixels = vec![7; 640 * 480];
    let memory = fake.show(640, 480, &pixels);
    let mut viewer = viewer(&folder, &SIZES);
    sees(&mut viewer, 640, &pixels);
    // Two pixels in the tiles beside each other, one far below.
    for (x, y) in [(127, 64), (128, 64), (639, 479)] {
        pixels[y * 640 + x] = 9;
    }
    draw(&memory, &pixels);
    let mut parts = viewer
        .wait_until(10, |viewer| viewer.pixels == pixels)
        .unwrap();
    parts.sort_by_key(|part| part.rect);
    // What is drawn is seen in one look, or in two.
    parts.dedup();
    let rects: Vec<_> = parts.iter().map(|part| part.rect).collect();
    assert_eq!(rects, [[64, 64, 128, 64], [576, 448, 64, 32]]);
}

#[test]
fn by_tcp_it_takes_a_password_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path());
    let picture = pattern(64, 64, 1);
    fake.show(64, 64, &picture);
    let file = folder.path().join("password");
    std::fs::write(&file, "geheim\n").unwrap();
    let chmod = |mode| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod(0o600);
    let tcp = ["--tcp", "127.0.0.1:0"];
    let with_password = ["--tcp", "127.0.0.1:0", "--password-file", "password"];
    assert!(refused(&folder, &tcp).contains("needs a password"));
    assert!(refused(&folder, &with_password[2..]).contains("the password is for TCP"));
    chmod(0o644);
    assert!(refused(&folder, &with_password).contains("everyone may read"));
    chmod(0o600);
    let console = start_console(&folder, &with_password);
    let address = tcp_address(&console);
    let knows = |text: &str| {
        let password = Password::new(text).unwrap();
        move |challenge| password.answer(challenge)
    };
    let error = Viewer::connect_tcp(address, &knows("another"))
        .err()
        .unwrap();
    assert_eq!(
        error.kind(),
        std::io::ErrorKind::PermissionDenied,
        "{error}"
    );
    let mut viewer = Viewer::connect_tcp(address, &knows("geheim")).unwrap();
    viewer.set_encodings(&[ZRLE, DESKTOP_SIZE]).unwrap();
    sees(&mut viewer, 64, &picture);
}

#[test]
fn the_process_that_viewers_talk_to_may_do_little() {
    let folder = tempfile::tempdir().unwrap();
    let _fake = Fake::start(folder.path());
    let console = start_console(&folder, &[]);
    let _viewer = viewer(&folder, &SIZES);
    let pid = console.inside();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    for task in tasks {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        for (name, expected) in [
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
            ("CapEff", "0000000000000000"),
            ("CapPrm", "0000000000000000"),
        ] {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            assert_eq!(
                line.unwrap().trim_start_matches(':').trim(),
                expected,
                "{name}"
            );
        }
    }
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    for (name, expected) in [("Max open files", 128), ("Max data size", 512 << 20)] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let limit = line[name.len()..].split_whitespace().next().unwrap();
        assert_eq!(limit, expected.to_string(), "{name}");
    }
    // It comes after what the guest does, and after whatever this test itself comes after.
    let expected = (niceness("self") + 10).min(19);
    assert_eq!(niceness(&pid.to_string()), expected);
}

/// proc_pid_stat(5): the 19th field; the state is the third, after the name.
fn niceness(process: &str) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().nth(16).unwrap().parse().unwrap()
}
