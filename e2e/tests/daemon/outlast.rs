//! The daemon is killed, workers are replaced, and killed, under guests that use their devices.

use std::thread;
use std::time::{Duration, Instant};

use e2e::{Daemon, Error, Result};
use rustix::process::Signal;
use serde_json::Value;

use crate::seats::{Seat, in_use};

/// How often the daemon is killed.
const DAEMONS: usize = 20;
/// How often workers are killed.
const KILLS: usize = 50;
/// How often a guest writes to the register that ends its worker: two die of it, then it is given
/// up.
const PANICS: usize = 3;
/// A device has to work again by then. A machine that is busy with eight guests takes longer to do
/// anything than one that is not.
const PATIENCE: Duration = Duration::from_secs(10);

/// A fault is an access that was not served as it should have been.
fn faults(daemon: &Daemon, seat: &Seat) -> Value {
    seat.status(daemon).unwrap()["counters"]["faults"].clone()
}

/// No machine sees that the daemon is killed and started again; each keeps its worker.
pub(crate) fn daemons(daemon: &mut Daemon, seats: &mut [Seat]) {
    let pids = |daemon: &Daemon, seats: &[Seat]| -> Vec<Value> {
        let seats = seats.iter();
        seats
            .map(|seat| seat.shown(daemon).unwrap()["pid"].clone())
            .collect()
    };
    let before = pids(daemon, seats);
    in_use(seats, || {
        for _ in 0..DAEMONS {
            daemon.kill_and_restart().unwrap();
        }
    })
    .unwrap();
    assert_eq!(pids(daemon, seats), before);
    for seat in seats.iter() {
        assert_eq!(faults(daemon, seat), 0, "{}", seat.type_name);
    }
}

/// Each worker is replaced twice.
pub(crate) fn upgrades(daemon: &Daemon, seats: &mut [Seat]) {
    let before: Vec<_> = seats.iter().map(|it| it.shown(daemon).unwrap()).collect();
    in_use(seats, || {
        for _ in 0..2 {
            println!("{}", daemon.vgpu("upgrade", &["--all"]).unwrap());
        }
    })
    .unwrap();
    for (seat, before) in seats.iter().zip(before) {
        let now = seat.shown(daemon).unwrap();
        assert_ne!(now["pid"], before["pid"], "{now:#}");
        assert_eq!(now["crashes"], before["crashes"], "{now:#}");
        assert_eq!(faults(daemon, seat), 0, "{}", seat.type_name);
    }
}

/// Workers of the first half of the machines are killed, and no guest sees it.
pub(crate) fn crashes(daemon: &Daemon, seats: &mut [Seat]) {
    let half = seats.len() / 2;
    let uuids: Vec<_> = seats.iter().map(|it| it.instance.uuid.clone()).collect();
    let before: Vec<_> = seats.iter().map(|it| it.shown(daemon).unwrap()).collect();
    let slowest = in_use(seats, || {
        let mut slowest = Duration::ZERO;
        let mut random = 1_u32;
        for kill in 0..KILLS {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let victim = &uuids[(random >> 16) as usize % half];
            let signal = if kill % 2 == 0 {
                Signal::KILL
            } else {
                Signal::SEGV
            };
            slowest = slowest.max(kill_worker(daemon, victim, signal).unwrap());
            thread::sleep(Duration::from_millis(u64::from(random >> 24)));
        }
        slowest
    })
    .unwrap();
    println!("{KILLS} kills; another worker was there after {slowest:?} at most");
    for (number, (seat, before)) in seats.iter().zip(&before).enumerate() {
        let now = seat.shown(daemon).unwrap();
        let is_untouched = now["pid"] == before["pid"];
        assert_eq!(is_untouched, number >= half, "{now:#}");
        assert_eq!(faults(daemon, seat), 0, "{}", seat.type_name);
    }
    panics(daemon, seats);
}

/// A guest ends its own worker; what it wrote is given up, and all else goes on.
fn panics(daemon: &Daemon, seats: &mut [Seat]) {
    let seat = &mut seats[1];
    let before = seat.shown(daemon).unwrap()["crashes"].as_u64().unwrap();
    for round in 0..PANICS {
        seat.panic().unwrap();
        seat.use_once(round as u64).unwrap();
    }
    let now = seat.shown(daemon).unwrap();
    let crashes = now["crashes"].as_u64().unwrap();
    assert_eq!(crashes, before + 2 * PANICS as u64, "{now:#}");
    assert_eq!(now["state"], "running", "{now:#}");
}

/// Kills the worker of a vGPU, and waits until there is another: how long that took.
fn kill_worker(daemon: &Daemon, uuid: &str, signal: Signal) -> Result<Duration> {
    let pid = pid_of(daemon, uuid)?.ok_or_else(|| Error::Gone(format!("{uuid} has no worker")))?;
    let start = Instant::now();
    e2e::daemon::kill(pid, signal)?;
    while pid_of(daemon, uuid)?.is_none_or(|now| now == pid) {
        assert!(start.elapsed() < PATIENCE, "no other worker for {uuid}");
        thread::sleep(Duration::from_millis(2));
        // The first that is nobody's fault only takes Rust's handler off.
        if signal == Signal::SEGV && pid_of(daemon, uuid)? == Some(pid) {
            let _ = e2e::daemon::kill(pid, signal);
        }
    }
    Ok(start.elapsed())
}

fn pid_of(daemon: &Daemon, uuid: &str) -> Result<Option<u32>> {
    let listed = daemon.list()?;
    let instance = listed.iter().find(|it| it["uuid"] == *uuid);
    let pid = instance.and_then(|it| it["pid"].as_u64());
    Ok(pid.and_then(|pid| u32::try_from(pid).ok()))
}

/// Every machine reboots: QEMU, which ends if a connection was lost, has lost none.
pub(crate) fn reboots(seats: &mut [Seat]) {
    thread::scope(|scope| {
        let machines: Vec<_> = seats
            .iter_mut()
            .map(|seat| {
                scope.spawn(move || {
                    seat.vm.guest.reboot()?;
                    seat.use_once(99)
                })
            })
            .collect();
        for machine in machines {
            machine.join().expect("a machine's thread ends").unwrap();
        }
    });
}
