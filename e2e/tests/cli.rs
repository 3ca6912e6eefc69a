//! The command line and the control socket, as users and programs meet them. No guest is needed.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::{Process, Programs, Vgpu};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with, sockopt,
};
use rustix::process::Signal;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// For a program to come up or end, and for a peer to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Where no daemon listens, whatever else runs here.
const NO_DAEMON: &str = "/nonexistent/api.sock";

/// `vgpu` with arguments, its words going to a log in `dir`.
fn start(dir: &Path, arguments: &[&str]) -> Result<Process> {
    let mut command = Command::new(Programs::from_env()?.ours("vgpu"));
    command.args(arguments);
    Ok(Process::spawn(command, &dir.join("vgpu.log"))?)
}

/// Runs `vgpu` to its end; returns its exit status and its words.
fn run(arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let dir = tempfile::tempdir()?;
    let mut vgpu = start(dir.path(), arguments)?;
    let status = vgpu.wait_exit(LIMIT)?;
    Ok((status.code(), vgpu.log()))
}

/// A VERSION message with no capabilities; vfio-user 0.9, "VFIO_USER_VERSION".
fn version_message(id: u16) -> Vec<u8> {
    let json = b"{}\0";
    let mut message = id.to_le_bytes().to_vec();
    message.extend(1_u16.to_le_bytes());
    message.extend((16 + 4 + json.len() as u32).to_le_bytes());
    message.extend([0; 8]); // flags: a command; no error
    message.extend([0; 4]); // version 0.0
    message.extend(json);
    message
}

/// Has a connection agree on a version.
fn shake_hands(mut socket: &UnixStream) -> Result<()> {
    socket.set_read_timeout(Some(LIMIT))?;
    socket.write_all(&version_message(7))?;
    let mut header = [0; 16];
    socket.read_exact(&mut header)?;
    assert_eq!(header[..4], [7, 0, 1, 0], "the id and VERSION come back");
    assert_eq!(header[8..], [1, 0, 0, 0, 0, 0, 0, 0], "a reply, no error");
    let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    socket.read_exact(&mut vec![0; len as usize - header.len()])?;
    Ok(())
}

/// A control connection, by hand.
struct Asker(OwnedFd);

impl Asker {
    fn connect(path: &Path) -> Result<Self> {
        let kind = SocketType::SEQPACKET;
        let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(LIMIT))?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(socket))
    }

    /// The answer to a packet; `None` if the connection was closed instead.
    fn ask(&self, packet: &[u8]) -> Result<Option<Value>> {
        send(&self.0, packet, SendFlags::NOSIGNAL)?;
        let mut answer = vec![0; 64 << 10];
        let (_, len) = recv(&self.0, &mut answer, RecvFlags::empty())?;
        match len {
            0 => Ok(None),
            _ => Ok(Some(serde_json::from_slice(&answer[..len])?)),
        }
    }
}

