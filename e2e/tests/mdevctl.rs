//! Debian's own mdevctl manages vGPUs: it lists types, defines, starts, changes, stops, lists and
//! undefines, with the files that `vgpu-mdev` mounts and the definitions that `vgpu` keeps.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

use std::fs;
use std::path::{Path, PathBuf};

use e2e::{Daemon, Machine, Mdevctl, Programs};
use serde_json::{Value, json};

const ONE: &str = "c2177883-f1bb-47f0-914d-32a22e3a8801";
const TWO: &str = "c2177883-f1bb-47f0-914d-32a22e3a8802";
const THREE: &str = "c2177883-f1bb-47f0-914d-32a22e3a8803";

/// A small parent: three places, and 20 MiB of video memory.
const CONFIG: &str = "[parents.soft0]\ninstances = 3\nvideo-memory = \"20M\"\n";

/// A daemon and mdevctl on its tree; `None` where nothing can be mounted.
fn mdevctl(programs: &Programs) -> Option<(Daemon, Mdevctl)> {
    let daemon = Daemon::run_with(programs, CONFIG).unwrap();
    let mdevctl = Mdevctl::mount(programs, &daemon).unwrap()?;
    Some((daemon, mdevctl))
}

/// What `list --dumpjson` says of a device on `soft0`.
fn device_of(listed: &Value, uuid: &str) -> Value {
    let devices = listed[0]["soft0"].as_array().into_iter().flatten();
    let found: Vec<_> = devices.filter_map(|device| device.get(uuid)).collect();
    assert!(found.len() <= 1, "{listed:#}");
    found
        .first()
        .map_or(Value::Null, |device| (*device).clone())
}

/// A file of a device.
fn file(mdevctl: &Mdevctl, uuid: &str, name: &str) -> String {
    let device = format!("sys/bus/mdev/devices/{uuid}");
    let content = fs::read_to_string(mdevctl.path(device).join(name)).unwrap();
    content.trim_end().to_owned()
}

fn is_there(mdevctl: &Mdevctl, uuid: &str) -> bool {
    let device = format!("sys/bus/mdev/devices/{uuid}");
    mdevctl.path(device).exists()
}

/// A file of mdevctl's form.
fn write_definition(folder: &Path, attributes: &Value) -> PathBuf {
    let path = folder.join("definition.json");
    let content = json!({ "mdev_type": "edu-1", "start": "manual", "attrs": attributes });
    fs::write(&path, content.to_string()).unwrap();
    path
}

/// What differs is set; what is fixed and the same is no matter.
fn check_live(daemon: &Daemon, mdevctl: &Mdevctl, kept: &Value) {
    let defined = || {
        let listed = mdevctl.json(&["list", "-d", "--dumpjson"]).unwrap();
        device_of(&listed, ONE)
    };
    let live = json!([{ "dma-mask": "40" }, { "dma": "pin" }]);
    let path = write_definition(daemon.root(), &live);
    let path = path.to_str().unwrap();
    let modify = ["modify", "-u", ONE, "--live", "--jsonfile", path];
    mdevctl.ask(&modify).unwrap();
    assert_eq!(file(mdevctl, ONE, "dma"), "pin");
    assert_eq!(&defined(), kept, "the definition is another thing");
    mdevctl
        .ask(&[&modify[..], &["--defined"]].concat())
        .unwrap();
    assert_eq!(defined()["attrs"], live);
    write_definition(daemon.root(), &json!([{ "dma": "x" }]));
    let words = mdevctl.refused(&modify).unwrap();
    assert!(words.contains("'dma' cannot be 'x'"), "{words}");
}

