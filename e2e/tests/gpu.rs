//! The GPU of virtio under Debian's own driver, `virtio-gpu`.
//!
//! What the guest has drawn is compared with the picture that the server shows, not QEMU.

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
