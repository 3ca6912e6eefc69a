//! The callout that mdevctl runs for our vGPUs, without mdevctl.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// A device.
const ONE: &str = "c2177883-f1bb-47f0-914d-32a22e3a8801";

/// Runs the callout on a tree: its exit code, and what it printed.
fn call_out(tree: Option<&Path>, parent: &str, event: &str, action: &str) -> (Option<i32>, String) {
    let callout = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/mdevctl/vgpud");
    let mut command = Command::new(callout);
    command
        .args(["-t", "edu-1", "-e", event, "-a", action, "-s", "none"])
        .args(["-u", ONE, "-p", parent])
        .env_remove("MDEVCTL_ENV_ROOT")
        .envs(tree.map(|tree| ("MDEVCTL_ENV_ROOT", tree)))
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), printed)
}

#[test]
fn the_callout_is_for_our_parents_alone_and_tells_attributes_as_they_are() {
    let tree = tempfile::tempdir().unwrap();
    let parent = tree.path().join("sys/devices/virtual/vgpud/soft0");
    let device = parent.join(ONE);
    fs::create_dir_all(device.join("statistics")).unwrap();
    let tree = Some(tree.path());
    let nothing = (Some(2), String::new());
    for (tree, parent) in [(None, "soft0"), (tree, "0000:00:02.0"), (tree, "")] {
        for (event, action) in [
            ("get", "capabilities"),
            ("get", "attributes"),
            ("pre", "start"),
        ] {
            assert_eq!(call_out(tree, parent, event, action), nothing, "{parent}");
        }
    }
    let get = |action| {
        let (code, printed) = call_out(tree, "soft0", "get", action);
        assert_eq!(code, Some(0), "{action}");
        serde_json::from_str::<Value>(&printed).unwrap()
    };
    assert_eq!(get("capabilities")["supports"]["version"], 2);
    assert_eq!(get("attributes"), json!([]));
    let odd = "a \"b\" \\c $d `e`";
    for (name, value) in [
        ("dma", "pin"),
        ("odd", odd),
        ("socket", "/x"),
        ("state", "running"),
    ] {
        fs::write(device.join(name), format!("{value}\n")).unwrap();
    }
    assert_eq!(get("attributes"), json!([{ "dma": "pin" }, { "odd": odd }]));
    for event in ["pre", "post", "notify"] {
        let passed = call_out(tree, "soft0", event, "start");
        assert_eq!(passed, (Some(0), String::new()), "{event}");
    }
    assert_eq!(call_out(tree, "soft0", "live", "dance"), nothing);
}
