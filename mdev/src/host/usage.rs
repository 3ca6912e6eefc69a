//! What uses a device of the kernel's: an open file, a file system, a network.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::sysfs::{PciBus, VFIO_PCI};
use super::{HostError, PciAddress};

/// How deep a device's own folder goes: what is below belongs to devices on another bus.
const DEPTH: usize = 16;

/// `IFF_UP`, in a network interface's `flags`.
const INTERFACE_UP: u32 = 1;

/// What uses a device, in words; none if nothing is found to.
pub(super) fn use_of(bus: &PciBus, address: PciAddress) -> Result<Option<String>, HostError> {
    if bus.driver(address)?.as_deref() == Some(VFIO_PCI) {
        return Ok(opened_group(bus, bus.group(address)?));
    }
    let mut folders = Vec::new();
    find_folders(&bus.device(address)?, DEPTH, &mut folders);
    let heads: Vec<_> = folders
        .iter()
        .flat_map(|folder| heads(bus, folder))
        .collect();
    for head in heads {
        find_folders(&head, DEPTH, &mut folders);
    }
    let found = folders.iter().find_map(|folder| {
        interface_up(folder)
            .or_else(|| held_disk(folder))
            .or_else(|| mounted_disk(bus, folder))
    });
    let nodes: Vec<_> = folders.iter().filter_map(|folder| node(folder)).collect();
    Ok(found.or_else(|| open_node(bus, &nodes)))
}

/// A group is open once at most, and for as long as one of its devices is.
fn opened_group(bus: &PciBus, group: u32) -> Option<String> {
    let path = format!("/dev/vfio/{group}");
    let opened = File::options().read(true).write(true).open(bus.path(&path));
    let error = opened.err()?;
    let is_busy = error.kind() == io::ErrorKind::ResourceBusy;
    is_busy.then(|| format!("{path} is open"))
}

/// The folder, and all below it. One that cannot be read is passed over: its device is going away.
fn find_folders(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    found.push(folder.to_owned());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|_| depth > 0) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find_folders(&entry.path(), depth - 1, found);
        }
    }
}

/// The folders of the disk that an NVMe controller is one path to, if the folder is such a path: the
/// kernel hides the paths, and has the disk beside the devices. `nvme0c1n2` is controller 1's path to
/// the second disk of subsystem 0, which is `nvme0n2`.
fn heads(bus: &PciBus, folder: &Path) -> Vec<PathBuf> {
    let name = name(folder);
    let Some((subsystem, path)) = name.strip_prefix("nvme").and_then(|it| it.split_once('c'))
    else {
        return Vec::new();
    };
    let Some((controller, disk)) = path.split_once('n') else {
        return Vec::new();
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if ![subsystem, controller, disk].into_iter().all(is_number) {
        return Vec::new();
    }
    // What reads blocks, and what takes any command.
    let heads = [
        format!("/sys/class/block/nvme{subsystem}n{disk}"),
        format!("/sys/class/nvme-generic/ng{subsystem}n{disk}"),
    ];
    // Links to the disk's own folder, under its own name.
    heads
        .iter()
        .filter_map(|head| fs::canonicalize(bus.path(head)).ok())
        .collect()
}

fn name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Whether the folder is of this class: `net/eth0`.
fn is_of(folder: &Path, class: &str) -> bool {
    folder.parent().is_some_and(|parent| name(parent) == class)
}

fn interface_up(folder: &Path) -> Option<String> {
    if !is_of(folder, "net") {
        return None;
    }
    let flags = fs::read_to_string(folder.join("flags")).ok()?;
    let flags = u32::from_str_radix(flags.trim().strip_prefix("0x")?, 16).ok()?;
    let name = name(folder);
    (flags & INTERFACE_UP != 0).then(|| format!("the network interface {name} is up"))
}

/// A disk that another is made of.
fn held_disk(folder: &Path) -> Option<String> {
    let mut holders = fs::read_dir(folder.join("holders")).ok()?;
    let (disk, holder) = (name(folder), holders.next()?.ok()?.file_name());
    let holder = holder.to_string_lossy().into_owned();
    Some(format!("{holder} is made of {disk}"))
}

fn mounted_disk(bus: &PciBus, folder: &Path) -> Option<String> {
    // Only disks have this beside their number.
    if !folder.join("holders").is_dir() {
        return None;
    }
    let number = fs::read_to_string(folder.join("dev")).ok()?;
    let mounts = fs::read_to_string(bus.path("/proc/self/mountinfo")).unwrap_or_default();
    let disk = name(folder);
    let mount = mounts.lines().find_map(|line| {
        // Its number, its parent's, the disk, the root within it, and where it is.
        let words: Vec<_> = line.split(' ').collect();
        (*words.get(2)? == number.trim()).then(|| (*words.get(4).unwrap_or(&"?")).to_owned())
    });
    if let Some(place) = mount {
        return Some(format!("{disk} is mounted on {place}"));
    }
    let swaps = fs::read_to_string(bus.path("/proc/swaps")).unwrap_or_default();
    let is_swap = swaps
        .lines()
        .any(|line| line.split_whitespace().next() == Some(&format!("/dev/{disk}")));
    if is_swap {
        return Some(format!("the machine swaps to {disk}"));
    }
    let node = node(folder)?;
    let is_claimed = is_claimed(&bus.path(node.to_str()?));
    is_claimed.then(|| format!("the kernel uses {disk}"))
}

/// Whether the kernel has a disk for itself: mounted in any namespace, or part of a file system or a
/// volume of several. It then gives nobody else the disk alone (`O_EXCL` without `O_CREAT`, open(2)).
fn is_claimed(node: &Path) -> bool {
    let how = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    matches!(open(node, how, Mode::empty()), Err(Errno::BUSY))
}

/// The file in `/dev` of what is at a folder.
fn node(folder: &Path) -> Option<PathBuf> {
    let uevent = fs::read_to_string(folder.join("uevent")).ok()?;
    let name = uevent
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(Path::new("/dev").join(name))
}

/// Which process has one of these files open. Those of others are seen by root alone, who alone can
/// give a device away.
fn open_node(bus: &PciBus, nodes: &[PathBuf]) -> Option<String> {
    if nodes.is_empty() {
        return None;
    }
    let processes = fs::read_dir(bus.path("/proc"))
        .into_iter()
        .flatten()
        .flatten();
    // `self` and `thread-self` are somebody's names too.
    let is_number = |name: &OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    for process in processes.filter(|process| is_number(&process.file_name())) {
        let files = fs::read_dir(process.path().join("fd"));
        for file in files.into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(file.path()) else {
                continue;
            };
            if nodes.contains(&target) {
                let id = process.file_name().to_string_lossy().into_owned();
                return Some(format!("process {id} has {} open", target.display()));
            }
        }
    }
    None
}
