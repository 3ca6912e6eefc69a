//! Machines whose vGPUs are the daemon's, while others are created, removed and killed beside them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use e2e::daemon::Instance;
use e2e::{Daemon, Error, Machine, Programs, Result, Vm};
use serde_json::{Value, json};

/// Machines, by what they are given.
const TYPES: [&str; 8] = [
    "serial-1", "edu-1", "bochs-4m", "edu-2", "serial-2", "edu-1", "bochs-4m", "serial-1",
];

/// How often each of the clients creates and removes.
const ROUNDS: usize = 40;

/// A machine and its vGPU.
struct Seat {
    type_name: &'static str,
    instance: Instance,
    vm: Vm,
}

fn boot(programs: &Programs, daemon: &Daemon, type_name: &'static str) -> Result<Seat> {
    let instance = daemon.start(type_name, &[])?;
    let vm = Machine::new(programs)
        .memory_mib(160)
        .module("bochs")
        .vfio_user(&instance.socket, &json!({}))
        .boot()?;
    Ok(Seat {
        type_name,
        instance,
        vm,
    })
}

/// The guest uses its device once, every byte checked.
fn use_once(seat: &mut Seat, seed: u64) -> Result<()> {
    let guest = &mut seat.vm.guest;
    if seat.type_name.starts_with("serial") {
        let tty = guest.pci_ttys()?;
        let tty = tty.first().ok_or(Error::Guest("no port".to_owned()))?;
        guest.loopback(tty, 512, seed)?;
    } else if seat.type_name.starts_with("edu") {
        let function = guest.pci_functions("1234:11e8")?.concat();
        let said = guest.edu(&function, &format!("transfers 100 {seed}"))?;
        assert!(said.starts_with("100 transfers each way"), "{said}");
    } else {
        let function = guest.pci_functions("1234:1111")?.concat();
        let card = guest.card_of(&function)?;
        let picture = guest.draw(&card, (640, 480), seed as u32)?;
        guest.release(picture)?;
    }
    Ok(())
}

/// Creates and removes vGPUs, over and over.
fn churn(daemon: &Daemon) -> Result<()> {
    for round in 0..ROUNDS {
        let type_name = TYPES[round % TYPES.len()];
        let instance = daemon.start(type_name, &[])?;
        daemon.vgpu("stop", &[&instance.uuid])?;
    }
    Ok(())
}

fn counters(daemon: &Daemon, instance: &Instance) -> Result<Value> {
    let text = daemon.vgpu("status", &["--json", &instance.uuid])?;
    let status: Value =
        serde_json::from_str(&text).map_err(|error| Error::Malformed(error.to_string()))?;
    Ok(status["counters"].clone())
}

/// Of every machine but the first, whose worker is killed.
fn check_neighbours(daemon: &Daemon, seats: &mut [Seat]) -> Result<()> {
    let (victim, others) = seats
        .split_first_mut()
        .ok_or(Error::Malformed(String::new()))?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let users: Vec<_> = others
            .iter_mut()
            .map(|seat| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut rounds = 0;
                    while rounds < 2 || !is_over.load(Ordering::Relaxed) {
                        use_once(seat, rounds + 1)?;
                        rounds += 1;
                    }
                    Ok::<_, Error>(rounds)
                })
            })
            .collect();
        let clients = [(); 2].map(|()| scope.spawn(|| churn(daemon)));
        let killed = victim.instance.kill();
        for client in clients {
            client.join().expect("a client's thread ends")?;
        }
        is_over.store(true, Ordering::Relaxed);
        for user in users {
            let rounds = user.join().expect("a guest's thread ends")?;
            assert!(rounds >= 2);
        }
        killed
    })
}

#[test]
fn no_machine_notices_what_happens_to_the_vgpus_of_others() {
    let programs = Programs::from_env().unwrap();
    let daemon = Daemon::run(&programs).unwrap();
    let mut seats: Vec<_> = TYPES
        .iter()
        .map(|name| boot(&programs, &daemon, name).unwrap())
        .collect();
    let before: Vec<_> = seats[1..]
        .iter()
        .map(|seat| counters(&daemon, &seat.instance).unwrap())
        .collect();
    check_neighbours(&daemon, &mut seats).unwrap();
    for (seat, before) in seats[1..].iter().zip(before) {
        let now = counters(&daemon, &seat.instance).unwrap();
        let name = seat.type_name;
        assert!(
            now["requests"].as_u64() > before["requests"].as_u64(),
            "{name}"
        );
        assert_eq!(now["faults"], 0, "{name}");
        assert_eq!(now["sessions"], 1, "{name}: it kept its client");
    }
    // What was created meanwhile is gone; what was killed is told.
    let listed = daemon.list().unwrap();
    assert_eq!(listed.len(), TYPES.len(), "{listed:#?}");
    let killed = &seats[0].instance.uuid;
    for instance in listed {
        let is_killed = instance["uuid"] == **killed;
        assert_eq!(instance["crashes"], u64::from(is_killed), "{instance:#}");
        assert_eq!(instance["state"] == "running", !is_killed, "{instance:#}");
    }
}
