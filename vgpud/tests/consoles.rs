//! Consoles: started when they are asked for, found again, ended with their vGPUs.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;
#[path = "../../e2e/src/vnc.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "it is the viewer of the whole-guest tests, of which a part is used here"
)]
mod vnc;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use console::password::Password;
use rustix::io::pwrite;
use support::{Daemon, Process, request, uuid, wait_for};
use uuid::Uuid;
use vfu::client::Client as Vmm;
use vgpud::api::{Console, ConsoleRequest, ConsoleTcp, InstanceState};
use vgpud::client::ClientError;
use vnc::{DESKTOP_SIZE, RAW, Viewer};

const SIZE: (u16, u16) = (640, 480);

fn start(daemon: &Daemon, uuid: Uuid) -> Console {
    let console = daemon.client.console(uuid, &ConsoleRequest::default());
    console.unwrap_or_else(|error| panic!("{error}: {}", daemon.log()))
}

fn by_tcp(address: &str, password: &str) -> ConsoleRequest {
    ConsoleRequest {
        head: 0,
        tcp: Some(ConsoleTcp {
            address: address.to_owned(),
            password: password.to_owned(),
        }),
    }
}

fn viewer(console: &Console) -> Viewer {
    let mut viewer = Viewer::connect(Path::new(&console.socket)).unwrap();
    viewer.set_encodings(&[RAW, DESKTOP_SIZE]).unwrap();
    viewer
}

/// A VMM whose guest shows one colour.
fn show(socket: &str, colour: u32) -> Vmm {
    let mut vmm = Vmm::connect(socket.as_ref()).unwrap();
    paint(&mut vmm, colour);
    for (index, value) in [(1, SIZE.0), (2, SIZE.1), (3, 32), (6, SIZE.0), (4, 0x41)] {
        let at = 0x500 + 2 * index;
        vmm.region_write(2, at, &value.to_le_bytes()).unwrap();
    }
    vmm
}

fn paint(vmm: &mut Vmm, colour: u32) {
    let (_, files) = vmm.region_info(0).unwrap();
    let pixels = usize::from(SIZE.0) * usize::from(SIZE.1);
    let bytes = colour.to_le_bytes().repeat(pixels);
    assert_eq!(pwrite(&files[0], &bytes, 0), Ok(bytes.len()));
}

fn sees(viewer: &mut Viewer, colour: u32) {
    let size = (usize::from(SIZE.0), usize::from(SIZE.1));
    let is_so = |viewer: &Viewer| {
        (viewer.width, viewer.height) == size && viewer.pixels.iter().all(|&it| it == colour)
    };
    viewer.wait_until(100, is_so).unwrap();
}

fn refused(answer: Result<Console, ClientError>) -> (String, u16) {
    match answer.unwrap_err() {
        ClientError::Refused(problem) => (problem.errno, problem.status),
        other => panic!("{other}"),
    }
}

#[test]
fn a_vgpu_has_one_console_for_whoever_may_have_the_vgpu() {
    let daemon = Daemon::start();
    let mut asked = request("bochs-4m");
    asked.socket.mode = Some("0660".to_owned());
    let instance = daemon.client.create(uuid(1), &asked).unwrap();
    let console = start(&daemon, uuid(1));
    assert_eq!(console.socket, instance.socket.replace(".sock", ".vnc"));
    assert_eq!(start(&daemon, uuid(1)), console);
    let mode = std::fs::metadata(&console.socket)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    let _vmm = show(&instance.socket, 0x12_34_56);
    let mut viewers = [viewer(&console), viewer(&console)];
    for viewer in &mut viewers {
        assert!(viewer.name.contains(&uuid(1).to_string()));
        sees(viewer, 0x12_34_56);
    }
    let process = Process::open(console.pid);
    daemon.client.end_console(uuid(1), None).unwrap();
    daemon.client.end_console(uuid(1), None).unwrap();
    assert!(process.has_ended(Duration::ZERO));
    assert!(!Path::new(&console.socket).exists());
    // The vGPU goes on, and can have another.
    let other = start(&daemon, uuid(1));
    assert_ne!(other.pid, console.pid);
    sees(&mut viewer(&other), 0x12_34_56);
}

#[test]
fn a_head_that_there_is_not_has_no_console() {
    let daemon = Daemon::start();
    daemon.client.create(uuid(1), &request("bochs-4m")).unwrap();
    let second = ConsoleRequest { head: 1, tcp: None };
    let answer = daemon.client.console(uuid(1), &second);
    assert_eq!(refused(answer), ("EINVAL".to_owned(), 422));
    let console = start(&daemon, uuid(1));
    assert_eq!(console.head, 0);
    daemon.client.end_console(uuid(1), Some(1)).unwrap();
    assert!(Path::new(&console.socket).exists());
    daemon.client.end_console(uuid(1), Some(0)).unwrap();
    assert!(!Path::new(&console.socket).exists());
}

#[test]
fn each_head_has_a_console_which_ends_with_the_vgpu() {
    let daemon = Daemon::start();
    let instance = daemon.client.create(uuid(1), &request("gpu-2d-hd"));
    let socket = instance.unwrap().socket;
    let of_head = |head| ConsoleRequest { head, tcp: None };
    let first = start(&daemon, uuid(1));
    let last = daemon.client.console(uuid(1), &of_head(3)).unwrap();
    assert_eq!(
        (last.head, &last.socket),
        (3, &socket.replace(".sock", ".3.vnc"))
    );
    assert_ne!(first.pid, last.pid);
    assert!(viewer(&last).name.ends_with("head 3"));
    assert_eq!(daemon.client.console(uuid(1), &of_head(3)).unwrap(), last);
    let none = daemon.client.console(uuid(1), &of_head(4));
    assert_eq!(refused(none), ("EINVAL".to_owned(), 422));
    let processes = [first.pid, last.pid].map(Process::open);
    daemon.client.stop(uuid(1), false).unwrap();
    for (process, console) in processes.iter().zip([first, last]) {
        assert!(process.has_ended(Duration::ZERO));
        assert!(!Path::new(&console.socket).exists());
    }
}

