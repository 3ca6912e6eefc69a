//! The suite as a program: what it lists, and what it says when there is nothing to check.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_server_that_is_not_there_is_no_verdict() {
    for arguments in [
        &["--socket", "/nonexistent/socket"][..],
        &["--server", "/nonexistent/server {socket}"],
        &["--server", "true"],
        &["--server", "true {socket}"],
        &["--list", "no_check_has_this_name"],
        &["--timeout", "-1", "--server", "true {socket}"],
        &[],
    ] {
        let status = Command::new(env!("CARGO_BIN_EXE_vfu-conformance"))
            .args(arguments)
            .output()
            .unwrap()
            .status;
        assert_eq!(status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn the_list_says_what_each_check_states() {
    let output = Command::new(env!("CARGO_BIN_EXE_vfu-conformance"))
        .args(["--list", "--json"])
        .output()
        .unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = list.as_array().unwrap();
    assert!(checks.len() >= 150, "{} checks", checks.len());
    for check in checks {
        for member in ["name", "section", "rule"] {
            assert!(check[member].is_string(), "{check}");
        }
    }
}
