//! What viewers type and where they point, as the guest's own programs hear it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::guest::Guest;
use e2e::vnc::{EXTENDED_DESKTOP_SIZE, RAW, Viewer};
use e2e::{Daemon, Machine, Process, Programs, Vgpu};
use rustix::process::Signal;
use serde_json::{Value, json};

const KEYBOARD: &str = "vgpud keyboard";
const TABLET: &str = "vgpud tablet";

/// How long a program may take to start.
const LIMIT: Duration = Duration::from_secs(20);

/// Hears so many reports of an input device, from when this returns.
fn listen(guest: &mut Guest, name: &str, reports: usize) {
    guest.sh("rm -f /tmp/ready /tmp/heard /tmp/over").unwrap();
    let listen = format!("guest events '{name}' {reports} /tmp/ready >/tmp/heard 2>&1");
    guest
        .sh(&format!("{{ {listen}; echo >/tmp/over; }} &"))
        .unwrap();
    guest.wait_for("[ -e /tmp/ready ]").unwrap();
}

/// What was heard: the reports, each its events.
fn heard(guest: &mut Guest) -> Vec<String> {
    guest.wait_for("[ -e /tmp/over ]").unwrap();
    let text = guest.sh("cat /tmp/heard").unwrap();
    let reports = text.split("\n\n");
    reports
        .map(|report| report.trim().replace('\n', ", "))
        .collect()
}

fn viewer(socket: &Path) -> Viewer {
    let mut viewer = Viewer::connect(socket).unwrap();
    viewer.set_encodings(&[RAW, EXTENDED_DESKTOP_SIZE]).unwrap();
    viewer.refresh().unwrap();
    viewer
}

/// The middle of a pixel, from 0 to 32767.
fn scaled(at: usize, count: usize) -> usize {
    (2 * at + 1) * 32768 / (2 * count)
}

/// A vGPU of the daemon as `vgpu show` tells it.
fn shown(daemon: &Daemon, uuid: &str) -> Value {
    let text = daemon.vgpu("show", &["--json", uuid]).unwrap();
    let known: Value = serde_json::from_str(&text).unwrap();
    known["instance"].clone()
}

fn functions(daemon: &Daemon, uuid: &str) -> Vec<Value> {
    shown(daemon, uuid)["functions"].as_array().unwrap().clone()
}

/// Keys by what is on them, and by their number.
fn check_keys(guest: &mut Guest, viewer: &mut Viewer) {
    listen(guest, KEYBOARD, 8);
    for is_down in [true, false] {
        viewer.key(0x61, is_down).unwrap();
    }
    // The guest repeats by itself.
    for is_down in [true, true, false, false] {
        viewer.coded_key(0x9d, is_down).unwrap();
    }
    // Shift is let go before what was typed with it.
    for (symbol, is_down) in [(0xffe1, true), (0x21, true), (0xffe1, false), (0x31, false)] {
        viewer.key(symbol, is_down).unwrap();
    }
    let expected = [
        "1 30 1", "1 30 0", "1 97 1", "1 97 0", "1 42 1", "1 2 1", "1 42 0", "1 2 0",
    ];
    assert_eq!(heard(guest), expected);
}

/// A click, a wheel, and a button that is let go because its viewer is gone.
fn check_pointer(guest: &mut Guest, viewer: &mut Viewer, socket: &Path) {
    let (width, height) = (viewer.width, viewer.height);
    listen(guest, TABLET, 9);
    for (buttons, x, y) in [
        (0, 100, 200),
        (1, 100, 200),
        (0, 101, 200),
        (8, 101, 200),
        (0, 101, 200),
        (0x10, 101, 200),
        (0x40, 101, 200),
        (0, 0, height as u16 - 1),
        (4, 0, height as u16 - 1),
    ] {
        viewer.point(buttons, x, y).unwrap();
    }
    let mut other = self::viewer(socket);
    other.point(2, 0, height as u16 - 1).unwrap();
    // Seen by the time its next picture is.
    other.refresh().unwrap();
    drop(other);
    let at = |x, y| format!("3 0 {}, 3 1 {}", scaled(x, width), scaled(y, height));
    let expected = [
        at(100, 200),
        "1 272 1".to_owned(),
        format!("3 0 {}, 1 272 0", scaled(101, width)),
        "2 8 1".to_owned(),
        "2 8 -1".to_owned(),
        "2 6 1".to_owned(),
        "3 0 0, 3 1 32767".to_owned(),
        "1 273 1".to_owned(),
        "1 274 1".to_owned(),
    ];
    assert_eq!(heard(guest), expected);
    listen(guest, TABLET, 1);
    viewer.point(0, 0, height as u16 - 1).unwrap();
    assert_eq!(heard(guest), ["1 273 0"], "the other's was let go before");
}

