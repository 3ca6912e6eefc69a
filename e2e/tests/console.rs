//! What a guest shows, seen through VNC.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::vnc::{
    CURSOR, CURSOR_WITH_ALPHA, DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE, Part, RAW, Viewer, ZRLE,
};
use e2e::{Daemon, Machine, Process, Programs, Screen, Vgpu};
use serde_json::json;

const ID: &str = "1234:1111";

/// How long a program may take to start, and to end.
const LIMIT: Duration = Duration::from_secs(20);

/// Updates that a viewer asks for, before what it waits for has not come: some seconds' worth.
const UPDATES: usize = 500;

fn viewer(socket: &Path, encodings: &[i32]) -> Viewer {
    let mut viewer = Viewer::connect(socket).unwrap();
    viewer.set_encodings(encodings).unwrap();
    viewer
}

fn screen(viewer: &Viewer) -> Screen {
    Screen::from_pixels(viewer.width as u32, viewer.pixels.clone())
}

/// Waits until a viewer sees the test picture of `seed`, all of it.
fn sees(viewer: &mut Viewer, size: (u32, u32), seed: u32) {
    let is_so = |viewer: &Viewer| {
        let screen = screen(viewer);
        screen.size() == size && screen.differs_from_pattern(seed).is_none()
    };
    viewer.wait_until(UPDATES, is_so).unwrap();
}

#[test]
fn viewers_see_what_the_guest_draws_in_whatever_mode_and_through_a_reboot() {
    let programs = Programs::from_env().unwrap();
    let display = Vgpu::run(&programs, "bochs-16m", &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("vnc");
    let mut command = Command::new(programs.ours("vgpu"));
    command
        .args(["console", "--control"])
        .arg(display.control());
    command.arg("--socket-path").arg(&socket);
    let mut console = Process::spawn(command, &folder.path().join("log")).unwrap();
    console.wait_path(&socket, LIMIT).unwrap();
    // Before there is a guest.
    let mut viewers = [
        viewer(&socket, &[RAW, DESKTOP_SIZE]),
        viewer(&socket, &[ZRLE, EXTENDED_DESKTOP_SIZE]),
    ];
    let mut vm = Machine::new(&programs)
        .module("bochs")
        .vfio_user(&display.socket(), &json!({}))
        .boot()
        .unwrap();
    let guest = &mut vm.guest;
    let function = guest.pci_functions(ID).unwrap().concat();
    let card = guest.card_of(&function).unwrap();

    let line = "Pack my box with five dozen liquor jugs: 0123456789 <[{}]>";
    guest.say(line).unwrap();
    let font = guest.font().unwrap();
    for viewer in &mut viewers {
        let is_so = |viewer: &Viewer| screen(viewer).shows(&font, line);
        viewer.wait_until(UPDATES, is_so).unwrap();
    }
    for (seed, size) in [(1, (1920, 1080)), (2, (1280, 1024)), (3, (640, 480))] {
        let picture = guest.draw(&card, size, seed).unwrap();
        for viewer in &mut viewers {
            sees(viewer, size, seed);
            assert!(screen(viewer) == display.screenshot().unwrap());
        }
        guest.release(picture).unwrap();
    }
    guest.reboot().unwrap();
    let card = guest.card_of(&function).unwrap();
    let picture = guest.draw(&card, (1024, 768), 4).unwrap();
    for viewer in &mut viewers {
        sees(viewer, (1024, 768), 4);
    }
    drop(picture);
    drop(vm);
    // The last picture stays, for who comes now.
    sees(&mut viewer(&socket, &[ZRLE, DESKTOP_SIZE]), (1024, 768), 4);
    display.terminate().unwrap();
    // It ends with its vGPU.
    assert!(console.wait_exit(LIMIT).unwrap().success());
    assert!(!socket.exists());
}

/// What came of a viewer's wish for another size, as RFB numbers it.
fn wish(viewer: &mut Viewer, width: u16, height: u16) -> u16 {
    viewer.set_size(width, height).unwrap();
    let is_answer = |part: &&Part| part.encoding == EXTENDED_DESKTOP_SIZE && part.rect[0] == 1;
    for _ in 0..UPDATES {
        viewer.request(true).unwrap();
        let parts = viewer.update().unwrap();
        if let Some(answer) = parts.iter().find(is_answer) {
            return answer.rect[1];
        }
    }
    panic!("no answer");
}

#[test]
fn a_viewer_asks_the_guest_for_a_size_and_sees_it_draw_in_that() {
    let programs = Programs::from_env().unwrap();
    let daemon = Daemon::run(&programs).unwrap();
    let instance = daemon.start("gpu-2d-hd", &[]).unwrap();
    let printed = daemon.vgpu("console", &[&instance.uuid]).unwrap();
    let socket = Path::new(printed.lines().next().unwrap());
    let mut viewer = viewer(socket, &[ZRLE, EXTENDED_DESKTOP_SIZE]);
    let mut vm = Machine::new(&programs)
        .module("virtio-pci")
        .module("virtio-gpu")
        .vfio_user(&instance.socket, &json!({}))
        .boot()
        .unwrap();
    let guest = &mut vm.guest;
    // Not one of the sizes that a monitor usually has.
    assert_eq!(wish(&mut viewer, 1208, 632), 4, "forwarded");
    guest
        .wait_for("guest modes /dev/dri/card0 | head -n 1 | grep -q '^1208x632@'")
        .unwrap();
    let picture = guest.draw("card0", (1208, 632), 1).unwrap();
    sees(&mut viewer, (1208, 632), 1);
    // More than the type allows is refused, and changes nothing.
    assert_eq!(wish(&mut viewer, 4000, 3000), 3, "invalid");
    let modes = guest.modes("card0").unwrap();
    assert!(modes[0].starts_with("1208x632@"), "{modes:?}");
    guest.release(picture).unwrap();
}

#[test]
fn a_console_of_the_daemon_outlives_it_and_workers_under_a_running_guest() {
    let programs = Programs::from_env().unwrap();
    let mut daemon = Daemon::run(&programs).unwrap();
    let instance = daemon.start("bochs-4m", &[]).unwrap();
    let printed = daemon.vgpu("console", &[&instance.uuid]).unwrap();
    let socket = Path::new(printed.lines().next().unwrap());
    assert_eq!(socket, instance.socket.with_extension("vnc"));
    let mut viewer = viewer(socket, &[ZRLE, EXTENDED_DESKTOP_SIZE]);
    let mut vm = Machine::new(&programs)
        .module("bochs")
        .vfio_user(&instance.socket, &json!({}))
        .boot()
        .unwrap();
    let guest = &mut vm.guest;
    let function = guest.pci_functions(ID).unwrap().concat();
    let card = guest.card_of(&function).unwrap();
    let mut check = |daemon: &Daemon, viewer: &mut Viewer, size, seed| {
        let picture = guest.draw(&card, size, seed).unwrap();
        sees(viewer, size, seed);
        let folder = tempfile::tempdir().unwrap();
        let shot = daemon.screenshot(&instance, &folder.path().join("png"));
        assert!(screen(viewer) == shot.unwrap());
        guest.release(picture).unwrap();
    };
    check(&daemon, &mut viewer, (800, 600), 1);
    daemon.kill_and_restart().unwrap();
    check(&daemon, &mut viewer, (640, 480), 2);
    assert_eq!(daemon.vgpu("console", &[&instance.uuid]).unwrap(), printed);
    // It may not have been adopted yet.
    let upgraded = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        daemon.vgpu("upgrade", &[&instance.uuid]).is_ok()
    });
    assert!(upgraded);
    check(&daemon, &mut viewer, (800, 600), 3);
    daemon.vgpu("stop", &["--force", &instance.uuid]).unwrap();
    assert!(viewer.wait_until(UPDATES, |_| false).is_err());
    assert!(!socket.exists());
}

