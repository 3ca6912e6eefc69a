//! Two machines whose devices share an engine: what each gets of it, as its guest counts.

use std::thread;
use std::time::Duration;

use e2e::daemon::Instance;
use e2e::{Daemon, Error, Machine, Programs, Result, Vm};
use serde_json::{Value, json};

const ID: &str = "1234:11e8";

/// A machine, and its device.
struct Seat {
    instance: Instance,
    vm: Vm,
    function: String,
}

impl Seat {
    fn boot(programs: &Programs, daemon: &Daemon, settings: &[&str]) -> Result<Self> {
        let attributes = [&["spin-register=on"], settings].concat();
        let instance = daemon.start("edu-1", &attributes)?;
        let mut vm = Machine::new(programs)
            .memory_mib(160)
            .vfio_user(&instance.socket, &json!({}))
            .boot()?;
        let function = vm.guest.pci_functions(ID)?.concat();
        Ok(Self {
            instance,
            vm,
            function,
        })
    }

    /// Changes a setting while the machine runs.
    fn set(&self, daemon: &Daemon, name: &str, value: &str) -> Result<()> {
        let what = ["--live", "--addattr", name, "--value", value];
        let which = ["-u", self.instance.uuid.as_str()];
        daemon
            .vgpu("modify", &[&which[..], &what].concat())
            .map(drop)
    }

    /// Keeps the device busy for a while: how many jobs have ended, as the guest counts.
    fn spin(&mut self) -> Result<u64> {
        let said = self.vm.guest.edu(&self.function, "spins 5000 4000")?;
        let count = said.split(' ').next().and_then(|count| count.parse().ok());
        count.ok_or(Error::Guest(said))
    }
}

/// Both are busy at once: what the first has for each that the second has.
fn ratio(seats: &mut [Seat; 2]) -> Result<f64> {
    let counts = thread::scope(|scope| {
        let spinning = seats.each_mut().map(|seat| scope.spawn(|| seat.spin()));
        spinning.map(|seat| seat.join().expect("a guest's thread ends"))
    });
    let [first, second] = counts;
    Ok(first? as f64 / second? as f64)
}

/// The same as `vgpu top` shows it meanwhile: the parts of the first, in thousandths.
fn ratio_and_part(seats: &mut [Seat; 2], daemon: &Daemon) -> Result<(f64, u64)> {
    let uuid = seats[0].instance.uuid.clone();
    let (ratio, told) = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            // The guests have begun by then, and have not ended.
            thread::sleep(Duration::from_secs(1));
            daemon.vgpu(
                "top",
                &["--once", "--json", "--interval", "2", "--filter", &uuid],
            )
        });
        (ratio(seats), looking.join().expect("vgpu top ends"))
    });
    let told = told?;
    let table: Value =
        serde_json::from_str(&told).map_err(|error| Error::Malformed(error.to_string()))?;
    let part = table["vgpus"][0]["share_permille"].as_u64();
    Ok((ratio?, part.ok_or(Error::Malformed(told))?))
}

/// Bounds are wide: the two guests are emulated on the CPUs on which the engine runs too.
#[test]
fn guests_get_their_weights_share_and_others_while_they_run() -> Result<()> {
    let programs = Programs::from_env()?;
    let daemon = Daemon::run(&programs)?;
    let mut seats = [
        Seat::boot(&programs, &daemon, &["weight=300"])?,
        Seat::boot(&programs, &daemon, &[])?,
    ];
    let (at_weights, part) = ratio_and_part(&mut seats, &daemon)?;
    assert!((600..900).contains(&part), "{part} thousandths for 750");
    assert!((2.0..4.5).contains(&at_weights), "{at_weights} for 3");
    daemon.vgpu("policy", &["soft0", "equal-share"])?;
    let equal = ratio(&mut seats)?;
    assert!((0.6..1.6).contains(&equal), "{equal} for 1");
    for (seat, share) in seats.iter().zip(["20%", "40%"]) {
        seat.set(&daemon, "reservation", share)?;
    }
    daemon.vgpu("policy", &["soft0", "fixed-share"])?;
    let fixed = ratio(&mut seats)?;
    assert!((0.3..0.8).contains(&fixed), "{fixed} for a half");
    daemon.vgpu("policy", &["soft0", "best-effort"])?;
    for seat in &seats {
        seat.set(&daemon, "reservation", "none")?;
    }
    seats[1].set(&daemon, "weight", "900")?;
    let turned = ratio(&mut seats)?;
    assert!((0.2..0.55).contains(&turned), "{turned} for a third");
    println!("3: {at_weights:.2} ({part}/1000), 1: {equal:.2}, 1/2: {fixed:.2}, 1/3: {turned:.2}");
    Ok(())
}
