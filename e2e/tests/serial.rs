//! The serial ports under the kernel's own driver, `8250_pci`.

use e2e::guest::Guest;
use e2e::{Error, Machine, Programs, Result, Vgpu};
use serde_json::json;

const DRIVER: &str = "serial";
const ID: &str = "4348:3253";

/// Goes through the loop-back with the interrupt on, and returns how often that came.
///
/// The port is kept open around the transfer: the kernel lists its interrupt only while it is.
fn interrupts_of_loopback(guest: &mut Guest, tty: &str, count: usize, seed: u64) -> Result<u64> {
    let numbers = guest.sh(&format!(
        "exec 3<>/dev/{tty}
        count() {{ awk '/{tty}/ {{ print $2 }}' /proc/interrupts; }}
        before=$(count) && guest loopback /dev/{tty} {count} {seed} >/dev/null || exit 1
        echo $before $(count)"
    ))?;
    let mut numbers = numbers.split(' ').map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(before)), Some(Ok(after))) => Ok(after - before),
        _ => Err(Error::Malformed(format!("interrupts of {tty}"))),
    }
}

/// All ports at once, each with bytes of its own.
fn check_together(guest: &mut Guest, ttys: &[String], seed: u64) -> Result<()> {
    let mut script = "run() { guest loopback /dev/$1 2048 $2 || touch /tmp/failed; }\n".to_owned();
    for (seed, tty) in (seed..).zip(ttys) {
        script += &format!("run {tty} {seed} &\n");
    }
    guest
        .sh(&(script + "wait; ! test -e /tmp/failed"))
        .map(drop)
}

/// What holds for a card of any number of ports.
fn check_card(type_name: &str, ports: usize) -> Result<()> {
    let programs = Programs::from_env()?;
    let card = Vgpu::run(&programs, type_name, &[])?;
    let mut vm = Machine::new(&programs)
        .vfio_user(&card.socket(), &json!({}))
        .boot()?;
    let guest = &mut vm.guest;
    let function = guest.pci_functions(ID)?.concat();
    let driver = guest.sh(&format!("readlink /sys/bus/pci/devices/{function}/driver"))?;
    assert!(driver.ends_with("/drivers/serial"), "{driver}");
    let ttys = guest.ttys_of(&function)?;
    assert_eq!(ttys.len(), ports, "{ttys:?}");

    for (seed, tty) in (1..).zip(&ttys) {
        // The driver moves no more than what its buffer holds, a page, in one interrupt.
        let interrupts = interrupts_of_loopback(guest, tty, 64 << 10, seed)?;
        assert!(interrupts >= 16, "{tty}: {interrupts}");
        let usage = guest.sh(&format!(
            "awk '$1 == \"{}:\"' /proc/tty/driver/serial",
            tty.trim_start_matches("ttyS")
        ))?;
        assert!(usage.contains("uart:16550A"), "{usage}");
        assert!(usage.contains("tx:65536 rx:65536"), "{usage}");
    }
    check_together(guest, &ttys, 10)?;

    guest.unbind(DRIVER, &function)?;
    assert_eq!(guest.ttys_of(&function)?.len(), 0);
    guest.bind(DRIVER, &function)?;
    let ttys = guest.ttys_of(&function)?;
    assert_eq!(ttys.len(), ports, "{ttys:?}");
    check_together(guest, &ttys, 20)?;

    guest.reboot()?;
    check_together(guest, &ttys, 30)?;

    assert!(card.counter("interrupts")? > 0);
    assert_eq!(card.counter("faults")?, 0);
    assert_eq!(card.counter("refused_requests")?, 0);
    Ok(())
}

#[test]
fn bytes_go_round_through_one_port_under_the_stock_driver() {
    check_card("serial-1", 1).unwrap();
}

#[test]
fn bytes_go_round_through_two_ports_under_the_stock_driver() {
    check_card("serial-2", 2).unwrap();
}
