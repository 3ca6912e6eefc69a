//! What the fuzzers found worth keeping, run once more, with no fuzzer: one test for each target.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The targets count this process's descriptors, so one runs at a time.
static TURN: Mutex<()> = Mutex::new(());

fn replay(target: &str, run: fn(&[u8])) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let files = files_of(target);
    assert!(!files.is_empty(), "no corpus of {target}");
    let failed: Vec<_> = files.iter().filter(|file| !passes(file, run)).collect();
    assert!(failed.is_empty(), "these inputs fail: {failed:#?}");
}

fn files_of(target: &str) -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let entries = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{corpus:?}: {error}"));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn passes(file: &Path, run: fn(&[u8])) -> bool {
    let data = fs::read(file).unwrap();
    catch_unwind(|| run(&data)).is_ok()
}

#[test]
fn frame() {
    replay("frame", fuzz::frame);
}

#[test]
fn session() {
    replay("session", fuzz::session);
}

#[test]
fn dma_table() {
    replay("dma_table", fuzz::dma_table);
}

#[test]
fn control_queue() {
    replay("control_queue", fuzz::control_queue);
}

#[test]
fn transport() {
    replay("transport", fuzz::transport);
}

#[test]
fn state() {
    replay("state", fuzz::state);
}
