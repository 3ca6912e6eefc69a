//! `vgpu upgrade`, and what `vgpu show` tells of it.

use crate::cli_support::{json_of, run, text, told};
use crate::fake::{Vmm, behave, daemon_with};
use crate::support::uuid;

#[test]
fn an_upgrade_tells_its_pause_in_words_and_in_json() {
    let (daemon, _folder) = daemon_with("");
    let instance = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(&instance.socket);
    vmm.echo(b'x');
    let id = uuid(1);
    let words = text(&daemon, &format!("upgrade {id}"));
    assert!(
        words.starts_with(&format!("{id}: upgraded, pid ")),
        "{words}"
    );
    assert!(words.contains(" ms"), "{words}");
    let upgrade = json_of(&daemon, &format!("upgrade --uuid {id} --json"));
    assert!(upgrade["pause_us"].as_u64().unwrap() > 0);
    let shown = text(&daemon, &format!("show {id}"));
    assert!(shown.contains("upgrades    2"), "{shown}");
    assert_eq!(vmm.ask(b'p'), upgrade["pid"].as_u64().unwrap());
}

#[test]
fn all_are_upgraded_though_some_cannot_be_and_that_is_told() {
    let (daemon, _folder) = daemon_with("");
    for number in 1..=3 {
        daemon.create(uuid(number), "edu-1");
    }
    daemon.client.stop(uuid(3), false).unwrap();
    assert_eq!(text(&daemon, "upgrade --all").lines().count(), 2);
    behave(&daemon, "refuse");
    let output = run(&daemon, "upgrade --all --json");
    assert_eq!(output.status.code(), Some(1));
    let outcomes: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcomes.as_array().unwrap().len(), 2);
    for outcome in outcomes.as_array().unwrap() {
        assert!(outcome["upgrade"].is_null());
        assert_eq!(outcome["problem"]["errno"], "EPROTO");
    }
    let (code, words) = told(run(&daemon, &format!("upgrade {}", uuid(1))));
    assert_eq!(code, Some(1));
    assert!(words.contains("of another make"), "{words}");
    assert!(words.contains("remedy: nothing is lost"), "{words}");
    let (code, _) = told(run(&daemon, "upgrade"));
    assert_eq!(code, Some(2));
}

#[test]
fn what_became_of_a_crash_is_shown_in_words() {
    let (daemon, _folder) = daemon_with("");
    daemon.create(uuid(1), "edu-1");
    let failed = daemon.fail(uuid(1));
    let shown = text(&daemon, &format!("show {}", uuid(1)));
    for line in [
        "state       failed",
        "crashes     3",
        "recovery    given up: 3 crashes",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(shown.contains("killed by SIGKILL"), "{shown}");
    assert_eq!(failed.crashes, 3);
}
