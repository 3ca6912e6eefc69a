//! The command line against the real daemon: what there is, definitions, and what runs.

mod cli_support;
mod support;

use std::fs;

use cli_support::{json_of, text};
use serde_json::json;
use support::{Daemon, uuid};

#[test]
fn types_are_listed_as_by_mdevctl() {
    let daemon = Daemon::start_with("[parents.soft0]\nlimits = { edu-1 = 3 }");
    let words = text(&daemon, "types --parent soft0");
    assert!(words.starts_with("soft0\n  "), "{words}");
    let block = "\n  edu-1\n    Available instances: 3\n    Device API: vfio-pci\n    Name: ";
    assert!(words.contains(block), "{words}");
    assert_eq!(text(&daemon, "types --parent card7"), "");
    let all = json_of(&daemon, "types --json");
    let edu = all
        .as_array()
        .unwrap()
        .iter()
        .find(|t| t["name"] == "edu-1");
    assert_eq!(edu.unwrap()["available_instances"], 3);
    assert_eq!(edu.unwrap()["parent"], "soft0");
    let dump = json_of(&daemon, "types --dumpjson");
    let types = dump[0]["soft0"].as_array().unwrap();
    let edu = types.iter().find_map(|entry| entry.get("edu-1")).unwrap();
    assert_eq!(edu["available_instances"], 3);
    assert_eq!(edu["device_api"], "vfio-pci");
}

#[test]
fn a_definition_is_made_changed_and_removed() {
    let daemon = Daemon::start();
    let id = uuid(1);
    let upper = id.to_string().to_uppercase();
    text(
        &daemon,
        &format!("define --uuid {upper} --parent soft0 --type edu-1 --attr dma=copy"),
    );
    let line = format!("{id} soft0 edu-1 manual\n");
    assert_eq!(text(&daemon, "list --defined"), line);
    assert_eq!(text(&daemon, "list"), "");
    for (change, start, attributes) in [
        ("--auto", "auto", json!([{ "dma": "copy" }])),
        (
            "--addattr dma-mask --value 32 --index 0",
            "auto",
            json!([{ "dma-mask": "32" }, { "dma": "copy" }]),
        ),
        (
            "--addattr=dma --value=pin",
            "auto",
            json!([{ "dma-mask": "32" }, { "dma": "copy" }, { "dma": "pin" }]),
        ),
        (
            "--delattr --index 1",
            "auto",
            json!([{ "dma-mask": "32" }, { "dma": "pin" }]),
        ),
        (
            "--delattr --manual",
            "manual",
            json!([{ "dma-mask": "32" }]),
        ),
    ] {
        text(&daemon, &format!("modify --uuid {id} {change}"));
        let file = json_of(&daemon, &format!("list -d -u {id} --dumpjson"));
        let expected = json!({ "mdev_type": "edu-1", "start": start, "attrs": attributes });
        assert_eq!(file, expected, "{change}");
    }
    let dump = json_of(&daemon, "list -d --dumpjson");
    assert_eq!(dump[0]["soft0"][0][id.to_string()]["mdev_type"], "edu-1");
    text(&daemon, &format!("undefine --uuid {id}"));
    assert_eq!(text(&daemon, "list --defined"), "");
}

#[test]
fn a_definition_is_started_and_stopped_and_stays() {
    let daemon = Daemon::start();
    let id = uuid(1);
    text(
        &daemon,
        &format!("define -u {id} -p soft0 -t edu-1 --attr dma-mask=32"),
    );
    let started = json_of(&daemon, &format!("start --uuid {id} --json"));
    assert_eq!(started["state"], "running");
    let listed = text(&daemon, "list -v");
    assert!(
        listed.starts_with(&format!("{id} soft0 edu-1 running (defined)\n")),
        "{listed}"
    );
    assert!(
        listed.contains("    @{0}: {\"dma-mask\":\"32\"}\n"),
        "{listed}"
    );
    assert_eq!(
        text(&daemon, "list -d"),
        format!("{id} soft0 edu-1 manual (active)\n")
    );
    text(&daemon, &format!("stop --uuid {id}"));
    assert_eq!(text(&daemon, "list"), "");
    text(&daemon, &format!("start --uuid {id} --parent soft0"));
    let line = format!("{id} soft0 edu-1 running (defined)\n");
    assert_eq!(text(&daemon, "list"), line);
    text(&daemon, &format!("stop {id}"));
    text(&daemon, &format!("undefine --uuid {id}"));
    assert_eq!(text(&daemon, "list --defined"), "");
}

#[test]
fn a_file_defines_what_another_definition_was_and_what_runs_is_defined_as_it_is() {
    let daemon = Daemon::start();
    let (one, two) = (uuid(1), uuid(2));
    text(
        &daemon,
        &format!("start -u {one} -p soft0 -t bochs-4m --attr mode=640x480"),
    );
    text(&daemon, &format!("define -u {one} --auto"));
    let file = text(&daemon, &format!("list -d -u {one} --dumpjson"));
    fs::write(daemon.path("file"), &file).unwrap();
    text(
        &daemon,
        &format!("define -u {two} -p soft0 --jsonfile file"),
    );
    assert_eq!(text(&daemon, &format!("list -d -u {two} --dumpjson")), file);
    assert!(
        file.contains("\"mode\": \"640x480\"") && file.contains("auto"),
        "{file}"
    );
    let made = text(&daemon, "define -p soft0 -t edu-1");
    assert_eq!(made.trim().len(), 36);
    assert!(text(&daemon, "list -d").contains(made.trim()));
    let changed = file.replace("auto", "manual");
    fs::write(daemon.path("file"), &changed).unwrap();
    text(&daemon, &format!("modify {two} --jsonfile file"));
    assert_eq!(
        text(&daemon, &format!("list -d -u {two} --dumpjson")),
        changed
    );
}

#[test]
fn a_vgpu_that_is_not_defined_runs_until_it_is_stopped() {
    let daemon = Daemon::start();
    let made = text(
        &daemon,
        "start --parent soft0 --type bochs-4m --socket-mode 0640",
    );
    let id = made.trim();
    let shown = json_of(&daemon, &format!("show {id} --json"));
    assert_eq!(shown["instance"]["access"]["mode"], "0640");
    assert_eq!(shown["worker"]["connected"], false);
    assert_eq!(shown["definitions"], json!([]));
    let words = text(&daemon, &format!("show {id}"));
    for expected in ["bochs-4m", "running", "requests", "picture     none"] {
        assert!(words.contains(expected), "{expected}: {words}");
    }
    text(&daemon, &format!("set {id} mode=640x480"));
    let status = json_of(&daemon, &format!("status {id} --json"));
    assert_eq!(status["attributes"][0]["value"], "640x480");
    text(
        &daemon,
        &format!("modify {id} --live --addattr mode --value 800x600"),
    );
    assert!(text(&daemon, &format!("status -u {id}")).contains("800x600"));
    // With its place kept, and without.
    text(&daemon, &format!("stop {id} --keep"));
    assert!(text(&daemon, "list").contains(" stopped"));
    text(&daemon, &format!("start {id}"));
    assert!(text(&daemon, "list").contains(" running"));
    text(&daemon, &format!("stop {id}"));
    assert_eq!(text(&daemon, "list"), "");
}
