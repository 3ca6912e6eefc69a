//! A client that always has something to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vfu::client::Client as Vmm;

use crate::support::{Daemon, uuid, wait_for};

/// The registers, as `edu` documents them.
const SPIN: u64 = 0xc8;
const SPINS_ENDED: u64 = 0xd0;
/// So many wait or run at most.
const MOST: u64 = 16;

/// Keeps one `edu` busy with spins of a length, from a thread of its own, until it is dropped.
pub(crate) struct Hog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    is_over: AtomicBool,
    ended: AtomicU64,
}

pub(crate) fn connect(daemon: &Daemon, number: u128) -> Vmm {
    let socket = daemon.path(format!("run/vgpud/{}.sock", uuid(number)));
    Vmm::connect(&socket).unwrap()
}

pub(crate) fn spin(vmm: &mut Vmm, micros: u32) {
    vmm.region_write(0, SPIN, &micros.to_le_bytes()).unwrap();
}

fn read(vmm: &mut Vmm, register: u64) -> u64 {
    let mut value = [0; 8];
    vmm.region_read(0, register, &mut value).unwrap();
    u64::from_le_bytes(value)
}

pub(crate) fn waiting(vmm: &mut Vmm) -> u64 {
    read(vmm, SPIN)
}

pub(crate) fn ended(vmm: &mut Vmm) -> u64 {
    read(vmm, SPINS_ENDED)
}

impl Hog {
    pub(crate) fn start(daemon: &Daemon, number: u128, micros: u32) -> Self {
        let shared = Arc::new(Shared {
            is_over: AtomicBool::new(false),
            ended: AtomicU64::new(0),
        });
        let mut vmm = connect(daemon, number);
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while !theirs.is_over.load(Ordering::Relaxed) {
                for _ in waiting(&mut vmm)..MOST {
                    spin(&mut vmm, micros);
                }
                theirs.ended.store(ended(&mut vmm), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// How many of its spins have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.shared.ended.load(Ordering::Relaxed)
    }

    /// Waits until so many more have ended.
    pub(crate) fn goes_on(&self, spins: u64) {
        let until = self.ended() + spins;
        wait_for("progress", || (self.ended() >= until).then_some(()));
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(thread::panicking() || ended.is_ok(), "a hog panicked");
        }
    }
}