#[test]
fn types_are_listed_for_people_and_for_programs() {
    let (status, words) = run(&["types", "--api", NO_DAEMON]).unwrap();
    assert_eq!(status, Some(0), "{words}");
    let first_words: Vec<_> = words
        .lines()
        .filter(|line| !line.starts_with("vgpu: cannot reach the daemon"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let (status, json) = run(&["types", "--json", "--api", NO_DAEMON]).unwrap();
    assert_eq!(status, Some(0), "{json}");
    let rows: Vec<Value> = serde_json::from_str(&json).unwrap();
    let names: Vec<_> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(first_words, names);
    for (name, bytes) in [
        ("bochs-4m", 4 << 20),
        ("bochs-16m", 16 << 20),
        ("bochs-64m", 64 << 20),
        ("serial-1", 0),
        ("serial-2", 0),
        ("edu-1", 0),
    ] {
        let row = rows.iter().find(|row| row["name"] == name).unwrap();
        assert_eq!(row["video_memory"], bytes, "{row}");
        assert!(row["title"].is_string() && row["description"].is_string());
    }
}

/// `vgpu run` with arguments ends with `code` and words that hold `expected`, and makes no socket
/// at `SOCK`, which stands for a path of the caller's.
fn check_refusals(sock: &str, cases: &[(&str, i32, &str)]) -> Result<()> {
    for (arguments, code, expected) in cases {
        let arguments = format!("run {arguments}").replace("SOCK", sock);
        let (status, words) = run(&arguments.split(' ').collect::<Vec<_>>())?;
        assert_eq!(status, Some(*code), "{arguments}: {words}");
        assert!(words.contains(expected), "{arguments}: {words}");
        assert!(!Path::new(sock).exists(), "{arguments}");
    }
    Ok(())
}

#[test]
fn a_vgpu_that_cannot_be_built_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let sock = dir.path().join("sock").display().to_string();
    let cases = [
        (
            "--type bochs-5m --socket-path SOCK",
            2,
            "no type 'bochs-5m'; 'vgpu types' lists",
        ),
        (
            "--type bochs-4m --socket-path SOCK -o hue=1",
            2,
            "no attribute 'hue'",
        ),
        (
            "--type bochs-4m --socket-path SOCK -o mode=1024x768",
            2,
            "'mode' cannot be '1024x768'",
        ),
        (
            "--type bochs-4m --socket-path SOCK -o mode",
            2,
            "what is wanted is NAME=VALUE",
        ),
        ("--type bochs-4m", 2, "--socket-path"),
        ("--socket-path SOCK", 2, "--type"),
        (
            "--type bochs-4m --fd 3 --socket-path SOCK",
            2,
            "cannot be used with",
        ),
    ];
    check_refusals(&sock, &cases).unwrap();
}

#[test]
fn a_vgpu_that_cannot_have_its_socket_says_why_and_harms_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (sock, file, long) = (path("sock"), path("file"), path(&"x".repeat(200)));
    std::fs::write(&file, "precious").unwrap();
    let run_at = |options: &str| format!("--type serial-1 {options}");
    let nowhere = run_at(&format!("--socket-path {}", path("none/sock")));
    let no_socket = run_at(&format!("--socket-path {file}"));
    let too_long = run_at(&format!("--socket-path {long}"));
    let no_control = run_at(&format!("--socket-path SOCK --control {file}"));
    let (standard, closed) = (run_at("--fd 2"), run_at("--fd 99"));
    let cases = [
        (nowhere.as_str(), 1, "cannot open the folder"),
        (&no_socket, 1, "is there, and is no socket"),
        (&too_long, 1, &long),
        (&no_control, 1, "is there, and is no socket"),
        (&standard, 1, "--fd 2: "),
        (&closed, 1, "--fd 99 is not an open descriptor"),
    ];
    check_refusals(&sock, &cases).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn a_vgpu_ends_well_on_a_signal_or_when_told_and_leaves_no_socket() {
    let programs = Programs::from_env().unwrap();
    for signal in [Some(Signal::TERM), Some(Signal::INT), None] {
        let mut vgpu = Vgpu::run(&programs, "bochs-4m", &[]).unwrap();
        let client = UnixStream::connect(vgpu.socket()).unwrap();
        shake_hands(&client).unwrap();
        match signal {
            Some(signal) => vgpu.process().signal(signal).unwrap(),
            None => drop(vgpu.ask("stop", &[]).unwrap()),
        }
        let status = vgpu.process().wait_exit(LIMIT).unwrap();
        assert_eq!(status.code(), Some(0), "{signal:?}");
        assert!(!vgpu.socket().exists(), "{signal:?}");
        assert!(!vgpu.control().exists(), "{signal:?}");
        assert_eq!((&client).read(&mut [0]).unwrap(), 0, "{signal:?}");
    }
}

#[test]
fn the_path_of_a_dead_server_is_taken_over_and_that_of_a_live_one_is_not() {
    let programs = Programs::from_env().unwrap();
    let mut vgpu = Vgpu::run(&programs, "bochs-4m", &[]).unwrap();
    let client = UnixStream::connect(vgpu.socket()).unwrap();
    shake_hands(&client).unwrap();
    let socket = vgpu.socket().display().to_string();
    let control = vgpu.control().display().to_string();
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other").display().to_string();
    for (arguments, taken) in [
        (["--socket-path", &socket, "--control", &other], &socket),
        (["--socket-path", &other, "--control", &control], &control),
    ] {
        let all = [&["run", "--type", "serial-1"][..], &arguments].concat();
        let (status, words) = run(&all).unwrap();
        assert_eq!(status, Some(1), "{words}");
        let expected = format!("another process serves {taken}");
        assert!(words.contains(&expected), "{words}");
        assert!(!Path::new(&other).exists());
    }
    let status = vgpu.status().unwrap();
    assert_eq!(status["connected"], true, "{status}");
    assert_eq!(status["counters"]["refused_clients"], 0, "{status}");

    drop(client);
    vgpu.kill_and_run_again().unwrap();
    let client = UnixStream::connect(vgpu.socket()).unwrap();
    shake_hands(&client).unwrap();
    vgpu.terminate().unwrap();
}

/// QEMU counts the ids of all its connections as one, and aborts on a reply to what it has not
/// asked, as on a connection that is reset.
#[test]
fn a_second_client_is_refused_once_it_has_asked_and_by_the_id_it_used() {
    let programs = Programs::from_env().unwrap();
    let vgpu = Vgpu::run(&programs, "bochs-4m", &[]).unwrap();
    let first = UnixStream::connect(vgpu.socket()).unwrap();
    shake_hands(&first).unwrap();
    for (refused, id) in (1..).zip([0, 1, 0x1234]) {
        let mut second = UnixStream::connect(vgpu.socket()).unwrap();
        second.set_read_timeout(Some(LIMIT)).unwrap();
        second.write_all(&version_message(id)).unwrap();
        let mut answer = Vec::new();
        second.read_to_end(&mut answer).unwrap();
        let [low, high] = id.to_le_bytes();
        let expected = [low, high, 1, 0, 16, 0, 0, 0, 0x21, 0, 0, 0, 16, 0, 0, 0];
        assert_eq!(answer, expected, "an error reply: EBUSY");
        assert_eq!(vgpu.counter("refused_clients").unwrap(), refused);
    }
}

/// Runs a vGPU on an inherited socket.
fn run_on(dir: &Path, socket: impl Into<OwnedFd>) -> Result<Process> {
    // Whatever else this process starts meanwhile inherits it as well. No harm: it is a server's
    // end, which keeps nobody from seeing that a client's end was closed.
    let inherited = socket.into();
    fcntl_setfd(&inherited, FdFlags::empty())?;
    let number = inherited.as_raw_fd().to_string();
    let control = dir.join("control").display().to_string();
    let arguments = [
        "run",
        "--type",
        "serial-1",
        "--fd",
        &number,
        "--control",
        &control,
    ];
    let mut vgpu = start(dir, &arguments)?;
    vgpu.wait_path(Path::new(&control), LIMIT)?;
    Ok(vgpu)
}

#[test]
fn an_inherited_listener_serves_client_after_client() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs");
    let listener = UnixListener::bind(&path).unwrap();
    let mut vgpu = run_on(dir.path(), listener).unwrap();
    for _ in 0..3 {
        let client = UnixStream::connect(&path).unwrap();
        shake_hands(&client).unwrap();
    }
    vgpu.signal(Signal::TERM).unwrap();
    assert_eq!(vgpu.wait_exit(LIMIT).unwrap().code(), Some(0));
    // Whoever made the path keeps it.
    assert!(path.exists());
}

