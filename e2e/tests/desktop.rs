//! A desktop in a guest: weston on a GPU of ours, with Debian's kernel.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use e2e::guest::Guest;
use e2e::vnc::{CURSOR_WITH_ALPHA, EXTENDED_DESKTOP_SIZE, Viewer, ZRLE};
use e2e::{Daemon, Programs, Screen, Vgpu, desktop};
use serde_json::json;

/// How long a picture may take to come.
const LIMIT: Duration = Duration::from_secs(60);

/// Between what a hand does with a pointer.
const CLICK: Duration = Duration::from_millis(300);

/// Whether it is the desktop, with nothing open: a panel with an icon, and what is behind windows.
fn is_empty_desktop(screen: &Screen) -> bool {
    let (width, height) = desktop::SIZE;
    let panel = desktop::PANEL_HEIGHT;
    screen.size() == desktop::SIZE
        && screen.pixel(width / 2, panel / 2) == desktop::PANEL
        && (0..panel * 2).any(|x| screen.pixel(x, panel / 2) != desktop::PANEL)
        && (panel + 1..height)
            .all(|y| (0..width).all(|x| screen.pixel(x, y) == desktop::BACKGROUND))
}

#[test]
fn a_compositor_of_debians_shows_its_desktop() {
    let programs = Programs::from_env().unwrap();
    let gpu = Vgpu::run(&programs, "gpu-2d-hd", &[]).unwrap();
    let mut vm = desktop::machine(&programs)
        .unwrap()
        .vfio_user(&gpu.socket(), &json!({}))
        .boot()
        .unwrap();
    desktop::start(&mut vm.guest).unwrap();
    let start = Instant::now();
    while !gpu
        .screenshot()
        .is_ok_and(|screen| is_empty_desktop(&screen))
    {
        if start.elapsed() > LIMIT {
            let log = vm.guest.sh("cat /tmp/weston.log").unwrap();
            let screen = gpu.screenshot().unwrap();
            panic!(
                "{:?} {:x} {:x} {log}",
                screen.size(),
                screen.pixel(512, 16),
                screen.pixel(512, 400)
            );
        }
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(gpu.counter("faults").unwrap(), 0);
}

/// What is on the screen, once nothing moves there.
fn at_rest(viewer: &mut Viewer) -> Screen {
    let start = Instant::now();
    let mut before = Vec::new();
    while start.elapsed() < LIMIT {
        viewer.refresh().unwrap();
        if viewer.pixels == before {
            return screen(viewer);
        }
        before.clone_from(&viewer.pixels);
        thread::sleep(Duration::from_millis(500));
    }
    panic!("the screen does not come to rest");
}

/// Waits until a viewer sees what is so.
fn wait_until(viewer: &mut Viewer, what: &str, is_so: impl Fn(&Screen) -> bool) {
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        viewer.refresh().unwrap();
        if is_so(&screen(viewer)) {
            return;
        }
        thread::sleep(Duration::from_millis(200));
    }
    panic!("it was not seen: {what}");
}

fn screen(viewer: &Viewer) -> Screen {
    Screen::from_pixels(viewer.width as u32, viewer.pixels.clone())
}

/// What two screens do not have in common, as it is on the second: the smallest rectangle.
fn difference(before: &Screen, after: &Screen) -> Screen {
    let (width, height) = after.size();
    let is_other = |&(x, y): &(u32, u32)| before.pixel(x, y) != after.pixel(x, y);
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let other: Vec<_> = places.filter(is_other).collect();
    let span = |values: &mut dyn Iterator<Item = u32>| {
        let values: Vec<_> = values.collect();
        *values.iter().min().unwrap()..values.iter().max().unwrap() + 1
    };
    let columns = span(&mut other.iter().map(|place| place.0));
    let lines = span(&mut other.iter().map(|place| place.1));
    let pixels = lines.flat_map(|y| columns.clone().map(move |x| after.pixel(x, y)));
    Screen::from_pixels(columns.len() as u32, pixels.collect())
}

#[test]
fn a_terminal_is_opened_and_a_line_typed_through_vnc_alone_and_read_off_the_screen() {
    let programs = Programs::from_env().unwrap();
    let daemon = Daemon::run(&programs).unwrap();
    let instance = daemon.start("gpu-2d-hd", &[]).unwrap();
    let printed = daemon.vgpu("console", &[&instance.uuid]).unwrap();
    let socket = Path::new(printed.lines().next().unwrap());
    let input = |name| instance.socket.with_extension(format!("{name}.sock"));
    let mut vm = desktop::machine(&programs)
        .unwrap()
        // No keyboard but ours.
        .arg("-machine")
        .arg("i8042=off")
        .vfio_user(&instance.socket, &json!({}))
        .vfio_user(&input("keyboard"), &json!({}))
        .vfio_user(&input("tablet"), &json!({}))
        .boot()
        .unwrap();
    let guest = &mut vm.guest;
    desktop::start(guest).unwrap();
    let mut viewer = Viewer::connect(socket).unwrap();
    let encodings = [ZRLE, EXTENDED_DESKTOP_SIZE, CURSOR_WITH_ALPHA];
    viewer.set_encodings(&encodings).unwrap();
    wait_until(&mut viewer, "the desktop", is_empty_desktop);

    // The icon in the panel. The guest takes a click that is too short for a hand for a bad button.
    let (x, y) = desktop::TERMINAL;
    for buttons in [0, 1, 0] {
        viewer.point(buttons, x, y).unwrap();
        thread::sleep(CLICK);
    }
    wait_until(&mut viewer, "a window", |screen| !is_empty_desktop(screen));
    guest.wait_for("test -e /dev/pts/0").unwrap();
    at_rest(&mut viewer);
    // How the terminal writes what is going to be printed, without its cursor.
    let show = |guest: &mut Guest, text: &str| {
        guest
            .sh(&format!(
                "printf '\\033[?25l\\033[H\\033[2J{text}' >/dev/pts/0"
            ))
            .unwrap();
    };
    show(guest, "");
    let empty = at_rest(&mut viewer);
    show(guest, "It is 42.");
    wait_until(&mut viewer, "text", |screen| *screen != empty);
    let expected = difference(&empty, &at_rest(&mut viewer));
    show(guest, "");
    wait_until(&mut viewer, "an empty window", |screen| *screen == empty);
    assert!(!empty.holds(&expected));
    // What is typed does not look like that.
    viewer.type_line("echo \"It is $((6*7)).\"").unwrap();
    wait_until(&mut viewer, "what the line prints", |screen| {
        screen.holds(&expected)
    });
    assert_eq!(guest.sh("ls /dev/pts").unwrap(), "0\nptmx");
}
