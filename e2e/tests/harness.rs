//! The harness itself, proved on devices that QEMU has built in.

use e2e::guest::{COMMAND_LIMIT, Output};
use e2e::{Error, Machine, Memory, Programs, Result, Vm};
use serde_json::json;

fn boot(machine: impl FnOnce(Machine<'_>) -> Machine<'_>) -> Result<Vm> {
    let programs = Programs::from_env()?;
    machine(Machine::new(&programs)).boot()
}

#[test]
fn commands_give_back_their_status_and_every_byte() {
    let mut vm = boot(|machine| machine.file("etc/noise", (0..=255).collect::<Vec<u8>>())).unwrap();
    let guest = &mut vm.guest;
    assert_eq!(
        guest.bytes("cat /etc/noise").unwrap(),
        Vec::from_iter(0..=255)
    );
    let output = guest.run("echo out; echo err >&2; exit 3").unwrap();
    assert_eq!(
        output,
        Output {
            status: 3,
            stdout: b"out\n".to_vec(),
            stderr: b"err\n".to_vec()
        }
    );
    assert_eq!(guest.run("kill -9 $$").unwrap().status, 128 + 9);
    let zeros = guest
        .bytes("dd if=/dev/zero bs=64k count=8 2>/dev/null")
        .unwrap();
    assert_eq!(zeros, vec![0; 512 << 10]);
    // What a command leaves running does not hold up the next.
    guest.sh("sleep 1000 &").unwrap();
    assert!(
        guest
            .sh("no-such-program")
            .unwrap_err()
            .to_string()
            .contains("not found")
    );

    guest.reboot().unwrap();
    assert_eq!(guest.sh("echo back").unwrap(), "back");
    vm.qmp.wait_event("RESET", COMMAND_LIMIT).unwrap();
    vm.qmp.system_reset().unwrap();
    vm.wait_boot().unwrap();
    assert_eq!(vm.guest.sh("echo again").unwrap(), "again");
}

#[test]
fn the_screen_is_read_as_text_and_pixel_by_pixel() {
    let mut vm = boot(|machine| machine.device("bochs-display").module("bochs")).unwrap();
    let modules = vm.guest.sh("cat /etc/modules").unwrap();
    assert!(modules.ends_with("/bochs.ko"), "{modules}");

    let line = "The quick brown fox's tail: 0123456789 @#~";
    vm.guest.say(line).unwrap();
    let font = vm.guest.font().unwrap();
    let screen = vm.screenshot().unwrap();
    assert!(screen.shows(&font, line), "{:?}", screen.text(&font));

    for (size, seed) in [((640, 480), 1), ((1024, 768), 2), ((1280, 800), 3)] {
        let picture = vm.guest.draw("card0", size, seed).unwrap();
        let screen = vm.screenshot().unwrap();
        assert_eq!(screen.size(), size);
        assert_eq!(screen.differs_from_pattern(seed), None);
        vm.guest.release(picture).unwrap();
    }
    let screen = vm.screenshot().unwrap();
    assert!(screen.shows(&font, line), "{:?}", screen.text(&font));

    let modes = vm.guest.modes("card0").unwrap();
    assert!(
        modes.iter().any(|mode| mode.starts_with("1024x768@")),
        "{modes:?}"
    );
    let edid = vm.guest.sh("guest edid /dev/dri/card0").unwrap();
    assert!(edid.starts_with("00ffffffffffff00"), "{edid}");
    let error = vm.guest.draw("card0", (641, 480), 0).unwrap_err();
    assert!(error.to_string().contains("no mode 641x480"), "{error}");
}

#[test]
fn a_uart_sends_bytes_round() {
    let mut vm = boot(|machine| machine.memory(Memory::Private).device("pci-serial")).unwrap();
    let ttys = vm.guest.pci_ttys().unwrap();
    let [tty] = ttys.as_slice() else {
        panic!("{ttys:?}")
    };
    let said = vm.guest.loopback(tty, 64 << 10, 7).unwrap();
    assert!(said.starts_with("65536 bytes"), "{said}");
}

#[test]
fn a_device_is_plugged_and_unplugged() {
    let mut vm = boot(|machine| machine.device("pcie-root-port,id=rp0")).unwrap();
    assert!(vm.guest.pci_ttys().unwrap().is_empty());
    for _ in 0..2 {
        let device = json!({ "driver": "pci-serial", "id": "uart", "bus": "rp0" });
        vm.qmp.device_add(&device).unwrap();
        vm.guest.wait_for("ls /sys/class/tty/ttyS2").unwrap();
        vm.qmp.device_del("uart", COMMAND_LIMIT).unwrap();
        assert!(vm.guest.pci_ttys().unwrap().is_empty());
    }
    let error = vm
        .qmp
        .device_add(&json!({ "driver": "no-such" }))
        .unwrap_err();
    assert!(error.to_string().contains("no-such"), "{error}");

    assert!(vm.process().ended().unwrap().is_none());
    vm.qmp.execute("quit", &json!({})).unwrap();
    assert!(vm.process().wait_exit(COMMAND_LIMIT).unwrap().success());
    assert!(matches!(vm.guest.sh("true"), Err(Error::Gone(_))));
}
