//! Who may use the API, and a configuration that says what makes no sense.

mod support;

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use support::Daemon;
use support::host::{command, powerless};
use support::http::{TOKEN, exchange};

#[test]
fn the_api_is_its_owners_unless_the_configuration_says_otherwise() {
    for (config, mode) in [
        ("", 0o600),
        ("[api]\nmode = \"0660\"", 0o660),
        ("[api]\nmode = \"666\"", 0o666),
        // What vGPUs' sockets are is their own matter.
        ("[sockets]\nmode = \"0666\"", 0o600),
    ] {
        let daemon = Daemon::start_with(config);
        let socket = fs::metadata(daemon.path("run/vgpud/api.sock")).unwrap();
        assert_eq!(socket.permissions().mode() & 0o777, mode, "{config}");
        let records = fs::metadata(daemon.path("var/lib/vgpud/instances")).unwrap();
        assert_eq!(records.permissions().mode() & 0o777, 0o700, "{config}");
    }
}

#[test]
fn who_may_not_use_the_api_is_told_what_to_do_and_changes_nothing() {
    let daemon = Daemon::start();
    let before = daemon.everything();
    let socket = daemon.path("run/vgpud/api.sock");
    let allow = |mode| fs::set_permissions(&socket, fs::Permissions::from_mode(mode)).unwrap();
    allow(0);
    let output = command(powerless(), env!("CARGO_BIN_EXE_vgpu"))
        .args(["start", "--parent", "soft0", "--type", "edu-1"])
        .env("VGPUD_API", &socket)
        .output()
        .unwrap();
    allow(0o600);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("Permission denied"), "{said}");
    assert!(said.contains("in the group that owns the socket"), "{said}");
    assert_eq!(daemon.everything(), before);
}

#[test]
fn over_tcp_each_request_bears_the_token() {
    let daemon = Daemon::start_on_tcp();
    let address = daemon.tcp_address();
    let ask = |headers: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        exchange(&mut stream, "GET", "/v1/parents", headers, b"")
    };
    for headers in [
        "",
        "authorization: Bearer \r\n",
        "authorization: Bearer 0123456789abcdef0123456789abcdee\r\n",
        "authorization: Bearer 0123456789abcdef0123456789abcdef0\r\n",
        "authorization: Basic 0123456789abcdef0123456789abcdef\r\n",
    ] {
        let answer = ask(headers);
        assert_eq!(answer.status, 401, "{headers}");
        assert_eq!(answer.json()["errno"], "EACCES");
        assert!(answer.headers.contains("www-authenticate: bearer"));
    }
    let answer = ask(&format!("authorization: Bearer {TOKEN}\r\n"));
    assert_eq!(answer.status, 200);
}

#[test]
fn a_bad_configuration_is_told_and_nothing_starts() {
    for (config, words) in [
        ("[api]\ncolour = 1", "line 2"),
        ("[parents.soft1]", "no such parent"),
        ("[api]\nmode = \"rw\"", "is no mode"),
        ("[api]\ngroup = \"no such group\"", "no group"),
        (
            "[api]\ntcp = { listen = \"127.0.0.1:0\", token-file = \"/nonexistent\" }",
            "token",
        ),
    ] {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("vgpud.toml");
        fs::write(&file, config).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_vgpud"))
            .args(["--root".as_ref(), root.path(), "--config".as_ref(), &file])
            .output()
            .unwrap();
        assert!(!output.status.success(), "{config}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(words), "{config}: {said}");
    }
}
