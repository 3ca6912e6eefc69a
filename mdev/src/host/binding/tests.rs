//! Binding on a machine that is a folder: its kernel does what it is told, or refuses.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::symlink;

use super::*;

const GPU: &str = "0000:01:00.0";
const SOUND: &str = "0000:01:00.1";

fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

/// A machine, and what its kernel was told.
struct Machine {
    root: tempfile::TempDir,
    told: RefCell<Vec<String>>,
    /// The device that no driver takes.
    untaken: Option<&'static str>,
    /// The device that is pulled out once another has been given.
    pulled: Option<&'static str>,
}

impl Machine {
    /// A GPU that `i915` drives and a sound card without a driver, in one group with the bridge
    /// before them.
    fn new() -> Self {
        let machine = Self {
            root: tempfile::tempdir().unwrap(),
            told: RefCell::default(),
            untaken: None,
            pulled: None,
        };
        for driver in ["vfio-pci", "i915", "pcieport"] {
            fs::create_dir_all(machine.at(&format!("sys/bus/pci/drivers/{driver}"))).unwrap();
        }
        machine.add("0000:00:01.0", "0x060400", Some("pcieport"), Some(7));
        machine.add(GPU, "0x030000", Some("i915"), Some(7));
        machine.add(SOUND, "0x040300", None, Some(7));
        machine
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.root.path().join(path)
    }

    fn device(&self, address: &str) -> std::path::PathBuf {
        self.at(&format!("sys/bus/pci/devices/{address}"))
    }

