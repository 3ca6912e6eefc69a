//! The system's libvirt, which runs QEMU as a user of its own: the daemon, root's, lets that one
//! connect by a group. Takes users that are somebody's, so root.

use e2e::debian::Shell;
use e2e::{Programs, Result};
use rustix::process::geteuid;

use crate::DISPLAY;
use crate::rig::{packaged_root, without_kvm};

/// The users and groups are made by the script of Debian's own package. Nothing here may change what
/// is outside: neither who owns the files that QEMU reads, nor control groups.
const BEFORE: &str = r#"
set -eu
rm -r /var/run
ln -s /run /var/run
sh /var/lib/dpkg/info/libvirt-daemon-driver-qemu.postinst configure >/tmp/postinst.log 2>&1 || true
mkdir -p /etc/libvirt/hooks/qemu.d /etc/vgpud
cp /opt/hook /etc/libvirt/hooks/qemu.d/vgpud
cat >/etc/libvirt/qemu.conf <<'END'
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
END
export PATH=/opt/vgpud:$PATH LIBVIRT_DEFAULT_URI=qemu:///system
libvirtd >/shell/libvirtd.log 2>&1 &
"#;

/// (Re)starts the daemon with this configuration.
fn start_daemon(shell: &mut Shell, config: &str) -> Result<()> {
    shell
        .sh(&format!(
            r#"
            if [ -e /run/vgpud.pid ]; then
                kill "$(cat /run/vgpud.pid)"
                while kill -0 "$(cat /run/vgpud.pid)" 2>/dev/null; do sleep 0.05; done
            fi
            printf '{config}' >/etc/vgpud/vgpud.toml
            vgpud >>/shell/vgpud.log 2>&1 &
            echo $! >/run/vgpud.pid
            until vgpu list >/dev/null 2>&1; do sleep 0.05; done"#
        ))
        .map(drop)
}

fn define(shell: &mut Shell) -> Result<()> {
    let printed = shell.sh(&format!(
        "until virsh list >/dev/null 2>&1; do sleep 0.05; done
         vgpu define --uuid {DISPLAY} --parent soft0 --type bochs-4m
         vgpu attach {DISPLAY} --format libvirt --domain one --memory 64M"
    ))?;
    let xml = without_kvm(&printed);
    shell
        .sh(&format!(
            "cat >/tmp/domain.xml <<'END'\n{xml}\nEND\nvirsh define --validate /tmp/domain.xml"
        ))
        .map(drop)
}

fn check(shell: &mut Shell) -> Result<()> {
    start_daemon(shell, "")?;
    define(shell)?;
    let words = shell.refused("virsh start one")?;
    assert!(words.contains("Permission denied"), "{words}");
    assert_eq!(shell.sh("vgpu list --json")?, "[]");

    // As docs/libvirt.md has it.
    start_daemon(shell, "[sockets]\\ngroup = \"kvm\"\\nmode = \"0660\"\\n")?;
    shell.sh("virsh start one")?;
    let access = format!("stat -c %U:%G:%a /run/vgpud/{DISPLAY}.sock");
    let owner = shell.sh(&access)?;
    assert!(owner.ends_with(":kvm:660"), "{owner}");
    let user = shell.sh("stat -c %U /proc/$(cat /run/libvirt/qemu/one.pid)")?;
    assert_eq!(user, "libvirt-qemu");
    let status = shell.sh(&format!("vgpu status {DISPLAY} --json"))?;
    assert!(status.contains("\"connected\": true"), "{status}");
    shell.sh("virsh destroy one")?;
    assert_eq!(shell.sh("vgpu list --json")?, "[]");
    Ok(())
}

#[test]
fn the_user_that_debians_libvirt_runs_qemu_as_may_connect_by_its_group() {
    let programs = Programs::from_env().unwrap();
    let root = packaged_root(&programs).unwrap();
    let Some(root) = root.filter(|_| geteuid().is_root()) else {
        eprintln!("NOT RUN: the system's libvirt: not root, or a QEMU of this machine's own");
        return;
    };
    let mut shell = root.shell(BEFORE, "").unwrap();
    check(&mut shell).unwrap();
}
