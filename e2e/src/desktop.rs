//! A guest with a desktop: weston, a Wayland compositor, on a display that is ours.
//!
//! It runs in a root of its own, from a disk that is made of the tree that `setup/desktop.sh`
//! unpacks; what starts it is the agent of the initramfs.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use crate::guest::Guest;
use crate::system::root_image;
use crate::{Error, Machine, Programs, Result};

/// The folder that `setup/desktop.sh` makes.
const FOLDER: &str = "VGPUD_DESKTOP";

/// Room on the disk. The image has holes where nothing was written.
const DISK_SIZE: &str = "128M";

/// Mounts the disk, and starts weston from it.
const START: &str = include_str!("desktop/start.sh");

/// From there to a compositor that clients can connect to.
const START_LIMIT: Duration = Duration::from_secs(120);

/// The size that weston sets, and what is in its panel. Nothing on it moves by itself.
const CONFIG: &str = "[core]
idle-time=0
require-input=false
[output]
name=Virtual-1
mode=1024x768
[shell]
animation=none
close-animation=none
startup-animation=none
focus-animation=none
locking=false
clock-format=none
background-color=0xff103050
background-type=tile
background-image=/nothing
panel-color=0xff204060
[launcher]
icon=/usr/share/weston/icon_terminal.png
path=/usr/bin/weston-terminal
[terminal]
font=DejaVu Sans Mono
font-size=16
";

/// How large its picture is.
pub const SIZE: (u32, u32) = (1024, 768);

/// The lines of the panel at its upper edge, and their colour.
pub const PANEL_HEIGHT: u32 = 32;
/// See [`PANEL_HEIGHT`].
pub const PANEL: u32 = 0x0020_4060;

/// Where in the panel a click opens a terminal.
pub const TERMINAL: (u16, u16) = (22, 16);

/// The colour of what is behind all windows.
pub const BACKGROUND: u32 = 0x0010_3050;

/// A machine that [`start`] can start it in, once its display is added.
pub fn machine(programs: &Programs) -> Result<Machine<'_>> {
    let tree = env::var_os(FOLDER).ok_or(Error::Environment(FOLDER))?;
    let image = root_image(programs, &PathBuf::from(tree).join("weston"), DISK_SIZE)?;
    Ok(Machine::new(programs)
        .memory_mib(384)
        .module("crc32c_generic")
        .module("ext4")
        .module("virtio_blk")
        .module("virtio-gpu")
        .module("evdev")
        .module("virtio_input")
        .file("etc/weston.ini", CONFIG)
        .file("etc/desktop", START)
        .arg("-drive")
        .arg(crate::system::drive(&image)))
}

/// Starts weston. Its first picture may not be up yet.
pub fn start(guest: &mut Guest) -> Result<()> {
    let output = guest.run_within("sh /etc/desktop", START_LIMIT)?;
    if output.status == 0 {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Guest(format!("weston did not start: {words}")))
}