#[test]
fn a_vgpu_on_an_inherited_connection_ends_with_its_client() {
    let dir = tempfile::tempdir().unwrap();
    let (client, server) = UnixStream::pair().unwrap();
    let mut vgpu = run_on(dir.path(), server).unwrap();
    shake_hands(&client).unwrap();
    assert!(vgpu.ended().unwrap().is_none());
    drop(client);
    assert_eq!(vgpu.wait_exit(LIMIT).unwrap().code(), Some(0));
    assert!(!dir.path().join("control").exists());
}

#[test]
fn a_vgpu_tells_how_it_is_and_takes_new_attributes() {
    let programs = Programs::from_env().unwrap();
    let vgpu = Vgpu::run(&programs, "bochs-16m", &["-o", "mode=1280x720"]).unwrap();
    let mut status = vgpu.status().unwrap();
    let counters = status["counters"].take();
    let pid = status["pid"].take();
    let sandbox = status["sandbox"].take();
    assert_eq!(sandbox["capabilities"], 0, "{sandbox}");
    assert_eq!(sandbox["no_new_privs"], true, "{sandbox}");
    assert!(pid.as_u64().is_some_and(|pid| pid > 1), "{pid}");
    let expected = json!({
        "type": "bochs-16m",
        "pid": null,
        "connected": false,
        "scanout": null,
        "attributes": [{ "name": "mode", "value": "1280x720" }],
        "counters": null,
        "sandbox": null,
        "mappings": 0,
        "pinned_pages": 0,
    });
    assert_eq!(status, expected);
    let counters = counters.as_object().unwrap();
    assert!(counters.values().all(|value| *value == 0), "{counters:?}");
    for name in [
        "sessions",
        "refused_clients",
        "requests",
        "faults",
        "interrupts",
    ] {
        assert!(counters.contains_key(name), "{name}");
    }
    let words = vgpu.ask("status", &[]).unwrap();
    assert!(words.contains("bochs-16m") && words.contains("1280x720"));

    vgpu.ask("set", &["mode=800x600"]).unwrap();
    let value = &vgpu.status().unwrap()["attributes"][0]["value"];
    assert_eq!(value, "800x600");
    for (assignment, expected) in [
        ("mode=8000x600", "'mode' cannot be '8000x600'"),
        ("hue=1", "no attribute 'hue'"),
        ("mode", "an attribute is NAME=VALUE"),
    ] {
        let error = vgpu.ask("set", &[assignment]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let value = &vgpu.status().unwrap()["attributes"][0]["value"];
    assert_eq!(value, "800x600");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("screen.png");
    let error = vgpu.save_screenshot(&file).unwrap_err().to_string();
    assert!(error.contains("nothing is shown"), "{error}");
    assert!(!file.exists());

    let nobody = dir.path().join("nobody").display().to_string();
    for command in ["status", "stop"] {
        let (status, words) = run(&[command, "--control", &nobody]).unwrap();
        assert_eq!(status, Some(1), "{words}");
        assert!(words.contains(&nobody), "{words}");
    }
}

#[test]
fn a_bad_asker_is_told_or_cut_off_and_a_good_one_is_answered() {
    let programs = Programs::from_env().unwrap();
    let vgpu = Vgpu::run(&programs, "bochs-4m", &[]).unwrap();
    let connect = || Asker::connect(&vgpu.control());
    let good = json!({ "version": 1, "request": "status" }).to_string();

    let asker = connect().unwrap();
    for (packet, errno) in [
        (r#"{"version":2,"request":"status"}"#.to_owned(), "EPROTO"),
        (r#"{"version":1,"request":"dance"}"#.to_owned(), "EINVAL"),
        (r#"{"version":1}"#.to_owned(), "EINVAL"),
        (r#"{"request":"status"}"#.to_owned(), "EINVAL"),
        (
            r#"{"version":1,"request":"set-attribute","name":"mode"}"#.to_owned(),
            "EINVAL",
        ),
        (r#"{"version":1,"request":"scanout"}"#.to_owned(), "ENODATA"),
        ("\u{0}\u{1}\u{7f}".to_owned(), "EINVAL"),
        (good.clone() + "{}", "EINVAL"),
        ("[".repeat(60_000), "EINVAL"),
    ] {
        let shown = &packet[..packet.len().min(80)];
        let answer = asker.ask(packet.as_bytes()).unwrap().unwrap();
        assert_eq!(answer["answer"], "error", "{shown}");
        assert_eq!(answer["errno"], errno, "{shown}: {answer}");
        assert!(answer["message"].is_string(), "{answer}");
        // On the same connection.
        let answer = asker.ask(good.as_bytes()).unwrap().unwrap();
        assert_eq!(answer["answer"], "status", "{shown}");
    }

    let asker = connect().unwrap();
    assert_eq!(asker.ask(&[b' '; 100_000]).unwrap(), None);

    // More who say nothing than are listened to: the last one has its turn when some have gone.
    let silent: Vec<_> = (0..40).map(|_| connect().unwrap()).collect();
    drop(silent);
    let mut status = vgpu.status();
    for _ in 0..50 {
        if status.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        status = vgpu.status();
    }
    assert_eq!(status.unwrap()["type"], "bochs-4m");
}
