//! Domains that cannot have their vGPUs do not start, and say why; nothing is left half made, and
//! nobody else's vGPU is touched.

use crate::rig::{END_DAEMON, Rig, START_DAEMON};
use crate::{DISPLAY, PORTS};

/// A definition that stands in what is printed until something else is put there.
const STAND_IN: &str = "11111111-2222-4333-8444-555555555555";

/// What a domain says of its vGPUs, and the words that its user gets.
const REFUSED: &[(&str, &str)] = &[
    (
        "<vgpu:vgpu uuid='DISPLAY' parent='soft0' type='bochs-4m'/>
         <vgpu:vgpu uuid='PORTS' parent='soft0' type='edu-1'/>",
        "vGPU PORTS cannot be started:\nvgpu: no place is free on soft0 for 'edu-1' (EUSERS)\n\
         remedy: remove a vGPU",
    ),
    (
        "<vgpu:vgpu uuid='DISPLAY' parent='soft0' type='bochs-5m'/>",
        "soft0 offers no type 'bochs-5m' (ENOENT)\nremedy: list what it offers: vgpu types",
    ),
    (
        "<vgpu:vgpu uuid='DISPLAY' parent='soft0' type='bochs-4m'>
           <vgpu:attribute name='mode' value='1x1'/>
         </vgpu:vgpu>",
        "'mode' cannot be '1x1'",
    ),
    (
        "<vgpu:vgpu uuid='DISPLAY' parent='soft0' type='bochs-4m'/>
         <vgpu:vgpu uuid='PORTS'/>",
        "it is neither there nor defined (ENODEV)\nremedy: vgpu define it",
    ),
    (
        "<vgpu:vgpu uuid='DISPLAY' typ='bochs-4m'/>",
        "what domain 'one' says of vGPUs is not understood: <vgpu typ=…>",
    ),
    (
        "<vgpu:vgpu uuid='FOREIGN' parent='soft0' type='bochs-4m'/>",
        "is there already, and is not what is asked for: its type is edu-1 (EEXIST)",
    ),
];

/// A domain that says this of vGPUs.
fn domain(rig: &mut Rig, name: &str, inside: &str) -> e2e::Result<String> {
    let xml = rig.domain(name, STAND_IN)?;
    Ok(xml.replace(&format!("<vgpu:vgpu uuid='{STAND_IN}'/>"), inside))
}

/// A vGPU that somebody made for himself.
fn somebody(rig: &mut Rig) -> e2e::Result<String> {
    let start = "vgpu start --parent soft0 --type edu-1";
    let define = format!("vgpu define --uuid {STAND_IN} --parent soft0 --type serial-1");
    rig.shell.sh(&format!("{define}\n{start}"))
}

fn uuids(rig: &mut Rig) -> Vec<String> {
    let vgpus = rig.vgpus().unwrap();
    let uuids = vgpus.iter().filter_map(|vgpu| vgpu["uuid"].as_str());
    uuids.map(str::to_owned).collect()
}

#[test]
fn a_domain_that_cannot_have_its_vgpus_says_why_and_leaves_nothing() {
    let Some(mut rig) = Rig::start("domains that are refused").unwrap() else {
        return;
    };
    let foreign = somebody(&mut rig).unwrap();
    for (inside, expected) in REFUSED {
        let filled = |text: &str| {
            text.replace("DISPLAY", DISPLAY)
                .replace("PORTS", PORTS)
                .replace("FOREIGN", &foreign)
        };
        let (inside, expected) = (filled(inside), filled(expected));
        let xml = domain(&mut rig, "one", &inside).unwrap();
        rig.define(&xml).unwrap();
        let words = rig.shell.refused("virsh start one").unwrap();
        assert!(words.contains(&expected), "{inside}: {words}");
        assert_eq!(uuids(&mut rig), [foreign.as_str()], "{inside}");
    }

    // QEMU itself refuses, after the hook.
    let display = format!("<vgpu:vgpu uuid='{DISPLAY}' parent='soft0' type='bochs-4m'/>");
    let xml = domain(&mut rig, "one", &display).unwrap();
    let broken = xml.replace("vfio-user-pci", "no-such-device");
    rig.define(&broken).unwrap();
    let words = rig.shell.refused("virsh start one").unwrap();
    assert!(words.contains("no-such-device"), "{words}");
    assert_eq!(uuids(&mut rig), [foreign.as_str()]);

    // What has no vGPUs is none of the hook's business, and needs no daemon.
    let none = domain(&mut rig, "none", "").unwrap();
    let at = none.find("  <qemu:commandline>").unwrap();
    let none = none[..at].to_owned() + "</domain>\n";
    rig.define(&none).unwrap();
    rig.shell.sh(END_DAEMON).unwrap();
    rig.shell
        .sh("virsh start none && virsh destroy none")
        .unwrap();
    rig.define(&xml).unwrap();
    let words = rig.shell.refused("virsh start one").unwrap();
    assert!(words.contains("cannot reach the daemon at "), "{words}");
    assert!(words.contains("remedy: start vgpud"), "{words}");
    rig.shell.sh(START_DAEMON).unwrap();
    assert_eq!(uuids(&mut rig), [foreign.as_str()]);
    rig.shell.sh(&format!("vgpu stop {foreign}")).unwrap();
    rig.is_empty().unwrap();
}

#[test]
fn a_domain_keeps_its_vgpu_whatever_others_ask_for_and_though_the_daemon_ends() {
    let Some(mut rig) = Rig::start("domains that want the same vGPU").unwrap() else {
        return;
    };
    let define = format!("vgpu define --uuid {DISPLAY} --parent soft0 --type bochs-4m");
    rig.shell.sh(&define).unwrap();
    for name in ["one", "two"] {
        let xml = rig.domain(name, DISPLAY).unwrap();
        rig.define(
            &xml.replace("path='/shell/agent'", &format!("path='/shell/{name}'"))
                .replace("mode='connect'", "mode='bind'"),
        )
        .unwrap();
    }
    rig.shell.sh("virsh start one").unwrap();
    let connected = format!("vgpu status {DISPLAY} --json | grep '\"connected\": true'");
    rig.shell.sh(&connected).unwrap();
    let words = rig.shell.refused("virsh start two").unwrap();
    assert!(
        words.contains("a VMM is connected to it (EBUSY)"),
        "{words}"
    );
    rig.shell.sh(&connected).unwrap();

    // Its daemon is gone when it ends: that does not hold up its end, and the next start finds what
    // was left.
    rig.shell.sh(END_DAEMON).unwrap();
    rig.shell.sh("virsh destroy one").unwrap();
    rig.shell.sh(START_DAEMON).unwrap();
    assert_eq!(uuids(&mut rig), [DISPLAY]);
    rig.shell.sh("virsh start two").unwrap();
    rig.shell.sh(&connected).unwrap();
    rig.shell.sh("virsh destroy two").unwrap();
    rig.is_empty().unwrap();
}
