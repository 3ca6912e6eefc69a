//! A guest whose memory no server can map.

use e2e::{Machine, Memory, Programs, Vgpu};
use serde_json::json;

#[test]
fn a_guest_without_shared_memory_has_its_devices_all_the_same() {
    let programs = Programs::from_env().unwrap();
    let display = Vgpu::run(&programs, "bochs-16m", &[]).unwrap();
    let serial = Vgpu::run(&programs, "serial-2", &[]).unwrap();
    let mut vm = Machine::new(&programs)
        .memory(Memory::Private)
        .module("bochs")
        .vfio_user(&display.socket(), &json!({}))
        .vfio_user(&serial.socket(), &json!({}))
        .boot()
        .unwrap();
    let guest = &mut vm.guest;

    let line = "Private, yet on the screen: 0123456789";
    guest.say(line).unwrap();
    let font = guest.font().unwrap();
    let screen = display.screenshot().unwrap();
    assert!(screen.shows(&font, line), "{:?}", screen.text(&font));
    let function = guest.pci_functions("1234:1111").unwrap().concat();
    for (seed, size) in [(1, (1920, 1080)), (2, (800, 600))] {
        display.check_drawing(guest, &function, size, seed).unwrap();
    }

    let function = guest.pci_functions("4348:3253").unwrap().concat();
    let ttys = guest.ttys_of(&function).unwrap();
    assert_eq!(ttys.len(), 2, "{ttys:?}");
    for tty in &ttys {
        guest.loopback(tty, 2048, 3).unwrap();
    }

    for device in [&display, &serial] {
        let status = device.status().unwrap();
        let counter = |name| device.counter(name).unwrap();
        assert!(counter("dma_maps") > 0, "{status}");
        assert!(counter("dma_maps") > counter("dma_unmaps"), "{status}");
        assert_eq!(counter("refused_requests"), 0, "{status}");
        assert_eq!(counter("faults"), 0, "{status}");
        assert_eq!(counter("sessions"), 1, "{status}");
    }
}
