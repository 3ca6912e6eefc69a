//! A guest that is a whole Debian with systemd, on a disk of its own.
//!
//! The disk is made of the tree that `VGPUD_DEBIAN` names, once, and kept beside the initramfs
//! images. What a guest writes to it goes with that guest.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Machine, Programs, Result};

/// The tree of Debian's programs.
const TREE: &str = "VGPUD_DEBIAN";

/// Room on the disk, for what a test installs. The image has holes where nothing was written.
const DISK_SIZE: &str = "1G";

/// Room for files that a test brings.
const FILES_SIZE: &str = "256M";

/// What a guest of ours has no use for, and what would take long to find out that nothing is to be
/// done.
const MASKED: [&str; 23] = [
    "apparmor.service",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "getty.target",
    "kmod-static-nodes.service",
    "ldconfig.service",
    "libvirt-guests.service",
    "libvirtd.service",
    "libvirtd.socket",
    "logrotate.timer",
    "man-db.timer",
    "serial-getty@ttyS0.service",
    "systemd-binfmt.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-modules-load.service",
    "systemd-networkd.service",
    "systemd-udev-trigger.service",
    "systemd-tmpfiles-clean.timer",
    "virtlogd.socket",
    "systemd-firstboot.service",
];

/// A Debian in the making. Files in the folder `files` are at `/mnt` once a test has mounted
/// `/dev/vdb` there.
pub fn machine<'a>(programs: &'a Programs, files: &Path) -> Result<Machine<'a>> {
    let mut machine = Machine::new(programs)
        .memory_mib(768)
        .cpus(2)
        .module("crc32c_generic")
        .module("ext4")
        .module("virtio_blk")
        .module("autofs4")
        .file("etc/root", "/dev/vda")
        .kernel_arg("systemd.unit=multi-user.target systemd.wants=agent.service")
        // What it is and what was done at its first start is known.
        .kernel_arg("systemd.machine_id=5d2ad0ec61a34c5e9d1f3a4b07c6e8f2")
        .kernel_arg("systemd.condition_first_boot=no systemd.show_status=no")
        .arg("-drive")
        .arg(drive(&root_image(programs, &tree()?, DISK_SIZE)?))
        .arg("-drive")
        .arg(drive(files));
    for unit in MASKED {
        machine = machine.kernel_arg(&format!("systemd.mask={unit}"));
    }
    Ok(machine)
}

/// A disk for `-drive`, whose image stays as it is.
pub(crate) fn drive(image: &Path) -> String {
    format!(
        "file={},format=raw,if=virtio,snapshot=on",
        image.display().to_string().replace(',', ",,")
    )
}

fn tree() -> Result<PathBuf> {
    let tree = env::var_os(TREE).ok_or(Error::Environment(TREE))?;
    Ok(PathBuf::from(tree))
}

/// The disk of a tree, made now unless it was made before.
pub(crate) fn root_image(programs: &Programs, tree: &Path, size: &str) -> Result<PathBuf> {
    let metadata = fs::metadata(tree).map_err(Error::io("read", tree))?;
    let changed = metadata.modified().map_err(Error::io("read", tree))?;
    let mut hasher = DefaultHasher::new();
    (tree, changed, size).hash(&mut hasher);
    let cache = programs.guest_bin.join("debian");
    fs::create_dir_all(&cache).map_err(Error::io("create", &cache))?;
    let path = cache.join(format!("{:016x}.ext4", hasher.finish()));
    if !path.exists() {
        // Made aside and moved, since another test may want the same.
        let new = tempfile::NamedTempFile::new_in(&cache).map_err(Error::io("write in", &cache))?;
        make_image(tree, new.path(), size)?;
        new.persist(&path)
            .map_err(|error| error.error)
            .map_err(Error::io("write", &path))?;
    }
    Ok(path)
}

/// Makes a disk of the files in a folder.
pub fn files_image(folder: &Path, image: &Path) -> Result<()> {
    make_image(folder, image, FILES_SIZE)
}

/// All files become root's, whosever they are here.
fn make_image(folder: &Path, image: &Path, size: &str) -> Result<()> {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new("mke2fs")
    } else {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "mke2fs"]);
        command
    };
    let path = env::var("PATH").unwrap_or_default();
    let output = command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .args(["-q", "-F", "-t", "ext4", "-d"])
        .arg(folder)
        .arg(image)
        .arg(size)
        .output()
        .map_err(Error::io("start", Path::new("mke2fs")))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Gone(format!("mke2fs: {words}")))
}
