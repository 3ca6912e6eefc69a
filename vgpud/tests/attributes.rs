//! Attributes of instances that are there: set live, or with a worker that is started anew.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use support::{Daemon, lives, request, uuid, wait_for};
use vfu::client::Client as Vmm;
use vgpud::api::{Attribute, EventKind, InstanceState};

fn attribute(name: &str, value: &str) -> Attribute {
    Attribute {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

/// The values of `edu-1` by what its worker says.
fn values(daemon: &Daemon) -> Vec<String> {
    let status = daemon.client.status(uuid(1)).unwrap();
    let attributes = status.attributes.into_iter();
    attributes
        .take(3)
        .map(|attribute| attribute.value)
        .collect()
}

#[test]
fn what_only_a_new_device_takes_is_given_to_one_as_long_as_no_vmm_is_connected() {
    let daemon = Daemon::start();
    let created = daemon.create(uuid(1), "edu-1");
    let changes = vec![attribute("dma", "copy"), attribute("dma-mask", "40")];
    let changed = daemon.client.set_attributes(uuid(1), changes).unwrap();
    assert_eq!(changed.state, InstanceState::Running);
    assert_ne!(changed.pid, created.pid);
    assert_eq!(changed.crashes, 0);
    assert_eq!(values(&daemon), ["copy", "40", "off"]);
    let mut vmm = Vmm::connect(changed.socket.as_ref()).unwrap();
    lives(&mut vmm, 1);

    // A VMM is connected: what is fixed stays, and what goes with it too.
    let changes = vec![attribute("dma", "pin"), attribute("dma-mask", "32")];
    let error = daemon.client.set_attributes(uuid(1), changes).unwrap_err();
    let problem = error.problem().unwrap();
    assert_eq!((problem.status, problem.errno.as_str()), (409, "EBUSY"));
    assert!(problem.detail.contains("'dma-mask' can only"), "{problem}");
    assert_eq!(values(&daemon), ["copy", "40", "off"]);
    lives(&mut vmm, 2);
    drop(vmm);
    wait_for("end of the session", || {
        let status = daemon.client.status(uuid(1)).unwrap();
        (!status.connected).then_some(())
    });
    let changes = vec![attribute("panic-register", "on")];
    daemon.client.set_attributes(uuid(1), changes).unwrap();
    assert_eq!(values(&daemon), ["copy", "40", "on"]);
}

#[test]
fn a_new_device_that_is_refused_leaves_the_one_before() {
    let daemon = Daemon::start();
    let created = daemon.create(uuid(1), "edu-1");
    let changes = vec![attribute("dma-mask", "99")];
    let error = daemon.client.set_attributes(uuid(1), changes).unwrap_err();
    let problem = error.problem().unwrap();
    assert_eq!((problem.status, problem.errno.as_str()), (422, "EINVAL"));
    assert!(problem.detail.contains("'99'"), "{problem}");
    let now = daemon.client.instance(uuid(1)).unwrap();
    assert_eq!(now.state, InstanceState::Running);
    assert_eq!(now.attributes, created.attributes);
    assert_eq!(values(&daemon), ["pin", "28", "off"]);
    Vmm::connect(now.socket.as_ref()).unwrap();
    assert_eq!(daemon.records().len(), 1);
}

#[test]
fn what_has_that_value_already_is_left_alone() {
    let daemon = Daemon::start();
    let created = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(created.socket.as_ref()).unwrap();
    // Fixed, and a VMM is connected: it is none of a change.
    let changes = vec![
        attribute("dma-mask", "28"),
        attribute("dma", "copy"),
        attribute("dma", "pin"),
        attribute("panic-register", "off"),
    ];
    let now = daemon.client.set_attributes(uuid(1), changes).unwrap();
    assert_eq!(now.pid, created.pid);
    assert_eq!(values(&daemon), ["pin", "28", "off"]);
    lives(&mut vmm, 3);
    daemon.event(EventKind::Modified);
}

#[test]
fn an_exclusive_creation_takes_no_other_instance_for_its_own() {
    let daemon = Daemon::start();
    let created = daemon.client.create_new(uuid(1), &request("serial-1"));
    let created = created.unwrap();
    for type_name in ["serial-1", "edu-1"] {
        let error = daemon.client.create_new(uuid(1), &request(type_name));
        assert_eq!(error.unwrap_err().problem().unwrap().errno, "EEXIST");
    }
    assert_eq!(daemon.create(uuid(1), "serial-1"), created);
}
