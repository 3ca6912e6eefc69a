//! What this host can do: each fact with what was found, and what to do if it is not good.

use std::fs;
use std::path::Path;

use mdev::host::{PciAddress, PciBus};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::api::{Fact, HostFacts, Parent};
use crate::blocking::blocking;
use crate::catalogue::physical::is_device;
use crate::catalogue::total_memory;
use crate::manager::Manager;

/// Looks at this host.
pub async fn look(manager: &Manager) -> HostFacts {
    let manager = manager.clone();
    blocking(move || look_now(&manager)).await
}

fn look_now(manager: &Manager) -> HostFacts {
    let system = rustix::system::uname();
    let parents = manager.parents_now();
    let cpus = std::thread::available_parallelism();
    HostFacts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        kernel: system.release().to_string_lossy().into_owned(),
        cpus: cpus.map_or(1, |cpus| cpus.get() as u64),
        memory: total_memory(),
        facts: vec![
            worker_program(manager.worker_program()),
            shared_memory(),
            user(),
            landlock(),
            seccomp(),
            cgroups(),
            render_nodes(&parents),
            shared_devices(&parents, &manager.paths().bus()),
            locked_memory(&parents),
            udmabuf(),
            open_files(),
        ],
    }
}

fn fact(name: &str, is_good: bool, found: impl Into<String>, remedy: &str) -> Fact {
    Fact {
        name: name.to_owned(),
        is_good,
        found: found.into(),
        remedy: (!is_good).then(|| remedy.to_owned()),
    }
}

fn worker_program(path: &Path) -> Fact {
    let is_there = path.is_file();
    let found = path.display().to_string();
    fact(
        "worker",
        is_there,
        found,
        "install vgpu-worker there, or set paths.worker",
    )
}

/// A VMM shares guest memory by files of this kind.
fn shared_memory() -> Fact {
    let made = memfd_create(
        "vgpud-probe",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    );
    let found = made
        .as_ref()
        .map_or_else(ToString::to_string, |_| "memfd works".to_owned());
    fact(
        "shared-memory",
        made.is_ok(),
        found,
        "allow memfd_create(2) to this service",
    )
}

fn user() -> Fact {
    let uid = rustix::process::geteuid();
    let found = format!("uid {}", uid.as_raw());
    let remedy = "run the daemon as root: sockets can then be given to others";
    fact("user", uid.is_root(), found, remedy)
}

fn landlock() -> Fact {
    let modules = read("/sys/kernel/security/lsm");
    let is_there = modules.split(',').any(|module| module == "landlock");
    let found = if modules.is_empty() {
        "/sys/kernel/security is not mounted".to_owned()
    } else {
        modules
    };
    let remedy = "mount securityfs to see; boot with lsm=landlock,... if it is missing";
    fact("landlock", is_there, found, remedy)
}

fn seccomp() -> Fact {
    let actions = read("/proc/sys/kernel/seccomp/actions_avail");
    let is_there = actions.split_whitespace().any(|action| action == "trap");
    fact(
        "seccomp",
        is_there,
        actions,
        "use a kernel with CONFIG_SECCOMP_FILTER",
    )
}

fn cgroups() -> Fact {
    let controllers = read("/sys/fs/cgroup/cgroup.controllers");
    let is_there = !controllers.is_empty();
    fact(
        "cgroup2",
        is_there,
        controllers,
        "mount cgroup2 at /sys/fs/cgroup",
    )
}

/// Physical devices that vfio-pci has, and what becomes of each. That is for information: one that
/// offers nothing may have been given for another program.
fn shared_devices(parents: &[Parent], bus: &PciBus) -> Fact {
    let devices = parents.iter().filter(|parent| is_device(&parent.name));
    let told = devices.map(|parent| {
        let Parent { name, .. } = parent;
        if !parent.types.is_empty() {
            return format!("{name} ({} vGPUs)", parent.children.len());
        }
        match shared_beside(parent, parents, bus) {
            // A GPU's sound, say, which must be given with it.
            Some(other) => format!("{name} (goes with {})", other.name),
            None => format!("{name} ({})", parent.description),
        }
    });
    let found = told.collect::<Vec<_>>().join(", ");
    fact("shared-devices", true, found, "")
}

/// A parent that offers types, and is in the same group as a device.
fn shared_beside<'a>(parent: &Parent, parents: &'a [Parent], bus: &PciBus) -> Option<&'a Parent> {
    let group = bus.group(parent.name.parse().ok()?).ok()?;
    let members = bus.members(group).ok()?;
    let mut sharing = parents.iter().filter(|other| !other.types.is_empty());
    sharing.find(|other| {
        let address = other.name.parse();
        address.is_ok_and(|address: PciAddress| members.contains(&address))
    })
}

/// What a device reaches of guests' memory is locked.
fn locked_memory(parents: &[Parent]) -> Fact {
    /// As much as one small guest has.
    const LEAST: u64 = 256 << 20;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    let found = match limit.maximum {
        None => "without a limit".to_owned(),
        Some(bytes) => format!("at most {bytes} bytes"),
    };
    let is_enough = limit.maximum.is_none_or(|bytes| bytes >= LEAST);
    let is_needed = parents.iter().any(|parent| is_device(&parent.name));
    let remedy = "set LimitMEMLOCK of the service to infinity: what a physical device reaches of \
                  guests' memory is locked (parents.ADDRESS.lock-limit is for each device)";
    fact("locked-memory", is_enough || !is_needed, found, remedy)
}

fn render_nodes(parents: &[Parent]) -> Fact {
    let names: Vec<_> = parents
        .iter()
        .skip(1)
        .filter(|parent| !is_device(&parent.name))
        .map(|parent| parent.name.as_str())
        .collect();
    let remedy = "none is needed for soft0; for a GPU, let the daemon open /dev/dri/renderD*";
    fact("gpu", !names.is_empty(), names.join(" "), remedy)
}

fn udmabuf() -> Fact {
    let is_there = Path::new("/dev/udmabuf").exists();
    let found = if is_there {
        "/dev/udmabuf"
    } else {
        "no /dev/udmabuf"
    };
    let remedy = "none is needed yet; pictures will be shared without a copy: modprobe udmabuf";
    fact("udmabuf", is_there, found, remedy)
}

fn open_files() -> Fact {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    let remedy = "set LimitNOFILE of the service to 4096 or more";
    fact(
        "open-files",
        current >= 4096,
        format!("at most {current}"),
        remedy,
    )
}

/// A small file of the kernel's; empty if it cannot be read.
fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}