#[test]
fn a_viewer_is_shown_the_cursor_of_the_guest() {
    let programs = Programs::from_env().unwrap();
    let daemon = Daemon::run(&programs).unwrap();
    let instance = daemon.start("gpu-2d-hd", &[]).unwrap();
    let printed = daemon.vgpu("console", &[&instance.uuid]).unwrap();
    let socket = Path::new(printed.lines().next().unwrap());
    let mut vm = Machine::new(&programs)
        .module("virtio-pci")
        .module("virtio-gpu")
        .vfio_user(&instance.socket, &json!({}))
        .boot()
        .unwrap();
    let guest = &mut vm.guest;
    let mut viewers = [
        viewer(socket, &[ZRLE, DESKTOP_SIZE, CURSOR_WITH_ALPHA]),
        viewer(socket, &[ZRLE, DESKTOP_SIZE, CURSOR]),
    ];
    for at in [(100, 50), (300, 200)] {
        let picture = guest
            .draw_heads("card0", &[(1024, 768)], 1, Some(at))
            .unwrap();
        for viewer in &mut viewers {
            let is_so = |viewer: &Viewer| {
                let cursor = viewer.cursor.as_ref();
                cursor.is_some_and(|cursor| cursor.width == 64)
            };
            viewer.wait_until(UPDATES, is_so).unwrap();
        }
        guest.release(picture).unwrap();
        for viewer in &mut viewers {
            let is_gone = |viewer: &Viewer| {
                let cursor = viewer.cursor.as_ref();
                cursor.is_none_or(|cursor| cursor.width == 0)
            };
            viewer.wait_until(UPDATES, is_gone).unwrap();
        }
    }
}
