//! Machines, each with a vGPU of the daemon's, whose guests use it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use e2e::daemon::Instance;
use e2e::{Daemon, Error, Machine, Programs, Result, Vm};
use serde_json::{Value, json};

/// What the machines are given. The first half may be harmed.
pub(crate) const TYPES: [&str; 8] = [
    "serial-1", "edu-1", "bochs-4m", "edu-2", "serial-2", "edu-1", "bochs-4m", "serial-1",
];

/// A machine and its vGPU.
pub(crate) struct Seat {
    pub(crate) type_name: &'static str,
    pub(crate) instance: Instance,
    pub(crate) vm: Vm,
}

impl Seat {
    pub(crate) fn boot(
        programs: &Programs,
        daemon: &Daemon,
        type_name: &'static str,
    ) -> Result<Self> {
        let attributes: &[&str] = match type_name {
            "edu-1" => &["panic-register=on"],
            _ => &[],
        };
        let instance = daemon.start(type_name, attributes)?;
        let vm = Machine::new(programs)
            .memory_mib(160)
            .module("bochs")
            .vfio_user(&instance.socket, &json!({}))
            .boot()?;
        Ok(Self {
            type_name,
            instance,
            vm,
        })
    }

    /// The guest uses its device once, every byte checked.
    pub(crate) fn use_once(&mut self, seed: u64) -> Result<()> {
        let guest = &mut self.vm.guest;
        if self.type_name.starts_with("serial") {
            let tty = guest.pci_ttys()?;
            let tty = tty.first().ok_or(Error::Guest("no port".to_owned()))?;
            guest.loopback(tty, 512, seed)?;
        } else if self.type_name.starts_with("edu") {
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

    /// The guest does what ends the process that serves it.
    pub(crate) fn panic(&mut self) -> Result<()> {
        let guest = &mut self.vm.guest;
        let function = guest.pci_functions("1234:11e8")?.concat();
        guest.edu(&function, "panic").map(drop)
    }

    /// What its worker says of itself.
    pub(crate) fn status(&self, daemon: &Daemon) -> Result<Value> {
        parse(&daemon.vgpu("status", &["--json", &self.instance.uuid])?)
    }

    /// What the daemon knows of it.
    pub(crate) fn shown(&self, daemon: &Daemon) -> Result<Value> {
        let shown = parse(&daemon.vgpu("show", &["--json", &self.instance.uuid])?)?;
        Ok(shown["instance"].clone())
    }
}

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| Error::Malformed(error.to_string()))
}

/// Says so when it is dropped, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Every guest uses its device over and over, at least twice, while `body` runs.
pub(crate) fn in_use<R>(seats: &mut [Seat], body: impl FnOnce() -> R) -> Result<R> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let users: Vec<_> = seats
            .iter_mut()
            .map(|seat| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut rounds = 0;
                    while rounds < 2 || !is_over.load(Ordering::Relaxed) {
                        let used = seat.use_once(rounds + 1);
                        used.map_err(|error| Error::Gone(format!("{}: {error}", seat.type_name)))?;
                        rounds += 1;
                    }
                    Ok::<_, Error>(())
                })
            })
            .collect();
        let over = Over(&is_over);
        let done = body();
        drop(over);
        for user in users {
            user.join().expect("a guest's thread ends")?;
        }
        Ok(done)
    })
}
