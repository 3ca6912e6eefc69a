//! Physical devices come and go under a daemon, as its machine's files say: played ones, behind which
//! there is nothing. What is done with real ones is tried in a guest that has some (`e2e`).

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use support::{Daemon, uuid};
use vgpud::api::{CreateRequest, Parent};

const DISPLAY: &str = "0000:01:00.0";
/// Of the same device, and in the same group.
const BESIDE: &str = "0000:01:00.1";
const STRANGE: &str = "0000:02:00.0";

/// Has `vfio-pci` have a device of that class, which QEMU's makers made.
fn give(daemon: &Daemon, address: &str, device: &str) {
    let folder = daemon.path(format!("sys/bus/pci/devices/{address}"));
    fs::create_dir_all(&folder).unwrap();
    let resources = "0xfd000000 0xfdffffff 0x42208\n0x0 0x0 0x0\n0xfebd6000 0xfebd6fff 0x40200\n";
    for (name, text) in [
        ("vendor", "0x1234"),
        ("device", device),
        ("class", "0x038000"),
        ("resource", resources),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    // Each is alone on a bus of its own, and in a group of that number.
    let group = format!("sys/kernel/iommu_groups/{}", &address[6..7]);
    fs::create_dir_all(daemon.path(&group).join("devices")).unwrap();
    for (target, link) in [
        (daemon.path(&group), folder.join("iommu_group")),
        (
            "../../../bus/pci/drivers/vfio-pci".into(),
            folder.join("driver"),
        ),
        (
            folder.clone(),
            daemon.path(&group).join("devices").join(address),
        ),
    ] {
        symlink(target, link).unwrap();
    }
    let driver = daemon.path("sys/bus/pci/drivers/vfio-pci");
    fs::create_dir_all(&driver).unwrap();
    symlink(&folder, driver.join(address)).unwrap();
}

fn take_back(daemon: &Daemon, address: &str) {
    let driver = daemon.path("sys/bus/pci/drivers/vfio-pci");
    fs::remove_file(driver.join(address)).unwrap();
}

fn parent(daemon: &Daemon, name: &str) -> Option<Parent> {
    let mut parents = daemon.client.parents().unwrap().into_iter();
    parents.find(|parent| parent.name == name)
}

fn request(parent: &str) -> CreateRequest {
    let json = format!(r#"{{"parent":"{parent}","type":"bochs-slice-4m"}}"#);
    serde_json::from_str(&json).unwrap()
}

#[test]
fn a_device_that_is_given_is_a_parent_at_once_and_until_it_is_taken_back() {
    let config = format!("[parents.\"{DISPLAY}\"]\nlimits = {{ bochs-slice-4m = 2 }}\n");
    let daemon = Daemon::start_with(&config);
    assert!(parent(&daemon, DISPLAY).is_none());
    give(&daemon, DISPLAY, "0x1111");
    give(&daemon, BESIDE, "0x9999");
    give(&daemon, STRANGE, "0x9999");
    let display = parent(&daemon, DISPLAY).unwrap();
    assert_eq!(display.video_memory.total, 16 << 20);
    let slice = &display.types[0];
    assert_eq!(slice.name, "bochs-slice-4m");
    assert_eq!(
        (slice.video_memory, slice.available_instances),
        (4 << 20, 2)
    );
    let strange = parent(&daemon, STRANGE).unwrap();
    assert!(strange.types.is_empty());
    let why = "PCI device 1234:9999; it offers no types: no driver here shares it yet";
    assert_eq!(strange.description, why);
    let facts = daemon.client.host().unwrap().facts;
    let shared = facts.iter().find(|fact| fact.name == "shared-devices");
    let shared = shared.unwrap();
    let told = format!("{DISPLAY} (0 vGPUs), {BESIDE} (goes with {DISPLAY}), {STRANGE} ({why})");
    assert_eq!((shared.is_good, &shared.found), (true, &told));
    take_back(&daemon, DISPLAY);
    assert!(parent(&daemon, DISPLAY).is_none());
}

#[test]
fn a_vgpu_whose_device_is_not_to_be_had_is_refused_and_leaves_nothing() {
    let daemon = Daemon::start();
    give(&daemon, DISPLAY, "0x1111");
    // Nobody has asked what there is since.
    let refused = daemon.client.create(uuid(1), &request(DISPLAY));
    let refused = refused.unwrap_err();
    let problem = refused.problem().unwrap();
    assert_eq!(problem.errno, "ENOENT");
    for words in [
        DISPLAY,
        "is not to be had: ",
        "/dev/vfio/vfio: No such file",
    ] {
        assert!(problem.detail.contains(words), "{}", problem.detail);
    }
    assert!(daemon.client.instances().unwrap().is_empty());
    let display = parent(&daemon, DISPLAY).unwrap();
    assert_eq!((display.instances.used, display.children.len()), (0, 0));
    let left = fs::read_dir(daemon.path("run/vgpud")).unwrap();
    let names: Vec<_> = left.map(|file| file.unwrap().file_name()).collect();
    let is_its = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        name.contains(&uuid(1).to_string()) || name.contains(DISPLAY)
    };
    assert!(!names.iter().any(is_its), "{names:?}");
}

#[test]
fn what_is_said_of_a_device_may_make_no_sense_only_once_it_is_there() {
    let config = format!("[parents.\"{DISPLAY}\"]\noffer = [\"gpu-2d-hd\"]\n");
    let daemon = Daemon::start_with(&config);
    give(&daemon, DISPLAY, "0x1111");
    let display = parent(&daemon, DISPLAY).unwrap();
    assert!(display.types.is_empty());
    let words = "it has no type 'gpu-2d-hd'";
    assert!(display.description.contains(words), "{display:?}");
}
