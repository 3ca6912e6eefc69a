//! A display's keyboard and tablet: workers of their own, and one life with it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::path::Path;

use support::{Daemon, Process, read, request, uuid, wait_for};
use vfu::client::Client as Vmm;
use vgpud::api::{Attribute, CreateRequest, EventKind, Function, Instance, InstanceState};
use vgpud::client::ClientError;

/// The configuration region of a PCI device, as VFIO numbers them.
const CONFIG: u32 = 7;

/// The first four bytes of it of virtio's input devices.
const INPUT: [u8; 4] = [0xf4, 0x1a, 0x52, 0x10];

fn input(value: &str) -> Attribute {
    Attribute {
        name: "input".to_owned(),
        value: value.to_owned(),
    }
}

fn with_input(type_name: &str, value: &str) -> CreateRequest {
    CreateRequest {
        attributes: vec![input(value)],
        ..request(type_name)
    }
}

fn names(instance: &Instance) -> Vec<&'static str> {
    let functions = instance.functions.iter();
    functions.map(|function| function.name.name()).collect()
}

fn pids(instance: &Instance) -> Vec<u32> {
    let functions = instance.functions.iter();
    let all = functions.map(|function| function.pid).chain([instance.pid]);
    all.map(Option::unwrap).collect()
}

fn errno<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> String {
    let error = answer.unwrap_err();
    error.problem().unwrap().errno.clone()
}

/// The keyboard, once it runs with another worker.
fn wait_other(daemon: &Daemon, old: Option<u32>) -> Function {
    wait_for("another worker of the keyboard", || {
        let mut functions = daemon.client.instance(uuid(1)).unwrap().functions;
        let keyboard = functions.swap_remove(0);
        (keyboard.state == InstanceState::Running && keyboard.pid != old).then_some(keyboard)
    })
}

fn kill(function: &Function) {
    Process::open(function.pid.unwrap()).kill();
}

#[test]
fn functions_start_and_end_with_their_display_and_take_no_place() {
    let daemon = Daemon::start();
    let before = daemon.available("bochs-4m");
    let request = with_input("bochs-4m", "on");
    let instance = daemon.client.create(uuid(1), &request).unwrap();
    assert_eq!(names(&instance), ["keyboard", "tablet"]);
    assert_eq!(daemon.available("bochs-4m"), before - 1);
    assert_eq!(
        daemon.client.instances().unwrap(),
        std::slice::from_ref(&instance)
    );
    for function in &instance.functions {
        let named = format!("{}.{}.sock", uuid(1), function.name.name());
        assert!(function.socket.ends_with(&named), "{}", function.socket);
        let mut vmm = Vmm::connect(function.socket.as_ref()).unwrap();
        assert_eq!(read(&mut vmm, CONFIG, 0), INPUT);
        // A machine has but one of them, and nothing of it is pulled from under it.
        assert_eq!(errno(daemon.client.stop(uuid(1), false)), "EBUSY");
        assert_eq!(errno(daemon.client.destroy(uuid(1), false)), "EBUSY");
        let changes = vec![input("off")];
        assert_eq!(
            errno(daemon.client.set_attributes(uuid(1), changes)),
            "EBUSY"
        );
        assert_eq!(daemon.client.instance(uuid(1)).unwrap(), instance);
        drop(vmm);
        wait_for("end of the session", || {
            let control = worker::control::Control::connect(function.control.as_ref()).unwrap();
            (!control.status().unwrap().connected).then_some(())
        });
    }
    let stopped = daemon.client.stop(uuid(1), false).unwrap();
    for function in &stopped.functions {
        assert_eq!(
            (function.state, function.pid),
            (InstanceState::Stopped, None)
        );
        assert!(!Path::new(&function.socket).exists());
    }
    let again = daemon.client.start(uuid(1)).unwrap();
    assert_eq!(pids(&again).len(), 3);
    daemon.client.destroy(uuid(1), false).unwrap();
    assert_eq!(daemon.run_files(), [""; 0]);
    assert_eq!(daemon.records(), [""; 0]);
    assert_eq!(daemon.available("bochs-4m"), before);
}

