//! The API against its own document, by a tester that this project did not write.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::process::Command;

use support::http::TOKEN;
use support::{Daemon, uuid};

/// How much is tried, and what is no finding though it looks like one.
///
/// A good request may ask for what this host has not, or for what that device does not take: it is
/// refused, with a status of its own. A stream of events has no end to wait for. A random UUID is
/// nobody's, so what takes an instance that runs is told of one, in what is added to this; it must
/// not be taken for the one that a request before has made.
const CONFIG: &str = r#"
seed = 1
request-timeout = 30
color = false
warnings = false

[generation]
max-examples = 100
database = "none"

[checks.positive_data_acceptance]
expected-statuses = ["2xx", 404, 409, 422]

[[operations]]
include-path = "/v1/events"
enabled = false

[[operations]]
include-path = ["/v1/instances/{uuid}/state", "/v1/instances/{uuid}/screenshot"]
phases.stateful.enabled = false
"#;

#[test]
fn every_operation_is_what_the_document_says_whatever_is_sent() {
    let Some(program) = std::env::var_os("VGPUD_SCHEMATHESIS") else {
        // Past the harness, which would keep it to itself.
        let words = b"NOT RUN: VGPUD_SCHEMATHESIS names no schemathesis; ./x test brings one\n";
        std::io::stderr().write_all(words).unwrap();
        return;
    };
    let daemon = Daemon::start_on_tcp();
    let untouched = daemon.client.parents().unwrap();
    daemon.create(uuid(1), "bochs-16m");
    try_all(&program, &daemon);
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    // Whatever is left of it can be removed, and then nothing is taken.
    for kept in daemon.client.definitions().unwrap() {
        daemon.client.undefine(&kept.parent, kept.uuid).unwrap();
    }
    for instance in daemon.client.instances().unwrap() {
        daemon.client.destroy(instance.uuid, true).unwrap();
    }
    assert_eq!(daemon.client.parents().unwrap(), untouched);
    assert_eq!(daemon.run_files(), [""; 0]);
    assert_eq!(daemon.records(), [""; 0]);
}

fn try_all(program: &OsStr, daemon: &Daemon) {
    let file = daemon.path("schemathesis.toml");
    let running = format!("parameters = {{ uuid = \"{}\" }}\n", uuid(1));
    fs::write(&file, format!("{CONFIG}{running}")).unwrap();
    let output = Command::new(program)
        .arg("--config-file")
        .arg(&file)
        .arg("run")
        .arg(format!("http://{}/v1/openapi.json", daemon.tcp_address()))
        .arg(format!("--header=Authorization: Bearer {TOKEN}"))
        // It leaves things where it is started.
        .current_dir(daemon.path(""))
        .output();
    let output = output.unwrap_or_else(|error| panic!("cannot start {program:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    println!("{said}");
}
