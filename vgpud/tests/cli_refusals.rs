//! The command line when it is used wrongly, when the daemon says no, and when there is none.

mod cli_support;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use cli_support::{run, told, vgpu};
use serde_json::Value;
use support::{Daemon, uuid};

/// A UUID that nothing has.
const NOBODY: &str = "c2177883-f1bb-47f0-914d-32a22e3a8804";

/// What the daemon, or a file, refuses, and words that are told. ONE is the UUID of a vGPU.
const REFUSED: &[(&str, &str)] = &[
    (
        "show NOBODY",
        "(ENODEV)\nremedy: list what there is: vgpu list\n",
    ),
    ("stop NOBODY", "(ENODEV)"),
    ("start NOBODY", "NOBODY"),
    ("attach NOBODY", "(ENODEV)"),
    ("undefine NOBODY", "is not defined\nremedy: "),
    (
        "undefine NOBODY -p soft0",
        "remedy: list what is defined: vgpu list --defined",
    ),
    ("modify NOBODY --auto", "is not defined\nremedy: "),
    (
        "modify ONE --live --addattr hue --value 1",
        "no attribute 'hue'",
    ),
    (
        "start -p soft1 -t edu-1",
        "remedy: list what there is: vgpu types",
    ),
    (
        "start -p soft0 -t edu-9",
        "(ENOENT)\nremedy: list what it offers: vgpu types --parent soft0",
    ),
    ("start -p soft0 -t edu-1", "(EUSERS)"),
    ("start -u ONE -p soft0 -t serial-1", "(EEXIST)"),
    (
        "start -p soft0 -t bochs-4m --attr mode=1",
        "'mode' cannot be '1'",
    ),
    ("start -p soft0 -t edu-2 --socket-mode 9", "(EINVAL)"),
    (
        "start -p soft0 --jsonfile broken",
        "broken is no definition: ",
    ),
    ("start -p soft0 --jsonfile nowhere", "cannot read nowhere"),
    ("start -p soft0 --jsonfile /dev/zero", "too long"),
    ("screenshot ONE shot.png", "(ENODATA)"),
    (
        "screenshot ONE shot.png --head 1",
        "there is no head 1: this vGPU has one, which is 0 (EINVAL)",
    ),
    ("save ONE nowhere/state", "cannot write nowhere/state"),
    ("restore NOBODY large", "(ENODEV)"),
    ("restore ONE large", "(EINVAL)"),
    ("restore ONE broken", "(EINVAL)"),
    ("restore ONE nowhere", "cannot read nowhere"),
    (
        "status --control nowhere",
        "cannot use the control socket nowhere",
    ),
];

#[test]
fn what_makes_no_sense_ends_with_2_before_anything_is_asked() {
    for line in [
        "",
        "nonsense",
        "list --uuid c2177883",
        "show",
        "show c2177883",
        "show c2177883f1bb47f0914d32a22e3a8804",
        "show ../../etc/passwd",
        "stop",
        "stop c217",
        "start",
        "start --type edu-1",
        "start --parent soft0",
        "start -u c2177883-f1bb-47f0-914d-32a22e3a8804 --attr a=b",
        "start -p soft0 -t edu-1 --attr a",
        "start -p soft0 -t edu-1 --jsonfile x",
        "define",
        "define -p soft0",
        "define -p soft0 -t edu-1 --auto --manual",
        "define -p soft0 --jsonfile x --attr a=b",
        "modify c2177883-f1bb-47f0-914d-32a22e3a8804",
        "modify c2177883-f1bb-47f0-914d-32a22e3a8804 --addattr a",
        "modify c2177883-f1bb-47f0-914d-32a22e3a8804 --value a",
        "modify c2177883-f1bb-47f0-914d-32a22e3a8804 --index 1",
        "modify c2177883-f1bb-47f0-914d-32a22e3a8804 --live",
        "modify c2177883-f1bb-47f0-914d-32a22e3a8804 --live --delattr",
        "modify c2177883-f1bb-47f0-914d-32a22e3a8804 --live --auto --addattr a --value b",
        "attach c2177883-f1bb-47f0-914d-32a22e3a8804 --format xen",
        "attach c2177883-f1bb-47f0-914d-32a22e3a8804 --memory 1G,share=off",
        "screenshot",
        "screenshot file",
        "screenshot file --head x",
        "screenshot c2177883-f1bb-47f0-914d-32a22e3a8804",
        "screenshot --control a c2177883-f1bb-47f0-914d-32a22e3a8804 file",
        "save file",
        "restore file",
        "set mode=1x1",
        "set --control a mode",
        "events -n 0",
        "events --since x",
        "completions tcsh",
    ] {
        let (code, words) = told(vgpu(line).output().unwrap());
        assert_eq!(code, Some(2), "{line}: {words}");
        assert!(words.contains("--help"), "{line}: {words}");
    }
}

