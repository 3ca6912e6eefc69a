//! Machines whose vGPUs are the daemon's: what happens beside them, and to the daemon and the workers
//! under them, costs none its vGPU.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod outlast;
mod seats;

use std::thread;

use e2e::{Daemon, Programs, Result};

use seats::{Seat, TYPES, in_use};

/// How often each of the clients creates and removes.
const ROUNDS: usize = 40;

/// Creates and removes vGPUs, over and over.
fn churn(daemon: &Daemon) -> Result<()> {
    for round in 0..ROUNDS {
        let type_name = TYPES[round % TYPES.len()];
        let instance = daemon.start(type_name, &[])?;
        daemon.vgpu("stop", &[&instance.uuid])?;
    }
    Ok(())
}

/// Two clients create and remove, and a worker is killed.
fn check_neighbours(daemon: &Daemon, seats: &mut [Seat]) {
    let victim = seats[0].instance.clone();
    let before: Vec<_> = seats.iter().map(|it| it.status(daemon).unwrap()).collect();
    in_use(seats, || {
        thread::scope(|scope| {
            let clients = [(); 2].map(|()| scope.spawn(|| churn(daemon)));
            victim.kill().unwrap();
            for client in clients {
                client.join().expect("a client's thread ends").unwrap();
            }
        });
    })
    .unwrap();
    for (seat, before) in seats.iter().zip(before).skip(1) {
        let (now, before) = (
            &seat.status(daemon).unwrap()["counters"],
            &before["counters"],
        );
        let name = seat.type_name;
        assert!(
            now["requests"].as_u64() > before["requests"].as_u64(),
            "{name}"
        );
        assert_eq!(now["faults"], 0, "{name}");
        assert_eq!(now["sessions"], 1, "{name}: it kept its client");
    }
    // What was created meanwhile is gone; what was killed is told, and goes on.
    let listed = daemon.list().unwrap();
    assert_eq!(listed.len(), TYPES.len(), "{listed:#?}");
    for instance in listed {
        let is_killed = instance["uuid"] == *victim.uuid;
        assert_eq!(instance["crashes"], u64::from(is_killed), "{instance:#}");
        assert_eq!(instance["state"], "running", "{instance:#}");
    }
}

#[test]
fn no_machine_notices_what_happens_to_others_nor_to_those_who_serve_it() {
    let programs = Programs::from_env().unwrap();
    // Far more of them are killed than would be of themselves.
    let config = "[workers]\nmost-crashes = 100\n";
    let mut daemon = Daemon::run_with(&programs, config).unwrap();
    let mut seats: Vec<_> = TYPES
        .iter()
        .map(|name| Seat::boot(&programs, &daemon, name).unwrap())
        .collect();
    check_neighbours(&daemon, &mut seats);
    outlast::daemons(&mut daemon, &mut seats);
    outlast::upgrades(&daemon, &mut seats);
    outlast::crashes(&daemon, &mut seats);
    outlast::reboots(&mut seats);
}
