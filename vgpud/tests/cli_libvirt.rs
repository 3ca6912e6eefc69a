//! `vgpu libvirt-hook`, run as libvirt runs it: step by step, a domain on standard input.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod cli_support;
mod support;

use std::io::Write;
use std::process::Stdio;

use cli_support::{command, told, vgpu};
use support::{Daemon, uuid};

/// A domain that says this of vGPUs.
fn domain(inside: &str) -> String {
    format!(
        "<domain type='kvm'><name>one</name><metadata>
         <v:vgpus xmlns:v='urn:vgpud:domain:1'>{inside}</v:vgpus></metadata></domain>"
    )
}

/// The same with one vGPU, created for it.
fn with_one(type_name: &str) -> String {
    let one = uuid(1);
    domain(&format!(
        "<v:vgpu uuid='{one}' parent='soft0' type='{type_name}'/>"
    ))
}

/// Runs the hook for a step such as `prepare begin -`: its exit code and words.
fn step(daemon: Option<&Daemon>, step: &str, xml: &[u8]) -> (Option<i32>, String) {
    let line = format!("libvirt-hook -- one {step}");
    let mut hook = daemon.map_or_else(|| vgpu(&line), |daemon| command(daemon, &line));
    hook.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut hook = hook.spawn().unwrap();
    // One that reads no more has nothing to do with it.
    let _ = hook.stdin.take().unwrap().write_all(xml);
    told(hook.wait_with_output().unwrap())
}

fn well(daemon: &Daemon, what: &str, xml: &str) {
    let done = step(Some(daemon), what, xml.as_bytes());
    assert_eq!(done, (Some(0), String::new()), "{what}");
}

fn count(daemon: &Daemon) -> usize {
    daemon.client.instances().unwrap().len()
}

#[test]
fn a_vgpu_is_there_from_prepare_to_release_and_no_other_step_matters() {
    let daemon = Daemon::start();
    let xml = with_one("edu-1");
    for reason in ["shutdown", "destroyed", "crashed", "failed", "-"] {
        well(&daemon, "prepare begin -", &xml);
        for other in [
            "start begin -",
            "started begin -",
            "reconnect begin -",
            "restore begin -",
            "attach begin -",
            "stopped end -",
            "of-tomorrow",
        ] {
            well(&daemon, other, &xml);
        }
        assert_eq!(count(&daemon), 1);
        let there = daemon.client.instance(uuid(1)).unwrap();
        assert_eq!(there.type_name, "edu-1");
        let release = format!("release end {reason}");
        well(&daemon, &release, &xml);
        assert_eq!(count(&daemon), 0, "{reason}");
        well(&daemon, &release, &xml);
    }
}

#[test]
fn a_domain_with_vgpus_is_not_migrated_and_one_without_is() {
    let daemon = Daemon::start();
    let (code, words) = step(
        Some(&daemon),
        "migrate begin -",
        with_one("edu-1").as_bytes(),
    );
    assert_eq!(code, Some(1));
    assert!(words.contains("cannot be migrated"), "{words}");
    well(&daemon, "migrate begin -", &domain(""));
    assert_eq!(count(&daemon), 0);
}

#[test]
fn what_somebody_else_made_is_left_to_him() {
    let daemon = Daemon::start();
    // Started without a definition, and only named by the domain.
    daemon.create(uuid(1), "serial-1");
    let named = domain(&format!("<v:vgpu uuid='{}'/>", uuid(1)));
    well(&daemon, "prepare begin -", &named);
    well(&daemon, "release end shutdown", &named);
    assert_eq!(count(&daemon), 1);
    // Of another type: the domain does not start, and the end of that start is not the vGPU's.
    let (code, words) = step(
        Some(&daemon),
        "prepare begin -",
        with_one("edu-1").as_bytes(),
    );
    assert_eq!(code, Some(1));
    assert!(words.contains("(EEXIST)"), "{words}");
    well(&daemon, "release end failed", &with_one("edu-1"));
    assert_eq!(count(&daemon), 1);
}

#[test]
fn attributes_that_were_set_since_do_not_keep_a_vgpu() {
    let daemon = Daemon::start();
    let xml = with_one("bochs-4m");
    well(&daemon, "prepare begin -", &xml);
    let set = command(&daemon, &format!("set {} mode=640x480", uuid(1))).output();
    assert!(set.unwrap().status.success());
    well(&daemon, "release end shutdown", &xml);
    assert_eq!(count(&daemon), 0);
}

#[test]
fn without_a_daemon_only_domains_with_vgpus_are_told() {
    let done = step(None, "prepare begin -", domain("").as_bytes());
    assert_eq!(done, (Some(0), String::new()));
    for broken in [&b"\xff<domain"[..], b""] {
        let done = step(None, "prepare begin -", broken);
        assert_eq!(done, (Some(0), String::new()));
    }
    for (what, expected) in [
        ("prepare begin -", "cannot be started"),
        ("release end destroyed", "was not ended"),
    ] {
        let (code, words) = step(None, what, with_one("edu-1").as_bytes());
        assert_eq!(code, Some(3), "{what}: {words}");
        assert!(words.contains(expected), "{what}: {words}");
        assert!(words.contains("remedy: start vgpud"), "{what}: {words}");
    }
}