#[test]
fn it_ends_with_its_vgpu_and_leaves_nothing() {
    let daemon = Daemon::start();
    for stop in [
        |daemon: &Daemon| daemon.client.stop(uuid(1), false).map(drop),
        |daemon: &Daemon| daemon.client.destroy(uuid(1), false),
    ] {
        daemon.create(uuid(1), "bochs-4m");
        daemon.client.start(uuid(1)).unwrap();
        let console = start(&daemon, uuid(1));
        let process = Process::open(console.pid);
        stop(&daemon).unwrap();
        assert!(process.has_ended(Duration::ZERO));
        assert!(!Path::new(&console.socket).exists());
    }
    assert_eq!(daemon.run_files(), [""; 0]);
}

#[test]
fn what_runs_not_has_none() {
    let daemon = Daemon::start();
    let none = daemon.client.console(uuid(1), &ConsoleRequest::default());
    assert_eq!(refused(none), ("ENODEV".to_owned(), 404));
    assert!(daemon.client.end_console(uuid(1), None).is_err());
    daemon.create(uuid(1), "bochs-4m");
    daemon.client.stop(uuid(1), false).unwrap();
    let stopped = daemon.client.console(uuid(1), &ConsoleRequest::default());
    assert_eq!(refused(stopped), ("ENXIO".to_owned(), 409));
}

#[test]
fn by_tcp_it_is_reached_where_it_was_asked_for_with_the_password() {
    let daemon = Daemon::start();
    let instance = daemon.create(uuid(1), "bochs-4m");
    let _vmm = show(&instance.socket, 0x77_66_55);
    let bad = daemon.client.console(uuid(1), &by_tcp("127.0.0.1:0", ""));
    assert_eq!(refused(bad), ("EINVAL".to_owned(), 422));
    let asked = by_tcp("127.0.0.1:0", "geheim");
    let console = daemon.client.console(uuid(1), &asked).unwrap();
    let address = console.tcp.as_deref().unwrap().parse().unwrap();
    let knows = |text: &str| {
        let password = Password::new(text).unwrap();
        move |challenge| password.answer(challenge)
    };
    assert!(Viewer::connect_tcp(address, &knows("another")).is_err());
    let mut viewer = Viewer::connect_tcp(address, &knows("geheim")).unwrap();
    sees(&mut viewer, 0x77_66_55);
    // The same is asked for once more; or not by TCP; or elsewhere.
    assert_eq!(daemon.client.console(uuid(1), &asked).unwrap(), console);
    assert_eq!(start(&daemon, uuid(1)), console);
    let elsewhere = daemon
        .client
        .console(uuid(1), &by_tcp("127.0.0.2:0", "geheim"));
    assert_eq!(refused(elsewhere), ("EBUSY".to_owned(), 409));
    // The password is nowhere to be read.
    let pid = console.pid;
    let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let note = std::fs::read_to_string(daemon.path(format!("run/vgpud/{}.console", uuid(1))));
    assert!(!arguments.contains("geheim") && !note.unwrap().contains("geheim"));
}

#[test]
fn viewers_stay_through_a_daemon_that_is_killed_an_upgrade_and_a_crash() {
    let mut daemon = Daemon::start();
    let instance = daemon.create(uuid(1), "bochs-4m");
    let mut vmm = show(&instance.socket, 0x11_11_11);
    let console = start(&daemon, uuid(1));
    let mut viewer = viewer(&console);
    sees(&mut viewer, 0x11_11_11);
    daemon.kill();
    paint(&mut vmm, 0x22_22_22);
    sees(&mut viewer, 0x22_22_22);
    daemon.start_again();
    assert_eq!(start(&daemon, uuid(1)), console);
    // It may not have been adopted yet.
    wait_for("an upgrade", || daemon.client.upgrade(uuid(1)).ok());
    paint(&mut vmm, 0x33_33_33);
    sees(&mut viewer, 0x33_33_33);
    Process::open(daemon.client.instance(uuid(1)).unwrap().pid.unwrap()).kill();
    wait_for("a recovery", || {
        let instance = daemon.client.instance(uuid(1)).unwrap();
        (instance.recoveries == 1 && instance.state == InstanceState::Running).then_some(())
    });
    paint(&mut vmm, 0x44_44_44);
    sees(&mut viewer, 0x44_44_44);
    assert_eq!(start(&daemon, uuid(1)), console);
    // Though this daemon has not started it.
    let process = Process::open(console.pid);
    daemon.client.destroy(uuid(1), true).unwrap();
    assert!(process.has_ended(Duration::ZERO));
    assert_eq!(daemon.run_files(), [""; 0]);
}

#[test]
fn one_that_was_killed_is_replaced() {
    let daemon = Daemon::start();
    daemon.create(uuid(1), "bochs-4m");
    let console = start(&daemon, uuid(1));
    Process::open(console.pid).kill();
    wait_for("its files to go", || {
        (!Path::new(&console.socket).exists()).then_some(())
    });
    let other = start(&daemon, uuid(1));
    assert_ne!(other.pid, console.pid);
    viewer(&other);
}
