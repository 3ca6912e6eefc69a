//! Bad input: the right status, errno and words, and nothing changes.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use support::http::{Answer, TOKEN, exchange};
use support::{Daemon, request, uuid};

const JSON: &str = "application/json";

fn check(daemon: &Daemon, answer: &Answer, status: u16, errno: &str, case: &str) {
    assert_eq!(answer.status, status, "{case}: {answer:?}");
    assert!(
        answer.headers.contains("application/problem+json"),
        "{case}: {answer:?}"
    );
    let problem = answer.json();
    assert_eq!(problem["errno"], errno, "{case}: {answer:?}");
    assert_eq!(problem["status"], status, "{case}");
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|words| !words.is_empty()),
        "{case}"
    );
    assert!(daemon.client.instances().unwrap().is_empty(), "{case}");
    assert_eq!(daemon.run_files(), [""; 0], "{case}");
    assert_eq!(daemon.records(), [""; 0], "{case}");
}

/// Bodies of a creation that are refused, whatever the UUID.
const BODIES: [(&str, u16, &str); 12] = [
    ("", 400, "EINVAL"),
    ("{", 400, "EINVAL"),
    ("[]", 422, "EINVAL"),
    (r#"["soft0","edu-1",[],{},true]"#, 422, "EINVAL"),
    ("{}", 422, "EINVAL"),
    (r#"{"parent":"soft0"}"#, 422, "EINVAL"),
    (r#"{"parent":0,"type":"edu-1"}"#, 422, "EINVAL"),
    (r#"{"parent":"soft1","type":"edu-1"}"#, 404, "ENODEV"),
    (r#"{"parent":"soft0","type":"edu-9"}"#, 404, "ENOENT"),
    (r#"{"parent":"soft0","type":"../edu-1"}"#, 404, "ENOENT"),
    (r#"{"parent":"","type":""}"#, 404, "ENODEV"),
    (r#"{"parent":"soft0","type":"edu-1"}}"#, 400, "EINVAL"),
];

/// What is wrong beside a good parent and type: EINVAL each.
const FIELDS: [&str; 13] = [
    r#""colour":1"#,
    r#""start":"no""#,
    r#""attributes":{"dma":"pin"}"#,
    r#""attributes":[["dma","pin"]]"#,
    r#""attributes":[{"name":"dma"}]"#,
    r#""attributes":[{"name":"","value":""}]"#,
    r#""attributes":[{"name":"x","value":"1"}]"#,
    r#""attributes":[{"name":"dma","value":"x"}]"#,
    r#""attributes":[{"name":"dma","value":"pin\u0000"}]"#,
    r#""socket":[]"#,
    r#""socket":{"mode":"rw"}"#,
    r#""socket":{"owner":"no such user"}"#,
    r#""socket":{"colour":1}"#,
];

#[test]
fn a_bad_creation_is_refused_with_its_errno_and_leaves_nothing() {
    let daemon = Daemon::start();
    let good = format!("/v1/instances/{}", uuid(1));
    let mut cases: Vec<_> = BODIES
        .iter()
        .map(|&(body, status, errno)| (body.to_owned(), status, errno))
        .collect();
    cases.extend(FIELDS.iter().map(|field| {
        let body = format!(r#"{{"parent":"soft0","type":"edu-1",{field}}}"#);
        (body, 422, "EINVAL")
    }));
    cases.push(("x".repeat(100_000), 413, "EMSGSIZE"));
    for (body, status, errno) in cases {
        let case: String = body.chars().take(100).collect();
        for (method, path) in [("PUT", good.as_str()), ("POST", "/v1/instances")] {
            let answer = daemon.raw(method, path, JSON, body.as_bytes());
            check(&daemon, &answer, status, errno, &case);
        }
    }
    // After all that it still does what is right.
    daemon.create(uuid(1), "edu-1");
}

#[test]
fn a_bad_uuid_or_kind_of_body_is_refused() {
    let daemon = Daemon::start();
    let body = br#"{"parent":"soft0","type":"edu-1"}"#;
    let good = format!("/v1/instances/{}", uuid(1));
    let answer = daemon.raw("PUT", &good, "text/plain", body);
    check(&daemon, &answer, 415, "EINVAL", "a body of another kind");
    let simple = uuid(1).simple().to_string();
    for bad in [
        "x",
        "..",
        "%00",
        "%ff",
        &format!("{}%00", uuid(1)),
        &format!("..%2f{}", uuid(1)),
        "11111111-2222-3333-4444-55555555555",
        // What is a UUID too, but not as the document has it.
        &simple,
        &format!("%7B{}%7D", uuid(1)),
        &format!("urn:uuid:{}", uuid(1)),
    ] {
        for path in [
            format!("/v1/instances/{bad}"),
            format!("/v1/definitions/soft0/{bad}"),
        ] {
            let answer = daemon.raw("PUT", &path, JSON, body);
            check(&daemon, &answer, 400, "EINVAL", &path);
        }
    }
}

#[test]
fn what_is_not_there_is_told_in_the_same_form() {
    let daemon = Daemon::start();
    let instance = format!("/v1/instances/{}", uuid(1));
    let definition = format!("/v1/definitions/soft0/{}", uuid(1));
    for (method, path, status, errno) in [
        ("GET", "/", 404, "ENOENT"),
        ("GET", "/v1/nothing", 404, "ENOENT"),
        ("GET", "/v1/parents/", 404, "ENOENT"),
        ("POST", "/v1/parents", 405, "EOPNOTSUPP"),
        ("BREW", "/v1/instances", 405, "EOPNOTSUPP"),
        ("GET", "/v1/parents/x", 404, "ENODEV"),
        ("GET", &instance, 404, "ENODEV"),
        ("DELETE", &instance, 404, "ENODEV"),
        (
            "DELETE",
            &format!("{instance}?force=perhaps"),
            400,
            "EINVAL",
        ),
        ("DELETE", &format!("{instance}?colour=1"), 400, "EINVAL"),
        ("POST", &format!("{instance}/start"), 404, "ENODEV"),
        ("POST", &format!("{instance}/stop"), 404, "ENODEV"),
        ("GET", &format!("{instance}/status"), 404, "ENODEV"),
        ("GET", &format!("{instance}/screenshot"), 404, "ENODEV"),
        ("GET", &format!("{instance}/state"), 404, "ENODEV"),
        ("PUT", &format!("{instance}/state"), 404, "ENODEV"),
        ("GET", &definition, 404, "ENOENT"),
        ("DELETE", &definition, 404, "ENOENT"),
        (
            "GET",
            &format!("/v1/definitions/x/{}", uuid(1)),
            404,
            "ENODEV",
        ),
    ] {
        let answer = daemon.raw(method, path, JSON, b"");
        check(&daemon, &answer, status, errno, &format!("{method} {path}"));
    }
}

#[test]
fn a_full_parent_refuses_and_serves_on() {
    let daemon = Daemon::start_with(
        "[parents.soft0]\ninstances = 3\nvideo-memory = \"20M\"\nlimits = { serial-1 = 1 }",
    );
    daemon.create(uuid(1), "bochs-16m");
    let errno = |number, type_name| {
        let created = daemon.client.create(uuid(number), &request(type_name));
        created
            .err()
            .map(|error| error.problem().unwrap().errno.clone())
    };
    assert_eq!(errno(2, "bochs-16m").as_deref(), Some("ENOSPC"));
    assert_eq!(errno(2, "serial-1"), None);
    assert_eq!(errno(3, "serial-1").as_deref(), Some("EUSERS"));
    assert_eq!(errno(3, "bochs-4m"), None);
    assert_eq!(errno(4, "edu-1").as_deref(), Some("EUSERS"));
    for type_name in ["bochs-16m", "serial-1", "bochs-4m", "edu-1"] {
        assert_eq!(daemon.available(type_name), 0);
    }
    daemon.client.destroy(uuid(3), false).unwrap();
    assert_eq!(daemon.available("edu-1"), 1);
    assert_eq!(errno(4, "edu-1"), None);
}

#[test]
fn a_disk_that_refuses_changes_nothing() {
    let daemon = Daemon::start();
    let available = daemon.available("edu-1");
    let folder = daemon.path("var/lib/vgpud/instances");
    // Whatever is written there fails as on a full disk.
    let part = folder.join(format!("{}.json.part", uuid(1)));
    std::os::unix::fs::symlink("/dev/full", &part).unwrap();
    let error = daemon
        .client
        .create(uuid(1), &request("edu-1"))
        .unwrap_err();
    let problem = error.problem().unwrap();
    assert_eq!((problem.errno.as_str(), problem.status), ("ENOSPC", 507));
    assert!(problem.remedy.is_some());
    assert_eq!(daemon.available("edu-1"), available);
    assert!(daemon.client.instances().unwrap().is_empty());
    assert_eq!(daemon.run_files(), [""; 0]);
    daemon.create(uuid(1), "edu-1");
}

#[test]
fn a_worker_that_cannot_be_started_leaves_nothing() {
    let daemon = Daemon::start();
    // Its log cannot be made: a folder lies there.
    let log = daemon.path(format!("run/vgpud/{}.log", uuid(1)));
    fs::create_dir(&log).unwrap();
    let error = daemon
        .client
        .create(uuid(1), &request("edu-1"))
        .unwrap_err();
    assert_eq!(error.problem().unwrap().status, 500);
    fs::remove_dir(&log).unwrap();
    assert!(daemon.client.instances().unwrap().is_empty());
    assert_eq!(daemon.run_files(), [""; 0]);
    assert_eq!(daemon.records(), [""; 0]);
    daemon.create(uuid(1), "edu-1");
}

/// A worker that says what it was told, and takes none of it.
#[test]
fn a_worker_is_told_how_it_is_confined_and_its_refusal_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("worker");
    fs::write(&program, "#!/bin/sh\necho \"$@\" >&2\nexit 2\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let group = folder.path().join("group");
    fs::create_dir(&group).unwrap();
    let config = format!(
        "[workers]\nusers = {{ first = 600000, count = 9 }}\nmemory-limit = \"64M\"\n\
         cgroup = \"{}\"",
        group.display()
    );
    let daemon = Daemon::start_with_worker(&config, program);
    let refused = daemon
        .client
        .create(uuid(1), &request("edu-1"))
        .unwrap_err();
    let problem = refused.problem().unwrap();
    assert_eq!((problem.errno.as_str(), problem.status), ("EINVAL", 422));
    for told in [
        "--type edu-1",
        "--fd 3",
        "--user=600000",
        "--memory-limit=67108864",
        &format!("--cgroup={}/{}", group.display(), uuid(1)),
    ] {
        assert!(problem.detail.contains(told), "{told}: {}", problem.detail);
    }
    assert_eq!(support::names(&group), [""; 0]);
    assert_eq!(daemon.run_files(), [""; 0]);
    assert_eq!(daemon.records(), [""; 0]);
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
