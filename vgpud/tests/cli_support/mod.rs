//! The command line, run on a daemon.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test program uses a part of it, and none outlives a surprise"
)]

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::Daemon;

/// `vgpu` with arguments, one word each, where no daemon is.
pub fn vgpu(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vgpu"));
    command
        .args(line.split_whitespace())
        .env("VGPUD_API", "/nonexistent/api.sock")
        .stdin(Stdio::null());
    command
}

/// The same, on a daemon and in its folder.
pub fn command(daemon: &Daemon, line: &str) -> Command {
    let mut command = vgpu(line);
    command
        .env("VGPUD_API", daemon.path("run/vgpud/api.sock"))
        .current_dir(daemon.path(""));
    command
}

/// Exit code and words of a command.
pub fn told(output: Output) -> (Option<i32>, String) {
    let words = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), words)
}

pub fn run(daemon: &Daemon, line: &str) -> Output {
    command(daemon, line).output().unwrap()
}

/// What a command that works prints.
pub fn text(daemon: &Daemon, line: &str) -> String {
    printed_by(command(daemon, line), line)
}

/// What a command that works without a daemon prints.
pub fn printed(line: &str) -> String {
    printed_by(vgpu(line), line)
}

fn printed_by(mut command: Command, line: &str) -> String {
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{line}: {words}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn json_of(daemon: &Daemon, line: &str) -> Value {
    let text = text(daemon, line);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))
}
