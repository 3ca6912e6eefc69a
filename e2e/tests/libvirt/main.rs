//! Domains of Debian's own libvirt that name vGPUs: they have them while they live, and nothing is
//! left of a vGPU after its domain, however that ended.
//!
//! libvirt runs in session mode, in a root of its own, with directories and sockets that no other
//! libvirt knows; a user's own daemon serves the vGPUs.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod apparmor;
mod page;
mod refused;
mod rig;
mod system;

use rig::{KILL_LIBVIRT, KILL_QEMU, Rig, START_LIBVIRT};

const DISPLAY: &str = "c2177883-f1bb-47f0-914d-32a22e3a8804";
const PORTS: &str = "4f0f2e64-2f4a-4c19-93f5-5f4a6d0f2c11";

const SIZE: (u32, u32) = (640, 480);

/// A domain with two vGPUs: the hook creates one, of the other there is a definition.
fn define(rig: &mut Rig) -> e2e::Result<()> {
    rig.shell.sh(&format!(
        "vgpu start --uuid {DISPLAY} --parent soft0 --type bochs-16m --attr mode=1024x600
         vgpu define --uuid {PORTS} --parent soft0 --type serial-2"
    ))?;
    let xml = rig.domain("both", &format!("{DISPLAY} {PORTS}"))?;
    rig.shell.sh(&format!("vgpu stop {DISPLAY}"))?;
    rig.is_empty()?;
    rig.define(&xml)
}

/// The guest uses both vGPUs, and libvirt plugs something in beside them.
fn use_both(rig: &mut Rig) -> e2e::Result<()> {
    let mut guest = rig.guest()?;
    let display = guest.pci_functions("1234:1111")?;
    assert_eq!(display, ["0000:00:10.0"]);
    let card = guest.card_of(&display[0])?;
    let modes = guest.modes(&card)?;
    assert!(modes[0].starts_with("1024x600@"), "{modes:?}");
    let _picture = guest.draw(&card, SIZE, 7)?;
    let shown = rig.screenshot(DISPLAY)?;
    assert_eq!((shown.size(), shown.differs_from_pattern(7)), (SIZE, None));
    let ttys = guest.ttys_of("0000:00:11.0")?;
    assert_eq!(ttys.len(), 2);
    guest.loopback(&ttys[1], 512, 3)?;
    rig.write(
        "rng.xml",
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    )?;
    rig.shell.sh("virsh attach-device both /shell/rng.xml")?;
    Ok(())
}

/// Waits until libvirt has noticed a domain's end, and the hook is done.
fn wait_end(rig: &mut Rig) -> e2e::Result<()> {
    rig.shell
        .wait_for("[ \"$(virsh domstate both)\" = 'shut off' ]")?;
    rig.shell.wait_for("[ \"$(vgpu list --json)\" = '[]' ]")?;
    rig.is_empty()
}

#[test]
fn a_domain_has_its_vgpus_while_it_lives_and_leaves_nothing_of_them() {
    let Some(mut rig) = Rig::start("domains of libvirt's").unwrap() else {
        return;
    };
    define(&mut rig).unwrap();

    // Destroyed.
    rig.shell.sh("virsh start both").unwrap();
    let vgpus = rig.vgpus().unwrap();
    assert_eq!(vgpus.len(), 2, "{vgpus:#?}");
    rig.is_empty().unwrap_err();
    use_both(&mut rig).unwrap();
    rig.shell.sh("virsh destroy both").unwrap();
    rig.is_empty().unwrap();

    // Shut down from inside, by the same definition.
    rig.shell.sh("virsh start both").unwrap();
    let mut guest = rig.guest().unwrap();
    let display = guest.pci_functions("1234:1111").unwrap();
    assert_eq!(display, ["0000:00:10.0"]);
    // It is off before it answers.
    let _ = guest.run("poweroff -f");
    wait_end(&mut rig).unwrap();

    // Killed, and killed while libvirt's daemon is away: it sees to that when it is back.
    rig.shell.sh("virsh start both").unwrap();
    assert_eq!(rig.vgpus().unwrap().len(), 2);
    rig.shell.sh(KILL_QEMU).unwrap();
    wait_end(&mut rig).unwrap();
    rig.shell.sh("virsh start both").unwrap();
    rig.shell.sh(KILL_LIBVIRT).unwrap();
    rig.shell.sh(START_LIBVIRT).unwrap();
    assert_eq!(rig.vgpus().unwrap().len(), 2, "a domain that lives on");
    rig.shell.sh(KILL_LIBVIRT).unwrap();
    rig.shell.sh(KILL_QEMU).unwrap();
    rig.shell.sh(START_LIBVIRT).unwrap();
    wait_end(&mut rig).unwrap();
    rig.shell.sh("virsh undefine both").unwrap();
    let kept = rig.shell.sh("vgpu list --defined").unwrap();
    assert!(
        kept.contains(PORTS) && !kept.contains(DISPLAY),
        "a definition stays: {kept}"
    );
}