#[test]
fn without_a_daemon_commands_end_with_3_and_say_what_to_do() {
    for line in [
        "list",
        "list --defined",
        "types --parent soft0",
        "types --dumpjson",
        "start -p soft0 -t edu-1",
        "define -p soft0 -t edu-1",
        "events",
        &format!("undefine {NOBODY}"),
        &format!("modify {NOBODY} --auto"),
        &format!("start {NOBODY}"),
        &format!("stop {NOBODY}"),
        &format!("show {NOBODY}"),
        &format!("attach {NOBODY}"),
        &format!("status {NOBODY}"),
        &format!("set {NOBODY} a=b"),
        &format!("screenshot {NOBODY} /nonexistent/file"),
        &format!("restore {NOBODY} /dev/null"),
        &format!("save {NOBODY} -"),
    ] {
        let (code, words) = told(vgpu(line).output().unwrap());
        assert_eq!(code, Some(3), "{line}: {words}");
        assert!(words.contains("/nonexistent/api.sock"), "{line}: {words}");
        assert!(words.contains("remedy: start vgpud"), "{line}: {words}");
    }
}

#[test]
fn without_a_daemon_the_built_in_types_are_listed_and_it_is_said() {
    let output = vgpu("types").output().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(lines.contains("bochs-16m  "), "{lines}");
    let (_, words) = told(output);
    assert!(words.contains("these are the built-in types"), "{words}");
    let output = vgpu("types --json").output().unwrap();
    let types: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(types[0]["parent"], Value::Null);
}

#[test]
fn what_the_daemon_refuses_ends_with_1_its_words_and_a_remedy_in_commands() {
    let daemon = Daemon::start_with("[parents.soft0]\nlimits = { edu-1 = 1 }");
    let one = uuid(1);
    daemon.create(one, "edu-1");
    fs::write(daemon.path("broken"), "{").unwrap();
    fs::write(daemon.path("large"), vec![1; 4 << 20]).unwrap();
    for (line, expected) in REFUSED {
        let line = line
            .replace("ONE", &one.to_string())
            .replace("NOBODY", NOBODY);
        let expected = &expected.replace("NOBODY", NOBODY);
        let (code, words) = told(run(&daemon, &line));
        assert_eq!(code, Some(1), "{line}: {words}");
        assert!(words.contains(expected), "{line}: {words}");
        assert!(
            !words.contains("Error {") && !words.contains('\x1b'),
            "{line}: {words}"
        );
    }
    assert_eq!(daemon.client.instances().unwrap().len(), 1);
    assert!(daemon.client.definitions().unwrap().is_empty());
    assert!(!daemon.path("shot.png").exists());
    let define = format!("define -u {one} -p soft0 -t edu-1");
    assert!(run(&daemon, &define).status.success());
    let (code, words) = told(run(&daemon, &define));
    assert_eq!(code, Some(1));
    assert!(words.contains("defined on soft0 already"), "{words}");
    let delete = format!("modify {one} --delattr");
    let (code, words) = told(run(&daemon, &delete));
    assert_eq!(code, Some(1));
    assert!(words.contains("there is no attribute 0"), "{words}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let daemon = Daemon::start();
    let mut command = vgpu("types --json");
    command.env("VGPUD_API", daemon.path("run/vgpud/api.sock"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).output().unwrap();
    assert_eq!(told(output), (Some(0), String::new()));
}

#[test]
fn the_doctor_says_what_is_missing_and_only_what_is_needed_fails() {
    let daemon = Daemon::start();
    // A QEMU without the device, and one with it.
    for (name, ends, is_good) in [("old", 1, false), ("new", 0, true)] {
        let qemu = daemon.path(name);
        let script = format!(
            "#!/bin/sh\n[ $1 = --version ] && echo QEMU emulator version {name} && exit 0\nexit {ends}\n"
        );
        fs::write(&qemu, script).unwrap();
        fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
        let output = run(&daemon, &format!("doctor --json --qemu {}", qemu.display()));
        assert_eq!(output.status.code(), Some(0));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["is_ready"], true);
        let facts = report["facts"].as_array().unwrap();
        let fact = |name| facts.iter().find(|fact| fact["name"] == name).unwrap();
        assert_eq!(fact("qemu")["is_good"], is_good);
        assert_eq!(fact("qemu")["remedy"].is_string(), !is_good);
        assert_eq!(fact("worker")["is_needed"], true);
        assert_eq!(fact("daemon")["is_good"], true);
        assert!(
            facts
                .iter()
                .all(|fact| fact["is_good"] == fact["remedy"].is_null())
        );
    }
    let output = vgpu("doctor").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(words.contains("MISSING  daemon "), "{words}");
    assert!(words.contains("start vgpud"), "{words}");
}
