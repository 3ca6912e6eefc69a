use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use mdev::device::BuildError;
use mdev::host::HostDevice;
use mdev::{Attributes, Parent, TypeSpec};
use tempfile::TempDir;

use super::*;

/// Shares displays, and nothing else.
struct Displays;

impl ParentDriver for Displays {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn drives(&self, identity: &HostIdentity) -> bool {
        identity.class >> 16 == 3
    }

    fn types(&self, _: &HostIdentity) -> Vec<TypeSpec> {
        let spec = TypeSpec {
            name: "slice-4m".to_owned(),
            title: "a slice".to_owned(),
            description: "a slice of a display".to_owned(),
            video_memory: 4 << 20,
        };
        vec![spec]
    }

    fn video_memory(&self, identity: &HostIdentity) -> u64 {
        identity.bars[0]
    }

    fn address_bits(&self, _: &HostIdentity) -> u32 {
        32
    }

    fn settings(&self) -> &'static [&'static str] {
        &["direct"]
    }

    fn open(&self, _: HostDevice, _: &Attributes) -> Result<Arc<dyn Parent>, BuildError> {
        unreachable!("nothing is opened to see what there is")
    }
}

/// Shares whatever it is, and takes no settings.
struct Anything;

impl ParentDriver for Anything {
    fn name(&self) -> &'static str {
        "any"
    }

    fn drives(&self, _: &HostIdentity) -> bool {
        true
    }

    fn types(&self, identity: &HostIdentity) -> Vec<TypeSpec> {
        Displays.types(identity)
    }

    fn address_bits(&self, _: &HostIdentity) -> u32 {
        32
    }

    fn open(&self, _: HostDevice, _: &Attributes) -> Result<Arc<dyn Parent>, BuildError> {
        unreachable!("nothing is opened to see what there is")
    }
}

fn displays(identity: &HostIdentity) -> Option<&'static dyn ParentDriver> {
    Displays.drives(identity).then_some(&Displays)
}

/// A machine whose `vfio-pci` has no device yet.
struct Machine {
    root: TempDir,
    bus: PciBus,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let bus = PciBus::new(root.path());
        fs::create_dir_all(bus.path("/sys/bus/pci/drivers/vfio-pci")).unwrap();
        Self { root, bus }
    }

    fn add(&self, address: &str, class: &str, group: Option<u32>, is_given: bool) {
        let folder = self.bus.path(&format!("/sys/bus/pci/devices/{address}"));
        fs::create_dir_all(&folder).unwrap();
        let resource = "0xfd000000 0xfdffffff 0x42208\n";
        for (name, text) in [
            ("vendor", "0x1234"),
            ("device", "0x1111"),
            ("class", class),
            ("resource", resource),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        if let Some(group) = group {
            let members = format!("/sys/kernel/iommu_groups/{group}/devices");
            fs::create_dir_all(self.bus.path(&members)).unwrap();
            symlink(&folder, self.bus.path(&members).join(address)).unwrap();
            symlink(format!("../{group}"), folder.join("iommu_group")).unwrap();
        }
        if is_given {
            let driver = "/sys/bus/pci/drivers/vfio-pci";
            symlink(&folder, self.bus.path(driver).join(address)).unwrap();
        }
    }

    fn find(&self, config: &str) -> Vec<ParentSpec> {
        let config = Config::parse(config).unwrap();
        let found = find(&config, &self.bus, displays).into_iter();
        found.map(Found::anyhow).collect()
    }
}

const DISPLAY: &str = "0x038000";
const OTHER: &str = "0x00ff00";
const BRIDGE: &str = "0x060400";

#[test]
fn a_device_that_a_driver_shares_is_a_parent_with_its_types_and_memory() {
    let machine = Machine::new();
    machine.add("0000:00:02.0", DISPLAY, Some(1), true);
    machine.add("0000:00:03.0", DISPLAY, Some(2), false);
    let found = machine.find("");
    assert_eq!(found.len(), 1, "one that vfio-pci does not have is none");
    let parent = &found[0];
    assert_eq!(parent.name, "0000:00:02.0");
    assert_eq!(parent.description, "PCI device 1234:1111");
    assert_eq!(parent.limits.video_memory, 16 << 20);
    assert_eq!(
        parent.find_type("slice-4m").unwrap().share.video_memory,
        4 << 20
    );
    assert_eq!(parent.engine, None);
    let host = parent.host.as_ref().unwrap();
    assert_eq!((host.address_bits, host.settings.len()), (32, 0));
    assert!(Machine::new().find("").is_empty());
    drop(machine.root);
}

