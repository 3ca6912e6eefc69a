//! A vGPU under a running guest is taken to another worker. QEMU cannot drive that yet, so a
//! program between it and the worker takes its place.

use std::thread;
use std::time::{Duration, Instant};

use e2e::relay::Relay;
use e2e::{Error, Machine, Programs, Result, Vgpu, Vm};
use serde_json::{Value, json};

/// For the guest to begin what it was told.
const LIMIT: Duration = Duration::from_secs(60);

const BOCHS: &str = "1234:1111";
const SERIAL: &str = "4348:3253";
const TYPES: [&str; 2] = ["bochs-16m", "serial-1"];

/// A worker, the one that is to take its place, and the relay before them.
struct Pair {
    first: Vgpu,
    second: Vgpu,
    relay: Relay,
}

impl Pair {
    fn run(programs: &Programs, type_name: &str) -> Result<Self> {
        let first = Vgpu::run(programs, type_name, &[])?;
        Ok(Self {
            second: Vgpu::run(programs, type_name, &[])?,
            relay: Relay::run(programs, &first)?,
            first,
        })
    }
}

fn boot(programs: &Programs, display: &Pair, card: &Pair) -> Result<Vm> {
    Machine::new(programs)
        .module("bochs")
        .vfio_user(&display.relay.socket(), &json!({}))
        .vfio_user(&card.relay.socket(), &json!({}))
        .boot()
}

/// The machine stands still while `order` is carried out, as it does for any migration.
fn while_stopped(vm: &mut Vm, order: impl FnOnce() -> Result<Value>) -> Result<Value> {
    vm.qmp.execute("stop", &json!({}))?;
    let answer = order()?;
    vm.qmp.execute("cont", &json!({}))?;
    assert_eq!(answer["equal"], true, "{answer}");
    Ok(answer)
}

/// The picture on one worker is on another.
fn check_display(vm: &mut Vm, display: &Pair) -> Result<()> {
    let size = (1024, 768);
    let function = vm.guest.pci_functions(BOCHS)?.concat();
    let card = vm.guest.card_of(&function)?;
    let picture = vm.guest.draw(&card, size, 7)?;
    display.first.check_picture(size, 7)?;
    let answer = while_stopped(vm, || display.relay.copy_to(&display.second))?;
    // The picture is most of it, and is read while the guest could go on.
    let pixels = u64::from(size.0) * u64::from(size.1) * 4;
    assert!(answer["pre_copied"].as_u64() >= Some(pixels), "{answer}");
    display.second.check_picture(size, 7)?;
    vm.guest.release(picture)?;

    // The guest goes on where it was.
    let picture = vm.guest.draw(&card, (800, 600), 8)?;
    display.first.check_picture((800, 600), 8)?;
    display.second.check_picture(size, 7)?;
    vm.guest.release(picture)
}

/// Bytes go round while the port is moved under them, and after its first worker has ended.
fn check_card(vm: &mut Vm, card: Pair) -> Result<()> {
    let function = vm.guest.pci_functions(SERIAL)?.concat();
    let tty = vm.guest.ttys_of(&function)?.concat();
    vm.guest.sh(&format!(
        "guest loopback /dev/{tty} 65536 5 >/tmp/round 2>&1 && touch /tmp/done &"
    ))?;
    let before = wait_for_traffic(&card.first)?;
    while_stopped(vm, || card.relay.move_to(&card.second))?;
    card.first.wait_idle()?;
    card.first.terminate()?;
    vm.guest.sh("while ! test -e /tmp/done; do
        pidof guest >/dev/null || { cat /tmp/round; exit 1; }; sleep 0.1; done")?;
    // Four messages a byte: the rest of them went to the second worker.
    let after = card.second.counter("region_writes")?;
    assert!(before < 65_536 && after > 1000, "{before}, {after}");
    vm.guest.sh(&format!("guest loopback /dev/{tty} 4096 6"))?;
    for counter in ["faults", "refused_requests"] {
        assert_eq!(card.second.counter(counter)?, 0, "{counter}");
    }
    Ok(())
}

/// Waits until bytes go round; how many registers were written until then.
fn wait_for_traffic(card: &Vgpu) -> Result<u64> {
    let idle = card.counter("region_writes")?;
    let begin = Instant::now();
    while begin.elapsed() < LIMIT {
        let now = card.counter("region_writes")?;
        if now > idle + 2000 {
            return Ok(now);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(Error::Gone("traffic of a serial port".to_owned()))
}

#[test]
fn a_guests_picture_and_port_are_taken_to_other_workers() {
    let programs = Programs::from_env().unwrap();
    let [display, card] = TYPES.map(|name| Pair::run(&programs, name).unwrap());
    let mut vm = boot(&programs, &display, &card).unwrap();
    check_display(&mut vm, &display).unwrap();
    check_card(&mut vm, card).unwrap();
}

#[test]
fn a_display_is_saved_to_a_file_and_restored_in_another_worker() {
    let programs = Programs::from_env().unwrap();
    let first = Vgpu::run(&programs, "bochs-4m", &[]).unwrap();
    let second = Vgpu::run(&programs, "bochs-4m", &["-o", "mode=640x480"]).unwrap();
    let mut vm = Machine::new(&programs)
        .module("bochs")
        .vfio_user(&first.socket(), &json!({}))
        .boot()
        .unwrap();
    let function = vm.guest.pci_functions(BOCHS).unwrap().concat();
    let card = vm.guest.card_of(&function).unwrap();
    let picture = vm.guest.draw(&card, (800, 600), 3).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state");
    let name = file.display().to_string();
    first.ask("save", &[&name]).unwrap();
    second.ask("restore", &[&name]).unwrap();
    second.check_picture((800, 600), 3).unwrap();
    let attribute = |vgpu: &Vgpu| vgpu.status().unwrap()["attributes"][0]["value"].clone();
    assert_eq!(attribute(&second), "800x600", "the mode came along");

    // The guest noticed nothing, and a state of another type is refused with words.
    vm.guest.release(picture).unwrap();
    first
        .check_drawing(&mut vm.guest, &function, (640, 480), 4)
        .unwrap();
    let other = Vgpu::run(&programs, "edu-2", &[]).unwrap();
    let error = other.ask("restore", &[&name]).unwrap_err().to_string();
    assert!(error.contains("of a 'bochs-4m'"), "{error}");
    second.check_picture((800, 600), 3).unwrap();
}
