//! What README.md and docs/ tell people to type works as it is written there: each page in a root
//! of its own, where our programs are installed and a daemon runs.
//!
//! What a reader brings along is ours there: the disk of his VM is a stock kernel that binds its
//! display, `systemctl restart vgpud` ends the daemon and starts it, as its unit does (the unit
//! itself is tested in a guest), and for Cloud Hypervisor, which Debian does not have, something
//! stands in that looks whether the socket it is told of is there.

use std::fs;
use std::path::Path;
use std::time::Duration;

use e2e::document::{blocks, script};
use e2e::initramfs::Initramfs;
use e2e::{DebianRoot, Programs};

/// A page with two boots takes 15 s, where nothing else runs.
const LIMIT: Duration = Duration::from_secs(300);

/// What there is before the first command.
const BEFORE: &str = r#"
set -eu
export PATH=/usr/local/bin:/opt/vgpud:$PATH
mkdir -p /etc/vgpud /root/work /usr/local/bin
cd /root/work
cat >/usr/local/bin/qemu-system-x86_64 <<'END'
#!/bin/sh
case " $* " in *" -drive "*)
    set -- "$@" -kernel /opt/vmlinuz -initrd /opt/initrd -serial null -serial null ;;
esac
exec /opt/qemu/qemu "$@"
END
cat >/usr/local/bin/systemctl <<'END'
#!/bin/sh
[ "$*" = "restart vgpud" ] || exit 1
kill "$(cat /run/vgpud.pid)"
while kill -0 "$(cat /run/vgpud.pid)" 2>/dev/null; do sleep 0.05; done
exec start-vgpud
END
cat >/usr/local/bin/start-vgpud <<'END'
#!/bin/sh
vgpud >>/tmp/vgpud.log 2>&1 &
echo $! >/run/vgpud.pid
until vgpu list >/dev/null 2>&1; do sleep 0.05; done
END
cat >/usr/local/bin/cloud-hypervisor <<'END'
#!/bin/bash
[[ " $* " =~ " --memory size=1G,shared=on " && " $* " =~ --user-device\ socket=([^ ]+) ]] &&
    [ -S "${BASH_REMATCH[1]}" ]
END
chmod +x /usr/local/bin/*
systemd-sysusers 2>/dev/null
truncate -s 1M disk.img
start-vgpud
"#;

/// Where our package has what mdevctl asks for our devices.
const CALLOUT: &str = "/usr/lib/mdevctl/scripts.d/callouts/vgpud";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A root with our programs and QEMU; none where that is not to be had.
fn root(programs: &Programs) -> Result<Option<DebianRoot>> {
    let initrd = Initramfs {
        modules: vec!["bochs".to_owned()],
        ..Initramfs::default()
    };
    let initrd = initrd.build(programs)?;
    let root = DebianRoot::from_env()?.and_then(|root| root.bind_qemu(programs));
    let callout = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/mdevctl/vgpud");
    Ok(root.map(|root| {
        root.bind(Path::new(callout), CALLOUT)
            .bind(&programs.bin, "/opt/vgpud")
            .bind(&programs.kernel, "/opt/vmlinuz")
            .bind(&initrd, "/opt/initrd")
    }))
}

fn run_page(name: &str) -> Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    let blocks = blocks(&fs::read_to_string(&page)?)?;
    if blocks.is_empty() {
        return Err("no commands".into());
    }
    let Some(root) = root(&Programs::from_env()?)? else {
        eprintln!(
            "NOT RUN: the commands of {name}: no namespaces, or a QEMU of this machine's own"
        );
        return Ok(());
    };
    let script = BEFORE.to_owned() + &script(name, &blocks);
    let dir = tempfile::tempdir()?;
    let mut process = root.run(&script, &dir.path().join("log"))?;
    let status = process.wait_exit(LIMIT)?;
    if status.success() && process.log().ends_with("--- the end\n") {
        return Ok(());
    }
    Err(format!("{status}: {}", process.log()).into())
}

#[test]
fn the_first_steps_run_as_they_are_told() {
    run_page("README.md").unwrap();
}

#[test]
fn the_first_vm_runs_as_it_is_told() {
    run_page("docs/first-vm.md").unwrap();
}

#[test]
fn a_console_is_where_it_is_told() {
    run_page("docs/console.md").unwrap();
}

#[test]
fn limits_are_set_and_met_as_it_is_told() {
    run_page("docs/sharing.md").unwrap();
}

#[test]
fn mdevctl_runs_as_it_is_told() {
    run_page("docs/mdev.md").unwrap();
}

#[test]
fn each_trouble_has_the_words_that_it_is_told_by() {
    run_page("docs/troubleshooting.md").unwrap();
}
