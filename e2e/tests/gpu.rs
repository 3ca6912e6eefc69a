//! The GPU of virtio under Debian's own driver, `virtio-gpu`.
//!
//! What the guest has drawn is compared with the picture that the server shows, not QEMU.

use std::time::Duration;

use e2e::guest::Guest;
use e2e::{Machine, Memory, Programs, Result, Vgpu, Vm};
use serde_json::json;

const DRIVER: &str = "virtio-pci";
const ID: &str = "1af4:1050";

/// A guest with a GPU of ours at its root complex.
fn boot(programs: &Programs, gpu: &Vgpu) -> Result<Vm> {
    Machine::new(programs)
        .module("virtio-pci")
        .module("virtio-gpu")
        .vfio_user(&gpu.socket(), &json!({}))
        .boot()
}

/// The only GPU's address.
fn only_gpu(guest: &mut Guest) -> Result<String> {
    let found = guest.pci_functions(ID)?;
    assert_eq!(found.len(), 1, "{found:?}");
    Ok(found.concat())
}

/// The mode that the monitor of the GPU prefers, as the guest's kernel has it.
fn preferred_mode(guest: &mut Guest, function: &str) -> Result<String> {
    let card = guest.card_of(function)?;
    Ok(guest.modes(&card)?.swap_remove(0))
}

#[test]
fn the_stock_driver_lists_the_monitors_modes_and_draws_what_the_server_shows() {
    let programs = Programs::from_env().unwrap();
    let gpu = Vgpu::run(&programs, "gpu-2d-hd", &[]).unwrap();
    let mut vm = boot(&programs, &gpu).unwrap();
    let guest = &mut vm.guest;
    let function = only_gpu(guest).unwrap();
    let modes = guest.modes("card0").unwrap();
    assert_eq!(modes[0], "1920x1080@60", "{modes:?}");
    for (seed, size) in [(1, (1920, 1080)), (2, (1280, 1024)), (3, (640, 480))] {
        gpu.check_drawing(guest, &function, size, seed).unwrap();
    }

    // A driver that is up is told of a change, and reads the EDID anew.
    gpu.ask("set", &["mode=1280x720"]).unwrap();
    assert_eq!(preferred_mode(guest, &function).unwrap(), "1280x720@60");
    gpu.check_drawing(guest, &function, (1280, 720), 4).unwrap();

    guest.unbind(DRIVER, &function).unwrap();
    guest.bind(DRIVER, &function).unwrap();
    gpu.check_drawing(guest, &function, (1024, 768), 5).unwrap();
    vm.guest.reboot().unwrap();
    gpu.check_drawing(&mut vm.guest, &function, (1280, 720), 6)
        .unwrap();
    vm.qmp.system_reset().unwrap();
    vm.wait_boot().unwrap();
    gpu.check_drawing(&mut vm.guest, &function, (800, 600), 7)
        .unwrap();
    assert_eq!(gpu.counter("faults").unwrap(), 0);
    assert_eq!(gpu.counter("refused_requests").unwrap(), 0);
}

/// How long pictures come and go, with blobs and without: a minute, or ten in `./x test --all`.
fn seconds_of_cycles() -> u64 {
    match std::env::var_os("VGPUD_TEST_ALL") {
        Some(_) => 300,
        None => 30,
    }
}

/// What may come to be in use meanwhile, in KiB, of allocations that are kept for the next ones.
const SLACK: u64 = 1024;

