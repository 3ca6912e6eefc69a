//! Persistent definitions, and what starts with the daemon.

mod support;

use std::fs;

use support::{Daemon, uuid, wait_for};
use vgpud::api::{Attribute, DefinitionRequest, EventKind, InstanceState, StartMode};

fn definition(type_name: &str, start: StartMode) -> DefinitionRequest {
    DefinitionRequest {
        type_name: type_name.to_owned(),
        start,
        attributes: Vec::new(),
    }
}

#[test]
fn a_definition_is_mdevctls_file_and_is_started_by_its_uuid() {
    let daemon = Daemon::start();
    let mut kept = definition("edu-1", StartMode::Manual);
    kept.attributes.push(Attribute {
        name: "dma".to_owned(),
        value: "copy".to_owned(),
    });
    let made = daemon.client.define("soft0", uuid(1), &kept).unwrap();
    assert!(!made.active);
    let file = daemon.path(format!("etc/mdevctl.d/soft0/{}", uuid(1)));
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let expected = serde_json::json!({
        "mdev_type": "edu-1", "start": "manual", "attrs": [{"dma": "copy"}]
    });
    assert_eq!(json, expected);
    let started = daemon.client.start(uuid(1)).unwrap();
    assert!(started.defined);
    assert_eq!(started.attributes, kept.attributes);
    assert!(daemon.client.definition("soft0", uuid(1)).unwrap().active);
    daemon.client.undefine("soft0", uuid(1)).unwrap();
    assert!(!file.exists());
    assert!(!daemon.client.instance(uuid(1)).unwrap().defined);
}

#[test]
fn what_mdevctl_wrote_is_listed_and_what_is_broken_hides_nothing() {
    let daemon = Daemon::start();
    let folder = daemon.path("etc/mdevctl.d/soft0");
    fs::create_dir_all(&folder).unwrap();
    let text = r#"{ "mdev_type": "serial-1", "start": "manual", "attrs": [] }"#;
    fs::write(folder.join(uuid(1).to_string()), text).unwrap();
    fs::write(folder.join(uuid(2).to_string()), "{").unwrap();
    let all = daemon.client.definitions().unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].type_name, "serial-1");
    let error = daemon.client.definition("soft0", uuid(2)).unwrap_err();
    assert_eq!(error.problem().unwrap().errno, "EINVAL");
    daemon.client.start(uuid(1)).unwrap();
}

#[test]
fn automatic_definitions_start_with_the_daemon_and_one_that_fails_hides_no_other() {
    let mut daemon = Daemon::start();
    let define = |number, kept| daemon.client.define("soft0", uuid(number), &kept).unwrap();
    let mut bad = definition("edu-1", StartMode::Auto);
    bad.attributes.push(Attribute {
        name: "colour".to_owned(),
        value: "red".to_owned(),
    });
    define(1, bad);
    define(2, definition("edu-1", StartMode::Auto));
    define(3, definition("edu-1", StartMode::Manual));
    daemon.terminate();
    daemon.start_again();
    let started = wait_for("the automatic one", || daemon.client.instance(uuid(2)).ok());
    assert!(started.defined);
    daemon.wait_state(uuid(2), InstanceState::Running);
    let failed = daemon.event(EventKind::AutostartFailed);
    assert_eq!(failed.instance, Some(uuid(1)));
    let uuids: Vec<_> = daemon
        .client
        .instances()
        .unwrap()
        .iter()
        .map(|i| i.uuid)
        .collect();
    assert_eq!(uuids, [uuid(2)]);
}

#[test]
fn a_definition_that_could_not_be_started_is_not_kept() {
    let daemon = Daemon::start();
    for (parent, kept, errno) in [
        ("soft1", definition("edu-1", StartMode::Auto), "ENODEV"),
        ("soft0", definition("edu-9", StartMode::Auto), "ENOENT"),
        ("..", definition("edu-1", StartMode::Auto), "ENODEV"),
    ] {
        let refused = daemon.client.define(parent, uuid(1), &kept).unwrap_err();
        let problem = refused.problem().unwrap();
        assert_eq!((problem.status, problem.errno.as_str()), (404, errno));
    }
    assert!(daemon.client.definitions().unwrap().is_empty());
}
