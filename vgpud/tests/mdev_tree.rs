//! The mdev tree of a real daemon, without mounting it: what is there, and what it holds.

mod support;

use rustix::io::Errno;
use support::mdev::{SOFT0, device_path, type_path};
use support::seen::{Seen, text};
use support::{lives, request, uuid};
use vfu::client::Client as Vmm;
use vgpud::mdev_tree::Kind;

/// What a parent has beside its devices.
const OF_PARENT: [&str; 2] = ["mdev_supported_types", "policy"];

#[test]
fn types_and_devices_are_the_kernels_files() {
    let seen = Seen::new("[parents.soft0]\noffer = [\"edu-1\", \"serial-1\"]\ninstances = 3");
    assert_eq!(seen.list("sys/class/mdev_bus").unwrap(), ["soft0"]);
    assert_eq!(seen.list("sys/bus/mdev/devices").unwrap(), [""; 0]);
    assert_eq!(seen.list(SOFT0).unwrap(), OF_PARENT);
    let of_type = type_path("edu-1");
    let in_type = [
        "available_instances",
        "create",
        "description",
        "device_api",
        "devices",
        "name",
    ];
    assert_eq!(seen.list(&of_type).unwrap(), in_type);
    let available = || {
        seen.read(&format!("{of_type}/available_instances"))
            .unwrap()
    };
    assert_eq!(available(), "3\n");
    let api = seen.read(&format!("{of_type}/device_api")).unwrap();
    assert_eq!(api, "vfio-pci\n");
    let name = seen.read(&format!("{of_type}/name")).unwrap();
    assert_eq!(name, "educational device\n");

    seen.create("edu-1", text(1)).unwrap();
    assert_eq!(available(), "2\n");
    assert_eq!(seen.list("sys/bus/mdev/devices").unwrap(), [text(1)]);
    let listed = seen.list(SOFT0).unwrap();
    assert_eq!(
        listed,
        [&[text(1)], &OF_PARENT.map(str::to_owned)[..]].concat()
    );
    let devices = format!("{of_type}/devices");
    assert_eq!(seen.list(&devices).unwrap(), [text(1)]);
    for (path, target) in [
        (
            "sys/class/mdev_bus/soft0".to_owned(),
            "../../devices/virtual/vgpud/soft0".to_owned(),
        ),
        (
            format!("sys/bus/mdev/devices/{}", uuid(1)),
            format!("../../../devices/virtual/vgpud/soft0/{}", uuid(1)),
        ),
        (
            format!("{devices}/{}", uuid(1)),
            format!("../../../{}", uuid(1)),
        ),
        (
            device_path(uuid(1), "mdev_type"),
            "../mdev_supported_types/edu-1".to_owned(),
        ),
        ("etc/mdevctl.d".to_owned(), "/etc/mdevctl.d".to_owned()),
        ("usr/lib/mdevctl".to_owned(), "/usr/lib/mdevctl".to_owned()),
    ] {
        assert_eq!(seen.link(&path).unwrap(), target, "{path}");
        assert_eq!(seen.find(&path).unwrap(), (Kind::Link, 0o777), "{path}");
    }
    seen.remove(1, "1").unwrap();
    assert_eq!(available(), "3\n");
    assert_eq!(seen.list(SOFT0).unwrap(), OF_PARENT);
}

#[test]
fn a_device_tells_where_and_how_it_is_and_what_it_has_done() {
    let seen = Seen::new("");
    seen.create("edu-1", text(1)).unwrap();
    let instance = seen.client().instance(uuid(1)).unwrap();
    let read = |file: &str| seen.read(&device_path(uuid(1), file));
    assert_eq!(read("socket").unwrap(), format!("{}\n", instance.socket));
    assert_eq!(read("control").unwrap(), format!("{}\n", instance.control));
    assert_eq!(read("state").unwrap(), "running\n");
    let pid = instance.pid.unwrap();
    assert_eq!(read("statistics/pid").unwrap(), format!("{pid}\n"));
    assert_eq!(read("statistics/crashes").unwrap(), "0\n");
    assert_eq!(read("statistics/connected").unwrap(), "0\n");
    let mut vmm = Vmm::connect(instance.socket.as_ref()).unwrap();
    lives(&mut vmm, 1);
    assert_eq!(read("statistics/connected").unwrap(), "1\n");
    assert_eq!(read("statistics/region_writes").unwrap(), "1\n");
    let listed = seen.list(&device_path(uuid(1), "statistics")).unwrap();
    for name in &listed {
        let number = read(&format!("statistics/{name}"));
        let is_number = number.is_ok_and(|text| text.trim_end().parse::<u64>().is_ok());
        assert!(is_number, "{name}");
    }
    assert!(listed.len() > 15, "{listed:?}");
    drop(vmm);
    seen.client().stop(uuid(1), true).unwrap();
    assert_eq!(read("state").unwrap(), "stopped\n");
    assert_eq!(read("statistics/crashes").unwrap(), "0\n");
    for name in ["pid", "memory", "requests"] {
        let number = read(&format!("statistics/{name}"));
        assert_eq!(number, Err(Errno::NXIO), "{name}");
    }
}