/// Two heads with modes of their own, a third that is plugged in later, a hardware cursor.
#[expect(clippy::unwrap_used, reason = "where a test fails, it says so")]
fn use_heads(programs: &Programs, blob: &str) {
    let arguments = ["-o", "heads=2", "-o", "mode=1024x768,800x600", "-o", blob];
    let gpu = Vgpu::run(programs, "gpu-2d-hd", &arguments).unwrap();
    let mut vm = boot(programs, &gpu).unwrap();
    let guest = &mut vm.guest;
    let function = only_gpu(guest).unwrap();
    let card = guest.card_of(&function).unwrap();
    assert_eq!(guest.heads(&card).unwrap(), ["1024x768", "800x600"]);
    // Bit 3 of the features that its driver has accepted.
    let features = format!("cut -c 4 /sys/bus/pci/devices/{function}/virtio*/features");
    let expected = if blob == "blob=on" { "1" } else { "0" };
    assert_eq!(guest.sh(&features).unwrap(), expected);

    let cursor = Some((700, 500));
    let sizes = [(1024, 768), (800, 600)];
    let picture = guest.draw_heads(&card, &sizes, 10, cursor).unwrap();
    gpu.wait_head(0, sizes[0], 10, None).unwrap();
    gpu.wait_head(1, sizes[1], 11, cursor).unwrap();
    assert!(gpu.screenshot_of(2).is_err(), "it is off");
    guest.release(picture).unwrap();

    // Plugged in while the guest runs, and its modes are others.
    gpu.ask("set", &["heads=3"]).unwrap();
    let modes = format!("test \"$(guest heads /dev/dri/{card} | wc -l)\" = 3");
    guest.wait_for(&modes).unwrap();
    gpu.ask("set", &["mode=640x480,1280x720,800x600"]).unwrap();
    let sizes = [(640, 480), (1280, 720), (800, 600)];
    let modes = "test \"$(guest heads /dev/dri/CARD | head -n 1)\" = 640x480";
    guest.wait_for(&modes.replace("CARD", &card)).unwrap();
    // Partly above the screen, and left of it.
    let cursor = Some((-20, -10));
    let picture = guest.draw_heads(&card, &sizes, 20, cursor).unwrap();
    for (head, seed) in [(0, 20), (1, 21)] {
        gpu.wait_head(head, sizes[head as usize], seed, None)
            .unwrap();
    }
    gpu.wait_head(2, sizes[2], 22, cursor).unwrap();
    let told = gpu.ask("status", &[]).unwrap();
    for line in [
        "picture     640x480",
        "on head 1   1280x720",
        "on head 2   800x600",
    ] {
        assert!(told.lines().any(|it| it == line), "{line} in {told}");
    }
    guest.release(picture).unwrap();
    gpu.ask("set", &["heads=1"]).unwrap();
    let modes = format!("test \"$(guest heads /dev/dri/{card} | wc -l)\" = 1");
    guest.wait_for(&modes).unwrap();
    gpu.check_drawing(guest, &function, (640, 480), 30).unwrap();
    assert_eq!(gpu.counter("faults").unwrap(), 0);
    assert_eq!(gpu.counter("refused_requests").unwrap(), 0);
}

#[test]
fn heads_show_what_is_drawn_on_each_and_are_plugged_into_a_guest_that_runs() {
    use_heads(&Programs::from_env().unwrap(), "blob=on");
}

#[test]
fn heads_show_the_same_without_blobs() {
    use_heads(&Programs::from_env().unwrap(), "blob=off");
}

#[test]
fn a_newer_kernel_has_heads_and_blobs_as_well() {
    let programs = Programs::from_env().unwrap().with_newer_kernel().unwrap();
    use_heads(&programs, "blob=on");
}

#[test]
fn nothing_is_left_in_the_worker_of_pictures_that_a_guest_lets_go() {
    let programs = Programs::from_env().unwrap();
    for blob in ["blob=on", "blob=off"] {
        let arguments = ["-o", "heads=2", "-o", "mode=640x480", "-o", blob];
        let gpu = Vgpu::run(&programs, "gpu-2d-hd", &arguments).unwrap();
        let mut vm = boot(&programs, &gpu).unwrap();
        let guest = &mut vm.guest;
        let function = only_gpu(guest).unwrap();
        let card = guest.card_of(&function).unwrap();
        let mut cycle = |seconds: u64| -> u32 {
            let command = format!("guest cycle /dev/dri/{card} 640x480 {seconds}");
            let limit = Duration::from_secs(seconds + 60);
            let turns = guest.run_within(&command, limit).unwrap();
            assert_eq!(turns.status, 0, "{turns:?}");
            String::from_utf8_lossy(&turns.stdout)
                .trim()
                .parse()
                .unwrap()
        };
        cycle(2);
        let before = gpu.memory_in_use().unwrap();
        let turns = cycle(seconds_of_cycles());
        let after = gpu.memory_in_use().unwrap();
        println!("{blob}: {turns} turns on two heads, {before} KiB, then {after}");
        assert!(after <= before + SLACK, "{blob}: {before} {after}");
        // Video memory has no room for what has come and gone.
        gpu.check_drawing(guest, &function, (800, 600), 1).unwrap();
    }
}

