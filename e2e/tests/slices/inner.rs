//! Guests on vGPUs of a physical display: QEMU in a guest that has the display.

use e2e::initramfs::Initramfs;
use e2e::inner::{self, Inner};

use super::*;

/// Where its displays are. From 16 on it draws little, as each pixel may be a message.
const SHADOW: u32 = 3;
const DIRECT: u32 = 4;
const TRAP: u32 = 16;

/// Until Linux has drawn something in there: 2 min where nothing else runs.
const LINUX_LIMIT: Duration = Duration::from_secs(900);

/// What the smallest guest shows on the display in a slot.
fn is_shown(screen: &Screen, slot: u32) -> bool {
    let size = if slot < TRAP { (640, 480) } else { (64, 64) };
    let pixel = |x: u32, y: u32| slot << 16 | (y & 0xff) << 8 | (x & 0xff);
    screen.size() == size && screen.differs_from(pixel).is_none()
}

#[test]
fn a_guest_in_a_guest_draws_on_the_physical_display_in_every_way() {
    let programs = Programs::from_env().unwrap();
    let machine = machine(&programs, "bochs-display")
        .memory_mib(768)
        .cpus(2)
        .guest_program("micro");
    let mut vm = inner::share_qemu(machine).unwrap().boot().unwrap();
    let function = vm.guest.give(BOCHS).unwrap();
    let ways = [(SHADOW, "shadow"), (DIRECT, "direct"), (TRAP, "trap")];
    let seats = ways.map(|(_, way)| format!("bochs-slice-4m,aperture={way}"));
    serve(
        &mut vm.guest,
        &function,
        &seats.each_ref().map(String::as_str),
    );
    inner::mount_qemu(&mut vm.guest).unwrap();
    let mut guest = Inner::new("/bin/micro", 64);
    for (number, (slot, _)) in ways.iter().enumerate() {
        guest = guest.vfio_user(&format!("/tmp/seat-{number}"), *slot);
    }
    guest.start(&mut vm.guest).unwrap();
    Inner::wait_for(&mut vm.guest, "drawn").unwrap();
    for _ in 0..2 {
        for (number, (slot, way)) in ways.iter().enumerate() {
            seat(&mut vm.guest, &format!("{number} set foreground on"));
            let screen = vm.screenshot().unwrap();
            assert!(is_shown(&screen, *slot), "{way}: {:?}", screen.size());
        }
    }
    Inner::send(&mut vm.guest, "off").unwrap();
    Inner::wait_for(&mut vm.guest, "inner ended 0").unwrap();
    // With its guest, its picture is gone.
    let attributes = seat(&mut vm.guest, "2 attributes");
    assert!(attributes.contains("foreground=off"), "{attributes}");
    assert!(vm.screenshot().unwrap().is_black());
}

/// Starts the only program of the inner Linux guest: it draws, and is off once it is sent a line.
const INIT: &str = "#!/bin/busybox sh
export PATH=/bin
mount -t devtmpfs dev /dev && mount -t proc proc /proc && mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
while read module; do insmod $module; done </etc/modules
until [ -e /dev/dri/card0 ]; do sleep 0.1; done
guest draw /dev/dri/card0 640x480 77 && echo inner drawn
read line
poweroff -f
";

/// Linux in emulation within emulation takes minutes to start: `./x test --all` runs it.
#[test]
fn debians_kernel_in_a_guest_draws_on_the_physical_display_with_its_own_driver() {
    if std::env::var_os("VGPUD_TEST_ALL").is_none() {
        println!("NOT RUN: it is for ./x test --all");
        return;
    }
    let programs = Programs::from_env().unwrap();
    let image = Initramfs {
        modules: vec!["bochs".to_owned()],
        files: vec![("etc/draw".to_owned(), INIT.as_bytes().to_vec())],
        ..Initramfs::default()
    };
    let image = std::fs::read(image.build(&programs).unwrap()).unwrap();
    let machine = machine(&programs, "bochs-display")
        .memory_mib(1024)
        .cpus(2)
        .file("etc/inner.cpio", image)
        .file("etc/inner.kernel", std::fs::read(&programs.kernel).unwrap());
    let mut vm = inner::share_qemu(machine).unwrap().boot().unwrap();
    let function = vm.guest.give(BOCHS).unwrap();
    serve(&mut vm.guest, &function, &["bochs-slice-8m,foreground=on"]);
    inner::mount_qemu(&mut vm.guest).unwrap();
    let guest = Inner::new("/etc/inner.kernel", 192)
        .args(&["-initrd", "/etc/inner.cpio"])
        .args(&[
            "-append",
            "console=ttyS0 quiet rdinit=/etc/draw mitigations=off",
        ])
        .vfio_user("/tmp/seat-0", 3);
    guest.start(&mut vm.guest).unwrap();
    Inner::wait_within(&mut vm.guest, "inner drawn", LINUX_LIMIT).unwrap();
    wait_for(&mut vm, 77, "what Linux has drawn");
    assert_eq!(seat(&mut vm.guest, "0 seen 77"), "640x480 right");
    Inner::send(&mut vm.guest, "off").unwrap();
    Inner::wait_for(&mut vm.guest, "inner ended 0").unwrap();
}
