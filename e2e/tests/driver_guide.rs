//! The guide for who writes a driver: its files are written into an empty folder, its commands typed, and
//! what comes of it is a device that guests share.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::document::{blocks, script};
use e2e::{Machine, Process, Programs};
use serde_json::json;

const PAGE: &str = "docs/driver-guide.md";

/// The crates below ours are compiled the first time, which takes half a minute where nothing else runs.
const LIMIT: Duration = Duration::from_secs(600);

/// What a reader has before he begins. Nothing that he starts outlives the shell.
const BEFORE: &str = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n";

/// A folder with nothing in it but a checkout, and what was compiled the last time.
fn folder() -> std::io::Result<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("driver-guide");
    let (ours, copier) = (folder.join("vgpud"), folder.join("copier"));
    fs::create_dir_all(copier.join("target"))?;
    if !ours.exists() {
        symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &ours)?;
    }
    for entry in fs::read_dir(&copier)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "target" {
                fs::remove_dir_all(entry.path())?;
            }
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(folder)
}

#[test]
fn a_device_that_guests_share_comes_of_an_empty_folder() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PAGE);
    let blocks = blocks(&fs::read_to_string(page).unwrap()).unwrap();
    let folder = folder().unwrap();
    let lab = Path::new(env!("CARGO_BIN_EXE_lab")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new("bash");
    command
        .arg("-c")
        .arg(BEFORE.to_owned() + &script(PAGE, &blocks))
        .current_dir(&folder)
        .env("PATH", format!("{}:{path}", lab.display()))
        .env("CARGO_NET_OFFLINE", "true")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS");
    let mut process = Process::spawn(command, &folder.join("log")).unwrap();
    let status = process.wait_exit(LIMIT).unwrap();
    let log = process.log();
    assert!(status.success() && log.ends_with("--- the end\n"), "{log}");
    // One client on its own, and two at once.
    for words in [
        "copied: status 0",
        "copied to where there is no memory: status 14",
    ] {
        let count = log.lines().filter(|&line| line == words).count();
        assert_eq!(count, 3, "{log}");
    }
    check_seen_by_a_guest(&folder.join("copier/target/debug/copier"));
}

/// The page says that a guest of QEMU's has it.
fn check_seen_by_a_guest(program: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("copier.sock");
    let mut command = Command::new(program);
    command.arg(&socket);
    let mut copier = Process::spawn(command, &dir.path().join("log")).unwrap();
    copier.wait_path(&socket, Duration::from_secs(20)).unwrap();
    let programs = Programs::from_env().unwrap();
    let mut vm = Machine::new(&programs)
        .vfio_user(&socket, &json!({}))
        .boot()
        .unwrap();
    let functions = vm.guest.pci_functions("1234:c0b1").unwrap();
    assert_eq!(functions.len(), 1, "{}", copier.log());
}
