//! What the Trace Event Format asks for, of a real run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::busy;
use crate::cli_support::{command, told};
use crate::support::{Daemon, uuid, wait_for};

fn number(event: &Value, name: &str) -> f64 {
    let number = event[name].as_f64();
    number.unwrap_or_else(|| panic!("{name} of {event}"))
}

/// A time in nanoseconds: it is told in microseconds with three decimals, of which Perfetto keeps
/// that much.
fn nanos(event: &Value, name: &str) -> u64 {
    let nanos = number(event, name) * 1000.0;
    assert!(nanos >= 0.0, "{event}");
    assert!((nanos - nanos.round()).abs() < 0.01, "{event}");
    nanos.round() as u64
}

/// Holds a trace to the format's rules, and to what Perfetto asks beyond them: complete events of a
/// thread do not overlap (perfetto.dev, "Frequently Asked Questions"). Its events.
fn sound(text: &str) -> Vec<Value> {
    let trace: Value = serde_json::from_str(text).unwrap();
    let events = trace["traceEvents"].as_array().unwrap().clone();
    let mut named = BTreeSet::new();
    let mut threads: BTreeMap<_, Vec<(u64, u64)>> = BTreeMap::new();
    for event in &events {
        let thread = (number(event, "pid") as u64, number(event, "tid") as u64);
        let begun = nanos(event, "ts");
        assert!(event["name"].is_string(), "{event}");
        match event["ph"].as_str().unwrap() {
            "X" => {
                assert!(named.contains(&thread), "{event}");
                let times = threads.entry(thread).or_default();
                times.push((begun, begun + nanos(event, "dur")));
            }
            "C" => {
                let series = event["args"].as_object().unwrap();
                assert!(
                    !series.is_empty() && series.values().all(Value::is_number),
                    "{event}"
                );
            }
            "i" => assert!(
                ["p", "t"].contains(&event["s"].as_str().unwrap()),
                "{event}"
            ),
            "M" => {
                assert!(event["args"]["name"].is_string(), "{event}");
                named.insert(thread);
            }
            other => panic!("{other}: {event}"),
        }
    }
    for (thread, times) in &mut threads {
        times.sort_unstable();
        for pair in times.windows(2) {
            let (ended, begun) = (pair[0].1, pair[1].0);
            assert!(begun >= ended, "{thread:?}: {begun} {ended}");
        }
    }
    events
}

/// The names of threads, by number.
fn threads(events: &[Value]) -> BTreeMap<u64, String> {
    let named = events.iter().filter(|event| event["name"] == "thread_name");
    let named = named.map(|event| {
        let name = event["args"]["name"].as_str().unwrap();
        (number(event, "tid") as u64, name.to_owned())
    });
    named.collect()
}

#[test]
fn a_trace_of_a_real_run_keeps_the_rules_of_its_format() {
    let daemon = Daemon::start();
    let hogs = [(1, "300"), (2, "100")].map(|(number, weight)| busy(&daemon, number, weight));
    let output = command(&daemon, "trace --seconds 1 --output a.json")
        .output()
        .unwrap();
    assert_eq!(told(output), (Some(0), String::new()));
    let events = sound(&fs::read_to_string(daemon.path("a.json")).unwrap());
    let threads = threads(&events);
    let engines = threads.values().filter(|name| name.starts_with("engine"));
    assert_eq!(
        engines.count(),
        1,
        "an engine of one place has one thread: {threads:?}"
    );
    // The parts of the time in which each had the engine.
    let had = |number_of: u128| {
        let name = uuid(number_of).to_string();
        let (thread, _) = threads.iter().find(|(_, it)| **it == name).unwrap();
        let its = events.iter().filter(|event| {
            event["tid"].as_u64() == Some(*thread) && event["name"] == "has the engine"
        });
        its.map(|event| number(event, "dur")).sum::<f64>()
    };
    let (first, second) = (had(1), had(2));
    // How much more is measured elsewhere; this machine may be busy.
    assert!(first > second && second > 0.0, "{first} {second}");
    for name in ["share %", "queue", "policy", "settings", "waits"] {
        assert!(events.iter().any(|event| event["name"] == name), "{name}");
    }
    drop(hogs);
    // What has been decided is remembered.
    let past = command(&daemon, "trace --past --seconds 0")
        .output()
        .unwrap();
    let past = sound(&String::from_utf8(past.stdout).unwrap());
    assert!(past.iter().filter(|event| event["cat"] == "lease").count() > 20);
    let now = command(&daemon, "trace --seconds 0").output().unwrap();
    let now = sound(&String::from_utf8(now.stdout).unwrap());
    assert!(now.iter().all(|event| event["cat"] != "lease"));
}

#[test]
fn a_trace_that_is_interrupted_or_loses_its_daemon_is_whole() {
    let mut daemon = Daemon::start_with("[parents.soft0]\nengine-places = 2");
    let _hogs = [1, 2, 3].map(|number| busy(&daemon, number, "100"));
    let start = |daemon: &Daemon| {
        let mut command = command(daemon, "trace --output b.json");
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let part = daemon.path(format!("b.json.{}.part", child.id()));
        wait_for("a beginning", || {
            let begun = fs::metadata(&part).is_ok_and(|part| part.len() > 10_000);
            begun.then_some(())
        });
        child
    };
    let child = start(&daemon);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(
        told(child.wait_with_output().unwrap()),
        (Some(0), String::new())
    );
    let events = sound(&fs::read_to_string(daemon.path("b.json")).unwrap());
    let threads = threads(&events);
    let engines = threads.values().filter(|name| name.starts_with("engine"));
    assert_eq!(engines.count(), 2, "{threads:?}");
    fs::remove_file(daemon.path("b.json")).unwrap();
    let child = start(&daemon);
    daemon.kill();
    let (code, words) = told(child.wait_with_output().unwrap());
    assert_eq!(
        (code, words.as_str()),
        (Some(3), "vgpu: the daemon has ended\n")
    );
    sound(&fs::read_to_string(daemon.path("b.json")).unwrap());
    daemon.start_again();
    let (code, words) = told(command(&daemon, "trace --parent none").output().unwrap());
    assert_eq!(code, Some(1));
    assert!(words.contains("none"), "{words}");
}
