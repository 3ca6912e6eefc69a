//! What docs/libvirt.md tells people to type works as it is written there.
//!
//! What a reader brings along is ours there: QEMU, run by emulation, and a kernel on his disk.

use std::fs;
use std::path::Path;

use e2e::document::{blocks, script};

use crate::rig::Rig;

const NAME: &str = "docs/libvirt.md";

/// The reader's own.
const STAND_INS: &str = r#"
mkdir -p /usr/local/bin work
cat >/usr/local/bin/qemu-system-x86_64 <<'END'
#!/bin/sh
case " $* " in *" -blockdev "*)
    set -- "$@" -kernel /opt/vmlinuz -initrd /opt/initrd -serial null -serial null ;;
esac
exec /opt/qemu/qemu "$@"
END
cat >/opt/virsh <<'END'
#!/bin/sh
for last; do :; done
[ "$1" != define ] || sed -i "s/type='kvm'/type='qemu'/" "$last"
exec /usr/bin/virsh "$@"
END
chmod +x /usr/local/bin/qemu-system-x86_64 /opt/virsh
mv /opt/virsh /usr/local/bin/virsh
truncate -s 1M work/disk.img
"#;

#[test]
fn the_page_on_libvirt_runs_as_it_is_told() {
    let Some(mut rig) = Rig::start("the commands of docs/libvirt.md").unwrap() else {
        return;
    };
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(NAME);
    let blocks = blocks(&fs::read_to_string(page).unwrap()).unwrap();
    assert!(!blocks.is_empty());
    rig.shell.sh(STAND_INS).unwrap();
    let typed = script(NAME, &blocks);
    let output = rig
        .shell
        .run(&format!(
            "exec 2>&1\nPATH=/usr/local/bin:$PATH\ncd work\n{typed}"
        ))
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status == 0 && printed.ends_with("--- the end\n"),
        "{}: {printed}",
        output.status
    );
    rig.is_empty().unwrap();
}
