//! What is written, of slices that no engine made.

use serde_json::{Value, json};
use uuid::Uuid;
use vgpud::api::{Engine, EngineSlice, SliceReason};

use super::events::Writer;
use super::seconds;

fn slice(id: u64, of: u128, times: [u64; 3]) -> EngineSlice {
    let [waited_since, begun_ns, ended_ns] = times;
    EngineSlice {
        id,
        uuid: Uuid::from_u128(of),
        begun_ns,
        ended_ns,
        waited_ns: begun_ns - waited_since,
        used_ns: ended_ns - begun_ns,
        charged_ns: ended_ns - begun_ns,
        why: SliceReason::Turn,
    }
}

fn engine(parent: &str, weight: u32) -> Engine {
    serde_json::from_value(json!({
        "parent": parent, "policy": "fixed-share", "places": 1, "job_limit_ms": 10, "at_ns": 9_000,
        "busy_permille": 0, "used_ns": 0, "clients": [{
            "uuid": Uuid::from_u128(1),
            "settings": {"weight": weight, "cap_permille": null, "reservation_permille": null,
                "priority": "normal", "frame_rate_limit": null, "stop": false},
            "state": "idle", "share_permille": 125, "wanted_permille": 0, "queued": 3, "used_ns": 0,
            "jobs": 0, "jobs_waited_ns": 0, "leases": 0, "leases_waited_ns": 0,
            "longest_wait_ns": 0, "overlong_jobs": 0, "misreports": 0,
        }],
    }))
    .unwrap()
}

/// The document that is written, from 1000 ns on.
fn written(write: impl FnOnce(&mut Writer<'_>)) -> Value {
    let mut text = Vec::new();
    let mut writer = Writer::begin(&mut text, 1000).unwrap();
    write(&mut writer);
    writer.end(7).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Begin and length of the complete events of a name.
fn times(trace: &Value, name: &str) -> Vec<(f64, f64)> {
    let events = trace["traceEvents"].as_array().unwrap().iter();
    let events = events.filter(|event| event["ph"] == "X" && event["name"] == name);
    let number = |event: &Value, name: &str| event[name].as_f64().unwrap();
    let times = events.map(|event| (number(event, "ts"), number(event, "dur")));
    times.collect()
}

#[test]
fn a_trace_of_nothing_is_whole() {
    let trace = written(|_| {});
    assert_eq!(trace["traceEvents"], json!([]));
    assert_eq!(trace["otherData"]["missed_decisions"], 7);
}

#[test]
fn what_was_before_the_beginning_is_cut_off_and_waits_end_where_leases_begin() {
    let trace = written(|writer| {
        writer
            .slice("soft0", &slice(1, 1, [200, 500, 3000]))
            .unwrap();
        writer
            .slice("soft0", &slice(2, 1, [2000, 4500, 6000]))
            .unwrap();
        writer
            .slice("soft0", &slice(3, 1, [6000, 6000, 6500]))
            .unwrap();
    });
    let leases = [(0.0, 2.0), (3.5, 1.5), (5.0, 0.5)];
    assert_eq!(times(&trace, "has the engine"), leases);
    assert_eq!(times(&trace, &Uuid::from_u128(1).to_string()), leases);
    // A wait cannot have begun before the lease before it was over.
    assert_eq!(times(&trace, "waits"), [(2.0, 1.5)]);
}

#[test]
fn a_parent_is_a_process_and_vgpus_and_places_are_threads() {
    let trace = written(|writer| {
        for parent in ["soft0", "gpu1"] {
            writer
                .slice(parent, &slice(1, 1, [1000, 1000, 2000]))
                .unwrap();
            writer
                .slice(parent, &slice(2, 2, [1000, 1500, 2500]))
                .unwrap();
            writer
                .slice(parent, &slice(3, 1, [2000, 2000, 3000]))
                .unwrap();
        }
    });
    let events = trace["traceEvents"].as_array().unwrap();
    let named = |what: &str| -> Vec<_> {
        let events = events.iter().filter(|event| event["name"] == what);
        let names = events.map(|event| {
            let id = (
                event["pid"].as_u64().unwrap(),
                event["tid"].as_u64().unwrap(),
            );
            (id, event["args"]["name"].as_str().unwrap().to_owned())
        });
        names.collect()
    };
    let processes: Vec<_> = named("process_name").into_iter().map(|it| it.1).collect();
    assert_eq!(processes, ["soft0", "gpu1"]);
    let threads = named("thread_name");
    let places = threads
        .iter()
        .filter(|it| it.1.starts_with("engine, place"));
    let places: Vec<_> = places.map(|it| it.0).collect();
    assert_eq!(places, [(1, 1), (1, 2), (2, 1), (2, 2)]);
    let vgpus = threads
        .iter()
        .filter(|it| it.1 == Uuid::from_u128(2).to_string());
    assert_eq!(
        vgpus.map(|it| it.0).collect::<Vec<_>>(),
        [(1, 1001), (2, 1001)]
    );
}

#[test]
fn what_changes_is_marked_once_and_counters_are_written_each_time() {
    let trace = written(|writer| {
        for weight in [100, 100, 200] {
            writer.engine(&engine("soft0", weight)).unwrap();
        }
    });
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |name: &str| {
        events
            .iter()
            .filter(|event| event["name"] == name)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("policy").len(), 1);
    let settings = of("settings").into_iter();
    let weights: Vec<_> = settings
        .map(|event| event["args"]["weight"].as_u64())
        .collect();
    assert_eq!(weights, [Some(100), Some(200)]);
    let (shares, queues) = (of("share %"), of("queue"));
    assert_eq!((shares.len(), queues.len()), (3, 3));
    let name = Uuid::from_u128(1).to_string();
    assert_eq!(shares[0]["args"], json!({ &name: 12.5 }));
    assert_eq!(queues[0]["args"], json!({ &name: 3 }));
}

#[test]
fn a_time_is_none_or_up_to_a_day() {
    assert!(seconds("0").is_ok() && seconds("86400").is_ok());
    for text in ["", "-1", "86401", "NaN", "1s"] {
        assert!(seconds(text).is_err(), "{text}");
    }
}
