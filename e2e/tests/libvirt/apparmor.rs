//! What the package adds to the profile of a QEMU that libvirt confines, read by AppArmor's parser.
//! Enforcing it takes a kernel with AppArmor, and is not tried here.

use e2e::{DebianRoot, Result};

use crate::rig::packaged;

/// A profile as libvirt makes one for each domain.
const PROFILE: &str = "
cat >/tmp/profile <<'END'
#include <tunables/global>
profile libvirt-4f0f2e64-2f4a-4c19-93f5-5f4a6d0f2c11 flags=(attach_disconnected) {
  #include <abstractions/libvirt-qemu>
}
END";

const PARSE: &str = "apparmor_parser --skip-kernel-load --skip-cache /tmp/profile";

fn check() -> Result<()> {
    let Some(root) = DebianRoot::from_env()? else {
        eprintln!("NOT RUN: the rules for AppArmor: no namespaces");
        return Ok(());
    };
    let root = root.bind(
        &packaged("apparmor"),
        "/etc/apparmor.d/abstractions/libvirt-qemu.d/vgpud",
    );
    let mut shell = root.shell(PROFILE, "")?;
    shell.sh(PARSE)?;
    let whole = shell.sh("apparmor_parser --preprocess /tmp/profile")?;
    assert!(
        whole.contains("\n  @{run}/vgpud/[0-9a-f]*-"),
        "Debian's abstraction takes it in: {whole}"
    );
    // The parser would not let a mistake pass.
    shell.sh("cd /etc/apparmor.d/abstractions/libvirt-qemu.d
        sed 's/ rw,/ rw/' vgpud >broken")?;
    let words = shell.refused(PARSE)?;
    assert!(words.contains("syntax error"), "{words}");
    Ok(())
}

#[test]
fn debians_profile_of_a_confined_qemu_takes_in_the_rules_for_vgpus() {
    check().unwrap();
}