#[test]
fn a_device_is_defined_started_changed_stopped_and_undefined() {
    let programs = Programs::from_env().unwrap();
    let Some((daemon, mdevctl)) = mdevctl(&programs) else {
        return;
    };
    assert_eq!(mdevctl.ask(&["--version"]).unwrap(), "mdevctl 1.4.0\n");
    let types = mdevctl.json(&["types", "--dumpjson"]).unwrap();
    let types = types[0]["soft0"].as_array().unwrap();
    let edu = types.iter().find_map(|it| it.get("edu-1")).unwrap();
    assert_eq!(edu["available_instances"], 3, "{edu:#}");
    assert_eq!(edu["device_api"], "vfio-pci", "{edu:#}");
    let words = mdevctl.ask(&["types"]).unwrap();
    assert!(words.contains("  edu-1\n    Available instances: 3\n"));

    let define = ["define", "-u", ONE, "-p", "soft0", "-t", "edu-1"];
    mdevctl.ask(&[&define[..], &["--auto"]].concat()).unwrap();
    for (name, value) in [
        ("dma-mask", "40"),
        ("dma", "copy"),
        ("panic-register", "on"),
    ] {
        let added = ["modify", "-u", ONE, "--addattr", name, "--value", value];
        mdevctl.ask(&added).unwrap();
    }
    let attributes = json!([{ "dma-mask": "40" }, { "dma": "copy" }, { "panic-register": "on" }]);
    let kept = json!({ "mdev_type": "edu-1", "start": "auto", "attrs": attributes });
    let list = || mdevctl.json(&["list", "-d", "--dumpjson"]).unwrap();
    assert_eq!(device_of(&list(), ONE), kept);
    assert_eq!(mdevctl.ask(&["list"]).unwrap(), "");
    assert!(!is_there(&mdevctl, ONE));

    // Every attribute is written after the device was created.
    mdevctl.ask(&["start", "-u", ONE]).unwrap();
    for (name, value) in [
        ("dma-mask", "40"),
        ("dma", "copy"),
        ("panic-register", "on"),
    ] {
        assert_eq!(file(&mdevctl, ONE, name), value);
    }
    let listed = mdevctl.ask(&["list", "-v"]).unwrap();
    let first = format!("{ONE} soft0 edu-1 auto (defined)\n");
    assert!(listed.starts_with(&first), "{listed}");
    assert!(listed.contains(r#"{"dma-mask":"40"}"#), "{listed}");
    let shown = daemon.list().unwrap();
    assert_eq!(shown[0]["uuid"], ONE);

    check_live(&daemon, &mdevctl, &kept);

    mdevctl.ask(&["stop", "-u", ONE]).unwrap();
    assert!(!is_there(&mdevctl, ONE));
    assert_eq!(daemon.list().unwrap(), [Value::Null; 0]);
    mdevctl.ask(&["undefine", "-u", ONE]).unwrap();
    assert_eq!(device_of(&list(), ONE), Value::Null);
}

#[test]
fn what_either_tool_defines_the_other_sees() {
    let programs = Programs::from_env().unwrap();
    let Some((daemon, mdevctl)) = mdevctl(&programs) else {
        return;
    };
    let common = ["--parent", "soft0", "--type", "edu-1", "--auto"];
    let ours = [&["--uuid", ONE, "--attr", "dma=copy"], &common[..]].concat();
    daemon.vgpu("define", &ours).unwrap();
    mdevctl
        .ask(&[&["define", "--uuid", TWO], &common[..]].concat())
        .unwrap();
    let theirs = mdevctl.json(&["list", "-d", "--dumpjson"]).unwrap();
    let ours = daemon.vgpu("list", &["-d", "--dumpjson"]).unwrap();
    let ours: Value = serde_json::from_str(&ours).unwrap();
    for (uuid, attributes) in [(ONE, json!([{ "dma": "copy" }])), (TWO, json!([]))] {
        let expected = json!({ "mdev_type": "edu-1", "start": "auto", "attrs": attributes });
        assert_eq!(device_of(&theirs, uuid), expected);
        assert_eq!(device_of(&ours, uuid), expected);
    }
    // Started by the one, it is active for the other; a running one is defined as it is.
    mdevctl.ask(&["start", "-u", ONE]).unwrap();
    daemon.vgpu("start", &[TWO]).unwrap();
    let listed = mdevctl.ask(&["list"]).unwrap();
    for uuid in [ONE, TWO] {
        assert!(listed.contains(&format!("{uuid} soft0 edu-1 auto (defined)")));
    }
    let listed = daemon.vgpu("list", &[]).unwrap();
    assert!(listed.contains(ONE) && listed.contains(TWO), "{listed}");
    let three = ["--uuid", THREE, "--parent", "soft0", "--type", "serial-1"];
    daemon.vgpu("start", &three).unwrap();
    mdevctl.ask(&["define", "-u", THREE]).unwrap();
    let listed = daemon.vgpu("list", &["-d"]).unwrap();
    assert!(listed.contains(THREE), "{listed}");
    for uuid in [ONE, TWO, THREE] {
        mdevctl.ask(&["stop", "-u", uuid]).unwrap();
    }
    daemon.vgpu("undefine", &[TWO]).unwrap();
    mdevctl.ask(&["undefine", "-u", ONE]).unwrap();
    mdevctl.ask(&["undefine", "-u", THREE]).unwrap();
    assert_eq!(mdevctl.ask(&["list", "-d"]).unwrap(), "");
    assert_eq!(daemon.vgpu("list", &["-d", "--json"]).unwrap().trim(), "[]");
}

#[test]
fn a_refusal_reaches_who_runs_mdevctl() {
    let programs = Programs::from_env().unwrap();
    let Some((daemon, mdevctl)) = mdevctl(&programs) else {
        return;
    };
    let start = |uuid, type_name| ["start", "-u", uuid, "-p", "soft0", "-t", type_name];
    mdevctl.ask(&start(ONE, "bochs-16m")).unwrap();
    let words = mdevctl.refused(&start(ONE, "bochs-16m")).unwrap();
    assert!(words.contains("Device already exists"), "{words}");
    let words = mdevctl.refused(&start(TWO, "none")).unwrap();
    assert!(words.contains("does not support mdev type none"), "{words}");
    // It looks before it asks; the errno is for who does not.
    let words = mdevctl.refused(&start(TWO, "bochs-16m")).unwrap();
    assert!(words.contains("No available instances"), "{words}");
    let create = |type_name: &str, uuid: &str| {
        let parent = "sys/class/mdev_bus/soft0/mdev_supported_types";
        let create = mdevctl.path(parent).join(type_name).join("create");
        fs::write(create, uuid).unwrap_err().to_string()
    };
    assert!(create("bochs-16m", TWO).contains("No space left on device"));
    assert!(create("serial-1", ONE).contains("File exists"));
    assert!(create("none", TWO).contains("No such file or directory"));
    for uuid in [TWO, THREE] {
        mdevctl.ask(&start(uuid, "serial-1")).unwrap();
    }
    let four = "c2177883-f1bb-47f0-914d-32a22e3a8804";
    let words = mdevctl.refused(&start(four, "serial-1")).unwrap();
    assert!(words.contains("No available instances"), "{words}");
    assert!(create("serial-1", four).contains("Too many users"));
    let log = mdevctl.log();
    assert!(log.contains("no place is free on soft0"), "{log}");
    assert_eq!(daemon.list().unwrap().len(), 3);
    // What cannot be had leaves no device.
    for uuid in [ONE, TWO, THREE] {
        mdevctl.ask(&["stop", "-u", uuid]).unwrap();
    }
    let define = ["define", "-u", ONE, "-p", "soft0", "-t", "edu-1"];
    mdevctl.ask(&define).unwrap();
    let added = ["modify", "-u", ONE, "--addattr", "dma", "--value", "x"];
    mdevctl.ask(&added).unwrap();
    let words = mdevctl.refused(&["start", "-u", ONE]).unwrap();
    assert!(words.contains("Invalid argument"), "{words}");
    assert_eq!(daemon.list().unwrap(), [Value::Null; 0]);
}

#[test]
fn a_machine_uses_what_mdevctl_started() {
    let programs = Programs::from_env().unwrap();
    let Some((daemon, mdevctl)) = mdevctl(&programs) else {
        return;
    };
    let start = ["start", "-u", ONE, "-p", "soft0", "-t", "serial-1"];
    mdevctl.ask(&start).unwrap();
    let socket = file(&mdevctl, ONE, "socket");
    let mut vm = Machine::new(&programs)
        .vfio_user(Path::new(&socket), &json!({}))
        .boot()
        .unwrap();
    let tty = vm.guest.pci_ttys().unwrap().concat();
    vm.guest.loopback(&tty, 4096, 7).unwrap();
    assert_eq!(file(&mdevctl, ONE, "statistics/connected"), "1");
    assert_eq!(file(&mdevctl, ONE, "statistics/faults"), "0");

    // It is in use.
    let words = mdevctl.refused(&["stop", "-u", ONE]).unwrap();
    assert!(words.contains("Device or resource busy"), "{words}");
    let log = mdevctl.log();
    assert!(log.contains("a VMM is connected"), "{log}");
    vm.guest.loopback(&tty, 4096, 8).unwrap();
    drop(vm);
    for _ in 0..1000 {
        if file(&mdevctl, ONE, "statistics/connected") == "0" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    mdevctl.ask(&["stop", "-u", ONE]).unwrap();
    assert_eq!(daemon.list().unwrap(), [Value::Null; 0]);
}