#[test]
fn without_msi_x_the_pin_interrupts() {
    let programs = Programs::from_env().unwrap();
    let gpu = Vgpu::run(&programs, "gpu-2d-4k", &["-o", "msix=off"]).unwrap();
    let mut vm = boot(&programs, &gpu).unwrap();
    let function = only_gpu(&mut vm.guest).unwrap();
    gpu.check_drawing(&mut vm.guest, &function, (3840, 2160), 1)
        .unwrap();
    assert_eq!(gpu.counter("faults").unwrap(), 0);
}

#[test]
fn memory_that_only_messages_reach_is_drawn_from_as_well() {
    let programs = Programs::from_env().unwrap();
    let gpu = Vgpu::run(&programs, "gpu-2d-hd", &["-o", "mode=800x600"]).unwrap();
    let mut vm = Machine::new(&programs)
        .memory(Memory::Private)
        .module("virtio-pci")
        .module("virtio-gpu")
        .vfio_user(&gpu.socket(), &json!({}))
        .boot()
        .unwrap();
    let function = only_gpu(&mut vm.guest).unwrap();
    gpu.check_drawing(&mut vm.guest, &function, (800, 600), 1)
        .unwrap();
}

/// Where the window lies that virtio has in configuration space.
fn window(config: &[u8]) -> Option<usize> {
    let mut at = usize::from(*config.get(0x34)?);
    while at != 0 {
        let [id, next, len, kind] = *config.get(at..)?.first_chunk()?;
        if (id, len, kind) == (9, 20, 5) {
            return Some(at);
        }
        at = next.into();
    }
    None
}

/// The kernel's driver has the BAR, and whoever reads configuration space sees the same device.
#[test]
fn a_guest_reaches_registers_through_configuration_space() {
    let programs = Programs::from_env().unwrap();
    let gpu = Vgpu::run(&programs, "gpu-2d-hd", &[]).unwrap();
    let mut vm = boot(&programs, &gpu).unwrap();
    let function = only_gpu(&mut vm.guest).unwrap();
    let file = format!("/sys/bus/pci/devices/{function}/config");
    let dump = vm.guest.sh(&format!("od -An -v -tx1 {file}")).unwrap();
    let bytes = dump.split_whitespace();
    let config: Vec<_> = bytes
        .map(|it| u8::from_str_radix(it, 16).unwrap())
        .collect();
    let at = window(&config).expect("there is a window");
    // Where it is open: the BAR, the offset of the status, and one byte.
    let set = |at: usize, bytes: &str| {
        format!(
            "printf '{bytes}' | dd of={file} bs=4 seek={} conv=notrunc",
            at / 4
        )
    };
    let place = [
        set(at + 4, "\\0\\0\\0\\0"),
        set(at + 8, "\\024\\0\\0\\0"),
        set(at + 12, "\\001\\0\\0\\0"),
    ];
    let look = format!("dd if={file} bs=1 skip={} count=1 | od -An -tx1", at + 16);
    let script = format!("({}; {look}) 2>/dev/null", place.join("; "));
    assert_eq!(
        vm.guest.sh(&script).unwrap().trim(),
        "0f",
        "the driver is up"
    );
    assert_eq!(gpu.counter("faults").unwrap(), 0);
}
