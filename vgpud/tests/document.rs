//! What the API says of itself and counts.

mod support;

use serde_json::Value;
use support::{Daemon, uuid};
use vfu::client::Client as Vmm;

#[test]
fn the_document_names_every_operation_and_refusal_and_what_it_refers_to_is_there() {
    let daemon = Daemon::start();
    let answer = daemon.raw("GET", "/v1/openapi.json", "application/json", b"");
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let operations = document["paths"].as_object().unwrap();
    let count: usize = operations
        .values()
        .map(|path| path.as_object().unwrap().len())
        .sum();
    assert!(count >= 20, "{count}");
    for path in [
        "/v1/instances/{uuid}",
        "/v1/instances/{uuid}/state",
        "/v1/definitions/{parent}/{uuid}",
        "/v1/events",
        "/metrics",
    ] {
        assert!(operations.contains_key(path), "{path}");
    }
    // Over TCP each request may lack its token.
    for (path, operations) in operations {
        for (method, operation) in operations.as_object().unwrap() {
            let refusal = &operation["responses"]["4XX"]["content"];
            let refusal = refusal.get("application/problem+json");
            assert!(refusal.is_some(), "{method} {path}");
        }
    }
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes["token"]["scheme"], "bearer");
    assert_eq!(document["security"], serde_json::json!([{}, {"token": []}]));
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == "$ref" => references.push(text.to_owned()),
                    _ => collect(value, references),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}

#[test]
fn metrics_count_each_instance_and_the_pools() {
    let daemon = Daemon::start_with("[parents.soft0]\ninstances = 8");
    let instance = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(instance.socket.as_ref()).unwrap();
    support::read(&mut vmm, 7, 0);
    let text = daemon.client.metrics().unwrap();
    let value = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name}{{")));
        let line = line.unwrap_or_else(|| panic!("no {name}: {text}"));
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    assert_eq!(value("vgpud_parent_places"), 8.0);
    assert_eq!(value("vgpud_parent_places_used"), 1.0);
    assert_eq!(value("vgpud_type_available_instances"), 7.0);
    assert_eq!(value("vgpud_instance_connected"), 1.0);
    assert_eq!(value("vgpud_instance_mappings"), 0.0);
    assert_eq!(value("vgpud_instance_pinned_pages"), 0.0);
    // The client read one word of configuration space, and wrote none.
    assert_eq!(value("vgpud_instance_region_read_bytes_total"), 4.0);
    assert_eq!(value("vgpud_instance_region_write_bytes_total"), 0.0);
    assert!(value("vgpud_instance_requests_total") >= 1.0);
    assert!(value("vgpud_instance_proportional_memory_bytes") > 0.0);
    assert!(value("vgpud_instance_cpu_seconds_total") >= 0.0);
    // It shares the engine of its parent, and does nothing with it.
    assert_eq!(value("vgpud_engine_places"), 1.0);
    assert_eq!(value("vgpud_instance_engine_weight"), 100.0);
    for name in [
        "share_ratio",
        "queue",
        "leases_total",
        "lease_wait_seconds_total",
    ] {
        assert_eq!(
            value(&format!("vgpud_instance_engine_{name}")),
            0.0,
            "{name}"
        );
    }
    let usage = daemon.client.usage().unwrap();
    assert_eq!(usage.len(), 1);
    assert_eq!(usage[0].uuid, uuid(1));
    assert!(usage[0].resident_bytes > 0);
    // Each line is a comment or a name, labels and a number; each family is begun once.
    let mut families = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            assert!(families.insert(family.to_owned()), "{line}");
        } else if !line.starts_with("# HELP ") {
            let (name, number) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("vgpud_") && name.ends_with('}'), "{line}");
            number.parse::<f64>().unwrap();
        }
    }
}

#[test]
fn the_host_is_told_with_remedies() {
    let daemon = Daemon::start();
    let host = daemon.client.host().unwrap();
    assert!(host.cpus > 0 && host.memory > 0 && !host.kernel.is_empty());
    assert_eq!(host.pid, daemon.pid());
    for fact in &host.facts {
        assert_eq!(fact.is_good, fact.remedy.is_none(), "{fact:?}");
    }
    let worker = host
        .facts
        .iter()
        .find(|fact| fact.name == "worker")
        .unwrap();
    assert!(worker.is_good, "{worker:?}");
}