#[test]
fn a_keyboard_that_crashes_is_recovered_alone_and_given_up_alone() {
    let daemon = Daemon::start();
    let instance = daemon
        .client
        .create(uuid(1), &request("gpu-2d-hd"))
        .unwrap();
    let mut vmm = Vmm::connect(instance.functions[0].socket.as_ref()).unwrap();
    kill(&instance.functions[0]);
    let keyboard = wait_other(&daemon, instance.functions[0].pid);
    assert_eq!(read(&mut vmm, CONFIG, 0), INPUT);
    assert_eq!((keyboard.crashes, keyboard.recoveries), (1, 1));
    let crash = daemon.event(EventKind::Crashed);
    assert_eq!(crash.instance, Some(uuid(1)));
    assert!(crash.detail.starts_with("keyboard: "), "{}", crash.detail);
    let now = daemon.client.instance(uuid(1)).unwrap();
    assert_eq!((now.pid, now.crashes), (instance.pid, 0));
    assert_eq!(now.functions[1], instance.functions[1]);
    kill(&keyboard);
    kill(&wait_other(&daemon, keyboard.pid));
    let failed = wait_for("the keyboard's failure", || {
        let now = daemon.client.instance(uuid(1)).unwrap();
        (now.functions[0].state == InstanceState::Failed).then_some(now)
    });
    assert_eq!(failed.state, InstanceState::Running);
    let again = daemon.client.start(uuid(1)).unwrap();
    assert_eq!(again.pid, instance.pid);
    assert_eq!(again.functions[0].state, InstanceState::Running);
    let upgrade = daemon.client.upgrade(uuid(1)).unwrap();
    let now = daemon.client.instance(uuid(1)).unwrap();
    assert_eq!(now.pid, Some(upgrade.pid));
    assert!(pids(&now).iter().all(|pid| !pids(&again).contains(pid)));
    assert!(now.functions.iter().all(|function| function.upgrades == 1));
}

#[test]
fn the_next_daemon_takes_them_over_and_what_nobody_knows_is_ended() {
    let mut daemon = Daemon::start();
    let instance = daemon
        .client
        .create(uuid(1), &request("gpu-2d-hd"))
        .unwrap();
    daemon.kill();
    daemon.start_again();
    assert_eq!(daemon.client.instance(uuid(1)).unwrap(), instance);
    daemon.client.stop(uuid(1), false).unwrap();
    let instance = daemon.client.start(uuid(1)).unwrap();
    let processes: Vec<_> = pids(&instance).into_iter().map(Process::open).collect();
    daemon.kill();
    // As if it had been killed while it forgot them.
    let record = daemon.path(format!("var/lib/vgpud/instances/{}.json", uuid(1)));
    std::fs::remove_file(record).unwrap();
    daemon.start_again();
    assert_eq!(daemon.client.instances().unwrap(), []);
    for process in processes {
        assert!(process.has_ended(std::time::Duration::from_secs(5)));
    }
    assert_eq!(daemon.run_files(), [""; 0]);
    assert_eq!(daemon.records(), [""; 0]);
}

#[test]
fn the_attribute_says_which_there_are_as_long_as_no_vmm_is_connected() {
    let daemon = Daemon::start();
    assert_eq!(names(&daemon.create(uuid(1), "bochs-4m")), [""; 0]);
    let value = || {
        let status = daemon.client.status(uuid(1)).unwrap();
        let mut attributes = status.attributes.into_iter();
        attributes.find(|it| it.name == "input").unwrap().value
    };
    assert_eq!(value(), "off");
    for (given, expected) in [
        ("on", &["keyboard", "tablet"][..]),
        ("keyboard", &["keyboard"]),
        ("tablet", &["tablet"]),
        ("keyboard,tablet", &["keyboard", "tablet"]),
        ("off", &[]),
    ] {
        let changed = daemon.client.set_attributes(uuid(1), vec![input(given)]);
        assert_eq!(names(&changed.unwrap()), expected);
        assert_eq!(value(), given);
        assert_eq!(daemon.records().len(), 1 + expected.len());
    }
    let changes = vec![input("mouse")];
    assert_eq!(
        errno(daemon.client.set_attributes(uuid(1), changes)),
        "EINVAL"
    );
    for (number, type_name, value) in [(2, "serial-1", "on"), (3, "gpu-2d-hd", "yes")] {
        let created = daemon
            .client
            .create(uuid(number), &with_input(type_name, value));
        assert_eq!(errno(created), "EINVAL");
    }
    let alone = daemon.client.create(uuid(4), &request("input-keyboard"));
    assert_eq!(errno(alone), "ENOENT");
    assert_eq!(daemon.client.instances().unwrap().len(), 1);
}