    fn add(&self, address: &str, class: &str, driver: Option<&str>, group: Option<u32>) {
        let folder = self.device(address);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in [
            ("vendor", "0x1234"),
            ("device", "0x11e8"),
            ("class", class),
            ("resource", ""),
        ] {
            fs::write(folder.join(name), format!("{text}\n")).unwrap();
        }
        if let Some(driver) = driver {
            symlink(format!("../drivers/{driver}"), folder.join("driver")).unwrap();
        }
        if let Some(group) = group {
            let members = self.at(&format!("sys/kernel/iommu_groups/{group}/devices"));
            fs::create_dir_all(&members).unwrap();
            symlink(&folder, members.join(address)).unwrap();
            symlink(format!("../{group}"), folder.join("iommu_group")).unwrap();
        }
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// What the kernel does with a word.
    fn obey(&self, path: &Path, word: &str) -> io::Result<()> {
        let short = path.strip_prefix(self.root.path()).unwrap();
        let short = short.strip_prefix("sys/bus/pci").unwrap();
        let told = format!("{}: {}", short.display(), word.trim());
        self.told.borrow_mut().push(told);
        match path.file_name().unwrap().to_str().unwrap() {
            "driver_override" => fs::write(path, word),
            "unbind" => fs::remove_file(self.device(word).join("driver")),
            "drivers_probe" => self.probe(word),
            other => panic!("{other}"),
        }
    }

    fn probe(&self, address: &str) -> io::Result<()> {
        let folder = self.device(address);
        let wanted = fs::read_to_string(folder.join("driver_override")).unwrap_or_default();
        let driver = match wanted.trim() {
            "" if address == GPU => "i915",
            "" => return Ok(()),
            _ if self.untaken == Some(address) => return Err(io::ErrorKind::InvalidInput.into()),
            wanted => wanted,
        };
        if let Some(pulled) = self.pulled.filter(|pulled| *pulled != address) {
            let _ = fs::remove_dir_all(self.device(pulled));
        }
        symlink(format!("../drivers/{driver}"), folder.join("driver"))
    }

    fn with<T>(&self, done: impl FnOnce(&Binder<'_>) -> T) -> T {
        let bus = PciBus::new(self.root.path());
        let write = |path: &Path, word: &str| self.obey(path, word);
        done(&Binder {
            bus: &bus,
            write: &write,
        })
    }

    fn bind(&self, addresses: &[&str]) -> Result<Vec<u32>, BindError> {
        let addresses: Vec<_> = addresses.iter().map(|text| address(text)).collect();
        self.with(|binder| binder.bind(&addresses))
    }

    fn unbind(&self, device: &str) -> Result<Option<String>, BindError> {
        self.with(|binder| binder.unbind(address(device)))
    }

    fn driver(&self, device: &str) -> Option<String> {
        let bus = PciBus::new(self.root.path());
        bus.driver(address(device)).unwrap()
    }

    /// A refusal that has told the kernel nothing, with its words and its remedy.
    fn refused(&self, addresses: &[&str]) -> (String, String) {
        let error = self.bind(addresses).unwrap_err();
        assert_eq!(self.told.borrow_mut().split_off(0), [""; 0]);
        (error.to_string(), error.remedy().unwrap())
    }
}

#[test]
fn devices_of_a_group_are_given_together_and_given_back_to_their_drivers() {
    let machine = Machine::new();
    assert_eq!(machine.bind(&[GPU, SOUND]).unwrap(), [7, 7]);
    assert_eq!(
        machine.told.borrow_mut().split_off(0),
        [
            "devices/0000:01:00.0/driver_override: vfio-pci",
            "devices/0000:01:00.0/driver/unbind: 0000:01:00.0",
            "drivers_probe: 0000:01:00.0",
            "devices/0000:01:00.1/driver_override: vfio-pci",
            "drivers_probe: 0000:01:00.1",
        ]
    );
    // What is given is left as it is, with the other or by itself.
    assert_eq!(machine.bind(&[GPU]).unwrap(), [7]);
    assert_eq!(machine.told.borrow_mut().split_off(0), [""; 0]);
    assert_eq!(machine.unbind(GPU).unwrap().as_deref(), Some("i915"));
    assert_eq!(machine.unbind(SOUND).unwrap(), None);
    assert_eq!(machine.driver(SOUND), None);
    let error = machine.unbind(GPU).unwrap_err();
    assert!(error.to_string().contains("belongs to i915"), "{error}");
}

#[test]
fn a_group_with_strangers_is_refused_and_the_remedy_names_them() {
    let machine = Machine::new();
    let (words, remedy) = machine.refused(&[GPU]);
    assert!(
        words.contains("group 7") && words.contains(SOUND),
        "{words}"
    );
    assert!(!words.contains("00:01.0"), "a bridge is none: {words}");
    assert!(
        remedy.contains(&format!("vgpu bind {GPU} {SOUND}")),
        "{remedy}"
    );
}

#[test]
fn what_cannot_be_given_is_refused_and_the_remedy_says_what_to_do() {
    let machine = Machine::new();
    machine.add("0000:02:00.0", "0x030000", None, None);
    for (address, words, remedy) in [
        ("0000:02:00.0", "behind no IOMMU", "intel_iommu=on"),
        ("0000:03:00.0", "no PCI device", "lspci"),
        ("0000:00:01.0", "is a bridge", "behind it"),
    ] {
        let refused = machine.refused(&[address]);
        assert!(refused.0.contains(words), "{refused:?}");
        assert!(refused.1.contains(remedy), "{refused:?}");
    }
    fs::remove_dir(machine.at("sys/bus/pci/drivers/vfio-pci")).unwrap();
    let refused = machine.refused(&[GPU, SOUND]);
    assert!(refused.1.contains("modprobe vfio-pci"), "{refused:?}");
}

#[test]
fn a_device_that_the_driver_does_not_take_goes_back_and_so_do_those_before_it() {
    let mut machine = Machine::new();
    machine.untaken = Some(SOUND);
    let error = machine.bind(&[GPU, SOUND]).unwrap_err();
    assert!(error.to_string().contains("drivers_probe"), "{error}");
    assert_eq!(machine.driver(GPU).as_deref(), Some("i915"));
    assert_eq!(machine.driver(SOUND), None);
    let wish = fs::read_to_string(machine.device(SOUND).join("driver_override")).unwrap();
    assert_eq!(wish.trim(), "");

    // One that was given before is not touched: somebody may have it open.
    machine.untaken = None;
    machine.bind(&[GPU, SOUND]).unwrap();
    machine.unbind(SOUND).unwrap();
    machine.untaken = Some(SOUND);
    machine.bind(&[GPU, SOUND]).unwrap_err();
    assert_eq!(machine.driver(GPU).as_deref(), Some(VFIO_PCI));
}

#[test]
fn a_device_that_is_pulled_out_meanwhile_has_those_before_it_given_back() {
    let mut machine = Machine::new();
    machine.pulled = Some(SOUND);
    let error = machine.bind(&[GPU, SOUND]).unwrap_err();
    assert!(error.to_string().contains(SOUND), "{error}");
    machine.pulled = None;
    assert_eq!(machine.driver(GPU).as_deref(), Some("i915"));
}

/// With the disk's own folder apart from the controller's, and another controller's disk beside it.
#[test]
fn a_disk_that_a_controller_is_one_path_to_is_in_use_where_it_is_mounted() {
    let check = |used: &str, words: Option<&str>| {
        let machine = Machine::new();
        let hidden = format!("sys/bus/pci/devices/{GPU}/nvme/nvme1/nvme0c1n1");
        machine.write(&format!("{hidden}/hidden"), "1\n");
        for (disk, number) in [("nvme0n1", 1), ("nvme0n2", 2), ("nvme1n1", 3)] {
            let folder = format!("sys/devices/virtual/nvme-subsystem/nvme-subsys0/{disk}");
            let part = format!("{disk}p1");
            fs::create_dir_all(machine.at(&format!("{folder}/{part}/holders"))).unwrap();
            machine.write(&format!("{folder}/{part}/dev"), &format!("259:{number}\n"));
            let class = machine.at("sys/class/block");
            fs::create_dir_all(&class).unwrap();
            symlink(machine.at(&folder), class.join(disk)).unwrap();
        }
        let mounted = format!("21 1 259:{used} / /home rw\n");
        machine.write("proc/self/mountinfo", &mounted);
        match words {
            Some(words) => {
                let (said, _) = machine.refused(&[GPU, SOUND]);
                assert!(said.contains(words), "{said}");
            }
            None => assert_eq!(machine.bind(&[GPU, SOUND]).unwrap(), [7, 7]),
        }
    };
    check("1", Some("nvme0n1p1 is mounted on /home"));
    check("2", None);
    check("3", None);
}

#[test]
fn a_disk_that_takes_any_command_is_in_use_while_it_is_open() {
    let machine = Machine::new();
    for (folder, file, content) in [
        (
            format!("bus/pci/devices/{GPU}/nvme/nvme0/nvme0c0n1"),
            "hidden",
            "1\n",
        ),
        (
            "devices/virtual/nvme-subsystem/nvme-subsys0/ng0n1".into(),
            "uevent",
            "DEVNAME=ng0n1\n",
        ),
    ] {
        machine.write(&format!("sys/{folder}/{file}"), content);
    }
    let class = machine.at("sys/class/nvme-generic");
    fs::create_dir_all(&class).unwrap();
    let target = machine.at("sys/devices/virtual/nvme-subsystem/nvme-subsys0/ng0n1");
    symlink(target, class.join("ng0n1")).unwrap();
    fs::create_dir_all(machine.at("proc/7/fd")).unwrap();
    symlink("/dev/ng0n1", machine.at("proc/7/fd/3")).unwrap();
    let (said, _) = machine.refused(&[GPU, SOUND]);
    assert!(said.contains("process 7 has /dev/ng0n1 open"), "{said}");
}

/// Each use with the files that tell of it.
#[test]
fn a_device_in_use_is_refused_and_told_by_what() {
    let gpu = format!("sys/bus/pci/devices/{GPU}");
    let card = (format!("{gpu}/drm/card0/uevent"), "DEVNAME=dri/card0\n");
    let disk = [
        (format!("{gpu}/nvme0n1/dev"), "259:0\n"),
        (format!("{gpu}/nvme0n1/nvme0n1p1/dev"), "259:1\n"),
    ];
    let folders = |machine: &Machine| {
        for part in ["nvme0n1/holders", "nvme0n1/nvme0n1p1/holders"] {
            fs::create_dir_all(machine.at(&format!("{gpu}/{part}"))).unwrap();
        }
    };
    let mounts = "20 1 0:5 / /dev rw\n21 1 259:1 / /home rw\n";
    let swaps = "Filename Type\n/dev/nvme0n1 partition 1 0 -2\n";
    let check = |files: &[(String, &str)], words: Option<&str>, more: &dyn Fn(&Machine)| {
        let machine = Machine::new();
        for (path, content) in files {
            machine.write(path, content);
        }
        more(&machine);
        match words {
            Some(words) => {
                let (said, remedy) = machine.refused(&[GPU, SOUND]);
                assert!(said.contains(words) && !remedy.is_empty(), "{said}");
            }
            None => assert_eq!(machine.bind(&[GPU, SOUND]).unwrap(), [7, 7]),
        }
    };
    let up = format!("{gpu}/net/eth0/flags");
    check(&[(up.clone(), "0x1003\n")], Some("eth0 is up"), &|_| {});
    check(&[(up, "0x1002\n")], None, &|_| {});
    let open = |machine: &Machine| {
        fs::create_dir_all(machine.at("proc/123/fd")).unwrap();
        symlink("/dev/dri/card0", machine.at("proc/123/fd/5")).unwrap();
        symlink("123", machine.at("proc/self")).unwrap();
    };
    check(
        std::slice::from_ref(&card),
        Some("process 123 has /dev/dri/card0 open"),
        &open,
    );
    check(&[card], None, &|_| {});
    check(&disk, None, &folders);
    let [whole, part] = disk;
    let mounted = ("proc/self/mountinfo".to_owned(), mounts);
    let files = [whole.clone(), part.clone(), mounted];
    check(&files, Some("nvme0n1p1 is mounted on /home"), &folders);
    let swapped = ("proc/swaps".to_owned(), swaps);
    check(
        &[whole.clone(), swapped],
        Some("swaps to nvme0n1"),
        &folders,
    );
    check(&[whole], Some("dm-0 is made of nvme0n1"), &|machine| {
        folders(machine);
        fs::create_dir(machine.at(&format!("{gpu}/nvme0n1/holders/dm-0"))).unwrap();
    });
}
