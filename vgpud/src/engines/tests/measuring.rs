//! Whose CPU time is held against what it says.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::engines::measure::cpu_time;
use crate::held::HeldDevices;
use crate::held::process::DeviceProcess;
use crate::paths::Paths;
use crate::worker_process::confinement::Confinement;
use crate::worker_process::life::Seat;

/// A seat in a worker of that process.
fn seat() -> Arc<Worker> {
    let ((identity, pidfd), paths) = (own(), Paths::new(Path::new("/nonexistent")));
    let confinement = Confinement::default();
    let process = DeviceProcess::new(&paths, "soft0", pidfd, identity, confinement);
    living(Life::Seat(Seat {
        uuid: Uuid::nil(),
        line: File::open("/dev/null").unwrap().into(),
        process: Arc::new(process),
        device: HeldDevices::default().of("soft0"),
    }))
}

/// Has this process use the CPU for so long.
fn burn(length: Nanos) {
    let used = || cpu_time(std::process::id()).unwrap();
    let (before, begun) = (used(), Instant::now());
    while used().0 - before.0 < length.0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no CPU is had");
    }
}

#[test]
fn cpu_time_is_charged_to_who_has_a_process_alone_and_to_no_seat_in_a_shared_one() {
    for (worker, is_charged) in [(worker(), true), (seat(), false)] {
        let mut host = Host::new(1000);
        // It works in jobs so short that they come to far less than the CPU time.
        let number = host.join_as(worker, Nanos::from_micros(1), &[("cap", "1")]);
        burn(ms(300));
        host.wait(ms(400));
        let client = &host.engine.clients[&host.played[number].slot];
        let misreports = client.told(host.now).misreports;
        assert_eq!(misreports > 0, is_charged, "{misreports}");
    }
}