#[test]
fn a_device_that_nothing_can_be_created_on_says_why() {
    let machine = Machine::new();
    machine.add("0000:00:01.0", OTHER, Some(1), true);
    machine.add("0000:00:02.0", DISPLAY, None, true);
    machine.add("0000:00:03.0", DISPLAY, Some(3), true);
    machine.add("0000:00:03.1", OTHER, Some(3), false);
    machine.add("0000:00:04.0", DISPLAY, Some(4), true);
    machine.add("0000:00:04.1", DISPLAY, Some(4), true);
    machine.add("0000:00:05.0", DISPLAY, Some(5), true);
    machine.add("0000:00:05.1", OTHER, Some(5), true);
    machine.add("0000:00:1e.0", BRIDGE, Some(5), false);
    let found = machine.find("");
    let offers = |name: &str| {
        let spec = found.iter().find(|parent| parent.name == name).unwrap();
        (!spec.types.is_empty(), spec.description.clone())
    };
    for (name, expected) in [
        ("0000:00:01.0", Some("no driver here shares it yet")),
        ("0000:00:02.0", Some("is behind no IOMMU")),
        ("0000:00:03.0", Some("vgpu bind 0000:00:03.1")),
        ("0000:00:04.0", None),
        (
            "0000:00:04.1",
            Some("0000:00:04.0 is in the same IOMMU group"),
        ),
        ("0000:00:05.0", None),
        ("0000:00:05.1", Some("no driver here shares it yet")),
    ] {
        let (offers, description) = offers(name);
        assert_eq!(offers, expected.is_none(), "{name}: {description}");
        assert!(
            description.contains(expected.unwrap_or_default()),
            "{description}"
        );
    }
}

#[test]
fn a_device_is_limited_and_set_by_whatever_form_of_its_address() {
    let machine = Machine::new();
    machine.add("0000:00:02.0", DISPLAY, Some(1), true);
    for name in ["0000:00:02.0", "00:02.0"] {
        let said = format!(
            "[parents.\"{name}\"]\ninstances = 2\nvideo-memory = \"8M\"\ndirect = true\n\
             limits = {{ slice-4m = 1 }}"
        );
        let parent = &machine.find(&said)[0];
        assert_eq!(
            (parent.limits.instances, parent.limits.video_memory),
            (2, 8 << 20)
        );
        assert_eq!(parent.find_type("slice-4m").unwrap().share.limit, Some(1));
        let settings = &parent.host.as_ref().unwrap().settings;
        assert_eq!(
            (settings[0].name.as_str(), settings[0].value.as_str()),
            ("direct", "on")
        );
    }
}

#[test]
fn what_is_said_of_a_device_and_makes_no_sense_keeps_it_from_offering_anything() {
    let machine = Machine::new();
    machine.add("0000:00:02.0", DISPLAY, Some(1), true);
    let said = "[parents.\"00:02.0\"]\noffer = [\"edu-1\"]";
    let config = Config::parse(said).unwrap();
    let found = find(&config, &machine.bus, displays).pop().unwrap();
    let words = found.sound().unwrap_err().to_string();
    assert!(words.contains("parents.0000:00:02.0.offer"), "{words}");
    let parent = &machine.find(said)[0];
    assert!(parent.types.is_empty() && parent.host.is_none());
    assert!(parent.description.contains("it has no type 'edu-1'"));
}

#[test]
fn a_setting_is_refused_that_the_driver_of_the_device_does_not_take() {
    let machine = Machine::new();
    machine.add("0000:00:02.0", DISPLAY, Some(1), true);
    let said = |direct| format!("[parents.\"00:02.0\"]\ndirect = {direct}");
    let found = |direct| {
        let config = Config::parse(&said(direct)).unwrap();
        let mut found = find(&config, &machine.bus, |_| Some(&Anything));
        found.pop().unwrap().sound()
    };
    assert!(found(false).is_ok());
    let words = found(true).unwrap_err().to_string();
    assert_eq!(
        words,
        "parents.0000:00:02.0.direct: the device's driver has no such setting"
    );
    assert!(!machine.find(&said(true))[0].types.is_empty());
}
