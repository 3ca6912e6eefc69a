//! The bochs display under Debian's own driver, `bochs-drm`.
//!
//! What the guest has drawn is compared with the picture that the server shows, not QEMU.

use e2e::guest::Guest;
use e2e::{Machine, Programs, Result, Vgpu, Vm};
use serde_json::json;

const DRIVER: &str = "bochs-drm";
const ID: &str = "1234:1111";

/// A guest with a display of ours at its root complex.
fn boot(programs: &Programs, display: &Vgpu) -> Result<Vm> {
    Machine::new(programs)
        .module("bochs")
        .vfio_user(&display.socket(), &json!({}))
        .boot()
}

/// The only display's address.
fn only_display(guest: &mut Guest) -> Result<String> {
    let found = guest.pci_functions(ID)?;
    assert_eq!(found.len(), 1, "{found:?}");
    Ok(found.concat())
}

/// What an EDID block says.
#[derive(Debug, PartialEq, Eq)]
struct Monitor {
    name: String,
    preferred: (u32, u32),
}

impl Monitor {
    /// Reads a block; VESA Enhanced EDID 1.4, section 3. `None` if it is not whole.
    fn parse(block: &[u8]) -> Option<Self> {
        let sum = block
            .iter()
            .fold(0, |sum: u8, &byte| sum.wrapping_add(byte));
        if block.len() != 128 || sum != 0 || !block.starts_with(&[0, 255, 255]) {
            return None;
        }
        let mut descriptors = block[54..126].chunks(18);
        let timing = descriptors.next()?;
        let pixels = |low: usize| u32::from(timing[low]) | u32::from(timing[low + 2] >> 4) << 8;
        let name = descriptors.find_map(|it| it.strip_prefix(&[0, 0, 0, 0xfc, 0]))?;
        Some(Self {
            name: String::from_utf8_lossy(name).trim_end().to_owned(),
            preferred: (pixels(2), pixels(5)),
        })
    }
}

/// The monitor that the guest's kernel knows of.
fn monitor(guest: &mut Guest, card: &str) -> Result<Option<Monitor>> {
    let hex = guest.sh(&format!("guest edid /dev/dri/{card}"))?;
    let digits = (0..hex.len()).step_by(2).map(|at| hex.get(at..at + 2));
    let block: Option<Vec<u8>> = digits
        .map(|digits| u8::from_str_radix(digits?, 16).ok())
        .collect();
    Ok(block.and_then(|block| Monitor::parse(&block)))
}

fn vgpud_monitor(preferred: (u32, u32)) -> Option<Monitor> {
    let name = "vgpud".to_owned();
    Some(Monitor { name, preferred })
}

/// Reads words of video memory, a mebibyte apart. The driver must have let go of the display.
fn video_memory(guest: &mut Guest, function: &str, mib: u32) -> Result<Vec<String>> {
    let words = guest.sh(&format!(
        "cd /sys/bus/pci/devices/{function} && echo 1 >enable && read bar0 rest <resource
        for mib in $(seq 0 {}); do
            devmem $((bar0 + mib * 0x100000 + 0x80000)) 32
        done; echo 0 >enable",
        mib - 1
    ))?;
    Ok(words.lines().map(str::to_owned).collect())
}

#[test]
fn the_stock_driver_finds_the_monitor_and_draws_what_the_server_shows() {
    let programs = Programs::from_env().unwrap();
    let display = Vgpu::run(&programs, "bochs-16m", &[]).unwrap();
    let mut vm = boot(&programs, &display).unwrap();
    let guest = &mut vm.guest;
    let function = only_display(guest).unwrap();
    assert_eq!(guest.card_of(&function).unwrap(), "card0");
    let log = guest.sh("dmesg").unwrap();
    assert!(log.contains("Found EDID"), "{log}");
    let found = monitor(guest, "card0").unwrap();
    assert_eq!(found, vgpud_monitor((1920, 1080)));
    let modes = guest.modes("card0").unwrap();
    assert_eq!(modes[0], "1920x1080@60", "{modes:?}");

    let line = "Sphinx of black quartz, judge my vow: 0123456789 <[{}]>";
    guest.say(line).unwrap();
    let font = guest.font().unwrap();
    let screen = display.screenshot().unwrap();
    assert_eq!(screen.size(), (1920, 1080));
    assert!(screen.shows(&font, line), "{:?}", screen.text(&font));

    for (seed, size) in [(1, (1920, 1080)), (2, (1280, 1024)), (3, (640, 480))] {
        display.check_drawing(guest, &function, size, seed).unwrap();
    }
    let screen = display.screenshot().unwrap();
    assert!(screen.shows(&font, line), "{:?}", screen.text(&font));

    guest.unbind(DRIVER, &function).unwrap();
    guest.bind(DRIVER, &function).unwrap();
    let size = (1024, 768);
    display.check_drawing(guest, &function, size, 4).unwrap();

    // The driver reads the EDID when it is bound.
    display.ask("set", &["mode=1280x720"]).unwrap();
    guest.unbind(DRIVER, &function).unwrap();
    guest.bind(DRIVER, &function).unwrap();
    let card = guest.card_of(&function).unwrap();
    let found = monitor(guest, &card).unwrap();
    assert_eq!(found, vgpud_monitor((1280, 720)));
    let modes = guest.modes(&card).unwrap();
    assert_eq!(modes[0], "1280x720@60", "{modes:?}");
    let size = (1280, 720);
    display.check_drawing(guest, &function, size, 5).unwrap();
    assert_eq!(display.counter("faults").unwrap(), 0);
    assert_eq!(display.counter("refused_requests").unwrap(), 0);
}

