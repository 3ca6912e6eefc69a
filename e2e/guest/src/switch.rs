//! From the initramfs to a Debian on a disk, whose process 1 is systemd.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::mount::{MountFlags, mount, mount_move};
use rustix::process::{chdir, chroot};

/// Written by the host: the disk that holds the root, if it is not to be the initramfs.
const ROOT_NAME: &str = "/etc/root";

/// Where it is mounted until it is the root.
const ROOT: &str = "/tmp/root";

/// How often the disk is looked for, and how long in between.
const LOOKS: usize = 200;
const LOOK: Duration = Duration::from_millis(50);

/// This program, where systemd starts it. `/run` outlives the switch, and the disk stays as it is.
const PROGRAM: &str = "run/guest";

/// The agent as a service. It says hello once the system is up, and counts its commands as its own.
const UNIT: &str = "run/systemd/system/agent.service";
const UNIT_TEXT: &str = "[Unit]
Description=Runs commands of the host's
DefaultDependencies=no
After=multi-user.target

[Service]
ExecStart=/run/guest agent
KillMode=process
";

/// The disk to switch to, if one is named.
pub(crate) fn root() -> Option<String> {
    let name = fs::read_to_string(ROOT_NAME).ok()?;
    Some(name.trim_end().to_owned())
}

/// Makes the disk the root and becomes its init. Returns only if it cannot.
pub(crate) fn switch(disk: &str) -> io::Result<()> {
    fs::create_dir(ROOT)?;
    wait_for(disk)?;
    mount(disk, ROOT, "ext4", MountFlags::empty(), None)?;
    let root = Path::new(ROOT);
    mount(
        "tmpfs",
        root.join("run"),
        "tmpfs",
        MountFlags::empty(),
        Some(c"mode=0755"),
    )?;
    fs::copy("/bin/guest", root.join(PROGRAM))?;
    fs::set_permissions(root.join(PROGRAM), Permissions::from_mode(0o755))?;
    let unit = root.join(UNIT);
    fs::create_dir_all(root.join("run/systemd/system"))?;
    fs::write(&unit, UNIT_TEXT)?;
    for moved in ["dev", "proc", "sys"] {
        mount_move(format!("/{moved}"), root.join(moved))?;
    }
    chdir(root)?;
    mount_move(".", "/")?;
    chroot(".")?;
    chdir("/")?;
    Err(Command::new("/sbin/init").env_clear().exec())
}

fn wait_for(disk: &str) -> io::Result<()> {
    for _ in 0..LOOKS {
        if Path::new(disk).exists() {
            return Ok(());
        }
        thread::sleep(LOOK);
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("there is no {disk}"),
    ))
}