#[test]
fn each_attribute_of_each_type_is_set_after_the_creation() {
    let seen = Seen::new("");
    for (number, type_name, settings) in [
        (
            1,
            "edu-1",
            &[
                ("dma", "copy"),
                ("dma-mask", "40"),
                ("panic-register", "on"),
                ("spin-register", "on"),
                ("weight", "300"),
                ("cap", "50%"),
                ("reservation", "12.5%"),
                ("priority", "low"),
                ("frame_rate_limit", "60"),
                ("stop", "on"),
            ][..],
        ),
        (2, "edu-2", &[("dma-mask", "32"), ("dma", "copy")]),
        (3, "bochs-4m", &[("mode", "640x480")]),
    ] {
        seen.create(type_name, text(number)).unwrap();
        for (name, value) in settings {
            let path = device_path(uuid(number), name);
            assert_ne!(seen.read(&path).unwrap(), format!("{value}\n"));
            seen.write(&path, format!("{value}\n")).unwrap();
        }
        for (name, value) in settings {
            let path = device_path(uuid(number), name);
            assert_eq!(seen.read(&path).unwrap(), format!("{value}\n"), "{path}");
        }
        let instance = seen.client().instance(uuid(number)).unwrap();
        Vmm::connect(instance.socket.as_ref()).unwrap();
    }
    let missing = device_path(uuid(3), "dma");
    assert_eq!(seen.find(&missing), Err(Errno::NOENT));
}

#[test]
fn how_an_engine_is_shared_is_a_file_of_its_parent() {
    let seen = Seen::new("");
    seen.create("edu-1", text(1)).unwrap();
    let policy = format!("{SOFT0}/policy");
    assert_eq!(seen.find(&policy).unwrap(), (Kind::File, 0o644));
    assert_eq!(seen.read(&policy).unwrap(), "best-effort\n");
    seen.write(&policy, "equal-share\n").unwrap();
    assert_eq!(seen.read(&policy).unwrap(), "equal-share\n");
    // No vGPU has reserved anything.
    for refused in ["fixed-share", "fair", "", "equal-share\n\n"] {
        assert_eq!(
            seen.write(&policy, refused),
            Err(Errno::INVAL),
            "{refused:?}"
        );
    }
    assert_eq!(seen.read(&policy).unwrap(), "equal-share\n");
    let weight = device_path(uuid(1), "weight");
    assert_eq!(seen.write(&weight, "0"), Err(Errno::INVAL));
    assert_eq!(seen.read(&weight).unwrap(), "100\n");
    let none = "sys/devices/virtual/vgpud/none/policy";
    assert_eq!(seen.find(none), Err(Errno::NOENT));
}

#[test]
fn a_stopped_device_shows_the_attributes_it_was_given() {
    let seen = Seen::new("");
    let mut asked = request("edu-1");
    asked.start = false;
    asked.attributes = serde_json::from_str(r#"[{"name":"dma","value":"copy"}]"#).unwrap();
    seen.client().create(uuid(1), &asked).unwrap();
    let dma = device_path(uuid(1), "dma");
    assert_eq!(seen.read(&dma).unwrap(), "copy\n");
    seen.write(&dma, "pin").unwrap();
    assert_eq!(seen.read(&dma).unwrap(), "pin\n");
    let other = device_path(uuid(1), "dma-mask");
    assert_eq!(seen.find(&other), Err(Errno::NOENT));
}

#[test]
fn a_device_whose_type_is_withdrawn_is_still_one_of_that_type() {
    let mut seen = Seen::new("");
    for (number, name) in [(1, "edu-1"), (2, "edu-1"), (3, "serial-1")] {
        seen.create(name, text(number)).unwrap();
    }
    seen.daemon.terminate();
    let config = "[parents.soft0]\noffer = [\"serial-1\"]\n";
    std::fs::write(seen.daemon.path("etc/vgpud/vgpud.toml"), config).unwrap();
    seen.daemon.start_again();
    let types = seen.list(&format!("{SOFT0}/mdev_supported_types"));
    assert_eq!(types.unwrap(), ["edu-1", "serial-1"]);
    let of_type = type_path("edu-1");
    let left = seen.read(&format!("{of_type}/available_instances"));
    assert_eq!(left.unwrap(), "0\n");
    let devices = seen.list(&format!("{of_type}/devices")).unwrap();
    assert_eq!(devices, [text(1), text(2)]);
    assert_eq!(seen.create("edu-1", text(4)), Err(Errno::NOENT));
    for number in [1, 2] {
        seen.remove(number, "1").unwrap();
    }
    assert_eq!(seen.find(&of_type), Err(Errno::NOENT));
}
