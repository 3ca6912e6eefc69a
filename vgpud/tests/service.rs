//! The daemon under a service manager: a socket is passed, and what is told back.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use support::{Daemon, request, uuid};
use vgpud::api::{DefinitionRequest, StartMode};

/// How long a message of the daemon's may take. Nothing is timed: this only ends a hang.
const LIMIT: Duration = Duration::from_secs(60);

/// A command that starts `vgpud` as systemd does, with what is passed, and with a number of
/// descriptors that it is told of.
fn passing(passed: Vec<OwnedFd>, told: usize) -> Command {
    let mut command = Command::new("sh");
    let script = "export LISTEN_PID=$$; exec \"$@\"";
    command
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_vgpud")])
        .env("LISTEN_FDS", told.to_string());
    let mappings = passed.into_iter().zip(3..);
    let mappings = mappings.map(|(parent_fd, child_fd)| FdMapping {
        parent_fd,
        child_fd,
    });
    command.fd_mappings(mappings.collect()).unwrap();
    command
}

/// A service manager: it has made the API's socket, and listens to what the daemon tells.
struct Manager {
    daemon: Daemon,
    socket: UnixListener,
    told: UnixDatagram,
}

impl Manager {
    fn start(config: &str) -> Self {
        let mut daemon = Daemon::start_with(config);
        daemon.terminate();
        let told = UnixDatagram::bind(daemon.path("notify")).unwrap();
        told.set_read_timeout(Some(LIMIT)).unwrap();
        let path = daemon.path("run/vgpud/api.sock");
        assert!(!path.exists(), "a socket that it made goes with it");
        let socket = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        Self {
            daemon,
            socket,
            told,
        }
    }

    fn start_daemon(&mut self) {
        let mut command = passing(vec![self.socket.try_clone().unwrap().into()], 1);
        command.env("NOTIFY_SOCKET", self.daemon.path("notify"));
        self.daemon.start_from(command);
    }

    /// The next message, its lines.
    fn next(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let length = self.told.recv(&mut message).unwrap();
        let text = String::from_utf8(message[..length].to_vec()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Takes messages up to this one.
    fn wait(&self, line: &str) {
        while !self.next().iter().any(|told| told == line) {}
    }
}

#[test]
fn a_socket_that_is_passed_is_served_and_stays_whose_it_is() {
    // Whose it is, is not the configuration's to say.
    let mut manager = Manager::start("[api]\nmode = \"0666\"");
    let path = manager.daemon.path("run/vgpud/api.sock");
    let before = fs::metadata(&path).unwrap();
    // Asked while no daemon is there, as whoever has it started by that.
    let mut early = UnixStream::connect(&path).unwrap();
    early
        .write_all(b"GET /v1/parents HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    for _ in 0..2 {
        manager.start_daemon();
        manager.wait("READY=1");
        manager.daemon.terminate();
        manager.wait("STOPPING=1");
        let after = fs::metadata(&path).unwrap();
        assert_eq!(
            (after.ino(), after.mode(), after.ctime_nsec()),
            (before.ino(), before.mode(), before.ctime_nsec())
        );
    }
    let mut answer = String::new();
    early.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(manager.daemon.log().contains("api.mode"));
}

#[test]
fn it_is_ready_once_what_lives_is_adopted_and_what_is_to_run_runs() {
    let mut manager = Manager::start("");
    manager.start_daemon();
    assert_eq!(manager.next(), ["READY=1", "STATUS=0 vGPUs, 0 running"]);
    let instance = manager.daemon.create(uuid(1), "serial-1");
    manager.wait("STATUS=1 vGPU, 1 running");
    let pid = instance.pid.unwrap();
    if rustix::process::geteuid().is_root() {
        // Neither where it is to be told, nor what was passed.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert_eq!(String::from_utf8_lossy(&environment), "");
    }
    let automatic = DefinitionRequest {
        type_name: "edu-1".to_owned(),
        start: StartMode::Auto,
        attributes: Vec::new(),
    };
    let client = &manager.daemon.client;
    client.define("soft0", uuid(2), &automatic).unwrap();
    manager.daemon.terminate();
    manager.wait("STOPPING=1");
    manager.start_daemon();
    assert_eq!(manager.next(), ["READY=1", "STATUS=2 vGPUs, 2 running"]);
    let log = manager.daemon.log();
    let adopted = log.rfind("Adopted").unwrap();
    assert!(log[adopted..].contains("Started"), "{log}");
    let client = &manager.daemon.client;
    assert_eq!(client.instance(uuid(1)).unwrap().pid, Some(pid));
    client.destroy(uuid(2), false).unwrap();
    manager.wait("STATUS=1 vGPU, 1 running");
}

/// The daemon ends with words, and has made nothing.
fn refuses(passed: Vec<OwnedFd>, told: usize, words: &str) {
    let root = tempfile::tempdir().unwrap();
    let output = passing(passed, told)
        .arg("--root")
        .arg(root.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}: {said}");
    assert!(said.contains(words), "{words}: {said}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "{words}");
}

fn listener(path: &Path) -> OwnedFd {
    UnixListener::bind(path).unwrap().into()
}

#[test]
fn what_is_passed_and_is_no_socket_for_the_api_is_refused_with_words() {
    let dir = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    refuses(vec![tcp.into()], 1, "no UNIX socket");
    let datagram = UnixDatagram::bind(dir.path().join("d")).unwrap();
    refuses(vec![datagram.into()], 1, "no stream socket");
    let (connected, _other) = UnixStream::pair().unwrap();
    refuses(vec![connected.into()], 1, "does not listen");
    let file = File::open("/dev/null").unwrap();
    refuses(vec![file.into()], 1, "no socket");
    let two = ["a", "b"].map(|name| listener(&dir.path().join(name)));
    refuses(two.into(), 2, "2 sockets were passed");
    let one = listener(&dir.path().join("c"));
    refuses(vec![one], 1000, "that are not there");
}

#[test]
fn what_was_passed_to_another_process_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let other = listener(&dir.path().join("other"));
    let mut daemon = Daemon::start();
    daemon.terminate();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vgpud"));
    command.env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
    let mapping = FdMapping {
        parent_fd: other,
        child_fd: 3,
    };
    command.fd_mappings(vec![mapping]).unwrap();
    daemon.start_from(command);
    assert!(daemon.path("run/vgpud/api.sock").exists());
    daemon.client.create(uuid(1), &request("serial-1")).unwrap();
}