#[test]
fn displays_in_one_guest_show_each_its_own_picture() {
    let programs = Programs::from_env().unwrap();
    let small = Vgpu::run(&programs, "bochs-4m", &["-o", "mode=1024x512"]).unwrap();
    let large = Vgpu::run(&programs, "bochs-64m", &[]).unwrap();
    let mut vm = Machine::new(&programs)
        .memory_mib(512)
        .module("bochs")
        .vfio_user(&small.socket(), &json!({ "addr": "0x10" }))
        .vfio_user(&large.socket(), &json!({ "addr": "0x11" }))
        .boot()
        .unwrap();
    let guest = &mut vm.guest;
    let displays = [
        (&small, [(1024, 512), (800, 600), (640, 480)]),
        (&large, [(3840, 2160), (1920, 1080), (1024, 768)]),
    ];
    let functions = guest.pci_functions(ID).unwrap();
    assert_eq!(functions.len(), displays.len());
    for (function, (_, modes)) in functions.iter().zip(displays) {
        let card = guest.card_of(function).unwrap();
        assert_eq!(monitor(guest, &card).unwrap(), vgpud_monitor(modes[0]));
    }
    for turn in 0..3 {
        // Both pictures are up at once, so that each could disturb the other.
        let mut pictures = Vec::new();
        for (seed, (function, (_, modes))) in (10 * turn..).zip(functions.iter().zip(displays)) {
            let card = guest.card_of(function).unwrap();
            let size = modes[turn as usize];
            pictures.push(guest.draw(&card, size, seed).unwrap());
        }
        for (seed, (display, modes)) in (10 * turn..).zip(displays) {
            display.check_picture(modes[turn as usize], seed).unwrap();
        }
        for picture in pictures {
            guest.release(picture).unwrap();
        }
    }
}

#[test]
fn a_display_goes_through_resets_and_on_to_the_next_machine_without_its_memory() {
    let programs = Programs::from_env().unwrap();
    let display = Vgpu::run(&programs, "bochs-16m", &[]).unwrap();
    let mut vm = boot(&programs, &display).unwrap();
    let function = only_display(&mut vm.guest).unwrap();
    let size = (1920, 1080);
    let check = |vm: &mut Vm, seed| display.check_drawing(&mut vm.guest, &function, size, seed);
    check(&mut vm, 1).unwrap();
    vm.guest.reboot().unwrap();
    check(&mut vm, 2).unwrap();
    vm.qmp.system_reset().unwrap();
    vm.wait_boot().unwrap();
    check(&mut vm, 3).unwrap();

    vm.guest.unbind(DRIVER, &function).unwrap();
    let memory = video_memory(&mut vm.guest, &function, 16).unwrap();
    // Two pictures of 8 MiB: the console's, and that of the last drawing.
    let is_used = |word: &&String| *word != "0x00000000";
    assert!(memory.iter().filter(is_used).count() >= 7, "{memory:?}");
    vm.guest.bind(DRIVER, &function).unwrap();
    let card = vm.guest.card_of(&function).unwrap();
    let picture = vm.guest.draw(&card, size, 4).unwrap();
    drop(vm);
    display.wait_idle().unwrap();
    display.check_picture(size, 4).unwrap();
    drop(picture);

    let mut vm = boot(&programs, &display).unwrap();
    vm.guest.unbind(DRIVER, &function).unwrap();
    let memory = video_memory(&mut vm.guest, &function, 16).unwrap();
    assert_eq!(memory.iter().find(is_used), None, "{memory:?}");
    vm.guest.bind(DRIVER, &function).unwrap();
    check(&mut vm, 5).unwrap();
    assert_eq!(display.counter("sessions").unwrap(), 2);
}

#[test]
fn a_reset_by_the_guest_behind_a_root_port_leaves_devices_that_work() {
    let programs = Programs::from_env().unwrap();
    let display = Vgpu::run(&programs, "bochs-4m", &[]).unwrap();
    let serial = Vgpu::run(&programs, "serial-2", &[]).unwrap();
    let mut vm = Machine::new(&programs)
        .module("bochs")
        .device("pcie-root-port,id=rp0,chassis=1")
        .device("pcie-root-port,id=rp1,chassis=2")
        .vfio_user(&display.socket(), &json!({ "bus": "rp0" }))
        .vfio_user(&serial.socket(), &json!({ "bus": "rp1" }))
        .boot()
        .unwrap();
    let guest = &mut vm.guest;
    let devices = [
        (&display, DRIVER, only_display(guest).unwrap()),
        (
            &serial,
            "serial",
            guest.pci_functions("4348:3253").unwrap().concat(),
        ),
    ];
    for (device, driver, function) in &devices {
        let sysfs = format!("/sys/bus/pci/devices/{function}");
        let method = guest.sh(&format!("cat {sysfs}/reset_method")).unwrap();
        assert_eq!(method, "bus", "{driver}");
        let resets = device.counter("resets").unwrap();
        guest.unbind(driver, function).unwrap();
        guest.sh(&format!("echo 1 >{sysfs}/reset")).unwrap();
        assert_eq!(device.counter("resets").unwrap(), resets + 1, "{driver}");
        guest.bind(driver, function).unwrap();
    }
    let [(_, _, display_at), (_, _, serial_at)] = &devices;
    display
        .check_drawing(guest, display_at, (800, 600), 1)
        .unwrap();
    let ttys = guest.ttys_of(serial_at).unwrap();
    assert_eq!(ttys.len(), 2, "{ttys:?}");
    for tty in ttys {
        guest.loopback(&tty, 1024, 1).unwrap();
    }
}