/// Types a word for as long as its workers are replaced: each key comes once, in order.
fn check_replacements(daemon: &Daemon, uuid: &str, guest: &mut Guest, viewer: &mut Viewer) {
    let word = "thequickbrownfoxjumps";
    listen(guest, KEYBOARD, 2 * word.len());
    for (number, character) in word.chars().enumerate() {
        viewer.key(character.into(), true).unwrap();
        match number {
            4 | 12 => {
                let keyboard = functions(daemon, uuid).swap_remove(0);
                let pid = keyboard["pid"].as_u64().unwrap();
                e2e::daemon::kill(pid as u32, Signal::KILL).unwrap();
            }
            8 | 16 => {
                daemon.vgpu("upgrade", &[uuid]).unwrap();
            }
            _ => {}
        }
        viewer.key(character.into(), false).unwrap();
    }
    let heard = heard(guest);
    let codes = guest_codes(word);
    let expected: Vec<_> = codes
        .iter()
        .flat_map(|code| [format!("1 {code} 1"), format!("1 {code} 0")])
        .collect();
    assert_eq!(heard, expected);
}

/// Linux's numbers of letters.
fn guest_codes(word: &str) -> Vec<usize> {
    let rows = [(16, "qwertyuiop"), (30, "asdfghjkl"), (44, "zxcvbnm")];
    let code = |c| {
        let found = rows
            .iter()
            .find_map(|(first, row)| Some(first + row.find(c)?));
        found.unwrap()
    };
    word.chars().map(code).collect()
}

#[test]
fn what_a_viewer_does_reaches_the_guest_while_workers_are_killed_and_upgraded() {
    let programs = Programs::from_env().unwrap();
    let mut daemon = Daemon::run(&programs).unwrap();
    let instance = daemon.start("gpu-2d-hd", &[]).unwrap();
    let uuid = &instance.uuid;
    let printed = daemon.vgpu("console", &[uuid]).unwrap();
    let socket = Path::new(printed.lines().next().unwrap());
    let mut machine = Machine::new(&programs);
    machine = machine.module("virtio-pci").module("virtio-gpu");
    machine = machine.module("virtio-input").module("evdev");
    machine = machine.vfio_user(&instance.socket, &json!({}));
    for function in functions(&daemon, uuid) {
        let socket = function["socket"].as_str().unwrap().to_owned();
        machine = machine.vfio_user(Path::new(&socket), &json!({}));
    }
    let mut vm = machine.boot().unwrap();
    let guest = &mut vm.guest;
    // A mode is set with it.
    guest.say("hello").unwrap();
    let mut viewer = viewer(socket);
    check_keys(guest, &mut viewer);
    check_pointer(guest, &mut viewer, socket);
    check_replacements(&daemon, uuid, guest, &mut viewer);
    daemon.kill_and_restart().unwrap();
    check_keys(guest, &mut viewer);
    let state = shown(&daemon, uuid);
    assert_eq!(
        (&state["state"], &state["crashes"]),
        (&json!("running"), &json!(0))
    );
    assert_eq!(functions(&daemon, uuid)[0]["crashes"], 2);
    // Held while the machine starts anew, and let go after: no driver hears that of a button that it
    // does not know to be pressed.
    viewer.point(1, 50, 60).unwrap();
    guest.reboot().unwrap();
    listen(guest, TABLET, 1);
    viewer.point(0, 50, 60).unwrap();
    assert_eq!(heard(guest), ["1 272 0"]);
    drop(vm);
    // Each of its workers sees for itself that the machine is gone.
    daemon.vgpu("stop", &["--force", uuid]).unwrap();
    let left = std::fs::read_dir(instance.socket.parent().unwrap()).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<_> = left
        .filter(|name| name.starts_with(uuid.as_str()))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn functions_without_a_daemon_interrupt_by_the_pin_and_bear_to_be_unbound() {
    let programs = Programs::from_env().unwrap();
    let run = |name, attributes: &[&str]| Vgpu::run(&programs, name, attributes).unwrap();
    let display = run("bochs-4m", &[]);
    let keyboard = run("input-keyboard", &["-o", "msix=off"]);
    let tablet = run("input-tablet", &["-o", "msix=off"]);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("vnc");
    let mut command = Command::new(programs.ours("vgpu"));
    command.arg("console");
    command.arg("--control").arg(display.control());
    command.arg("--keyboard").arg(keyboard.control());
    command.arg("--tablet").arg(tablet.control());
    command.arg("--socket-path").arg(&socket);
    let mut console = Process::spawn(command, &folder.path().join("log")).unwrap();
    console.wait_path(&socket, LIMIT).unwrap();
    let mut vm = Machine::new(&programs)
        .module("bochs")
        .module("virtio-pci")
        .module("virtio-input")
        .module("evdev")
        .vfio_user(&display.socket(), &json!({}))
        .vfio_user(&keyboard.socket(), &json!({}))
        .vfio_user(&tablet.socket(), &json!({}))
        .boot()
        .unwrap();
    let guest = &mut vm.guest;
    guest.say("hello").unwrap();
    let mut viewer = viewer(&socket);
    check_keys(guest, &mut viewer);
    check_pointer(guest, &mut viewer, &socket);
    for function in guest.pci_functions("1af4:1052").unwrap() {
        guest.unbind("virtio-pci", &function).unwrap();
        // Typed at nobody.
        viewer.tap(0x7a).unwrap();
        guest.bind("virtio-pci", &function).unwrap();
    }
    check_keys(guest, &mut viewer);
    check_pointer(guest, &mut viewer, &socket);
    for function in [&keyboard, &tablet] {
        assert_eq!(function.counter("faults").unwrap(), 0);
        assert_eq!(function.counter("refused_requests").unwrap(), 0);
    }
}
