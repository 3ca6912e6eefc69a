//! What is counted, for Prometheus.

mod engines;

use std::fmt::{Display, Write};

use futures_util::{StreamExt, stream};
use worker::control::Control;

use crate::api::{Instance, InstanceState, Parent, WorkerStatus};
use crate::blocking::blocking;
use crate::manager::Manager;
use crate::proc::{self, TICKS_PER_SECOND, Usage};

/// How many workers are asked at a time.
const AT_ONCE: usize = 8;

/// Every state, as a label's values.
const STATES: [(InstanceState, &str); 6] = [
    (InstanceState::Stopped, "stopped"),
    (InstanceState::Starting, "starting"),
    (InstanceState::Running, "running"),
    (InstanceState::Recovering, "recovering"),
    (InstanceState::Stopping, "stopping"),
    (InstanceState::Failed, "failed"),
];

/// What a worker counts, and how it is told.
const COUNTERS: [(&str, &str, &str); 13] = [
    ("sessions", "sessions_total", "Clients that were served."),
    (
        "refused_clients",
        "refused_clients_total",
        "Clients that came while one was served.",
    ),
    ("requests", "requests_total", "Messages from clients."),
    (
        "refused_requests",
        "refused_requests_total",
        "Messages answered with an error.",
    ),
    ("region_reads", "region_reads_total", "Region reads."),
    ("region_writes", "region_writes_total", "Region writes."),
    (
        "region_read_bytes",
        "region_read_bytes_total",
        "Bytes that region reads gave.",
    ),
    (
        "region_write_bytes",
        "region_write_bytes_total",
        "Bytes that region writes took.",
    ),
    (
        "faults",
        "faults_total",
        "Accesses that the device could not serve.",
    ),
    (
        "dma_maps",
        "dma_maps_total",
        "Mappings of guest memory that were made.",
    ),
    (
        "dma_unmaps",
        "dma_unmaps_total",
        "Mappings of guest memory that were undone.",
    ),
    ("resets", "resets_total", "Resets of the device."),
    (
        "interrupts",
        "interrupts_total",
        "Interrupts that were raised.",
    ),
];

/// An instance, and what is known of its worker.
struct Sample {
    instance: Instance,
    status: Option<WorkerStatus>,
    usage: Option<Usage>,
}

/// Everything that is counted, in the text format of Prometheus.
pub async fn scrape(manager: &Manager) -> String {
    let parents = manager.parents().await;
    let instances = manager.instances().await;
    let shared = manager.engines().await;
    let known = instances.clone();
    let samples: Vec<_> = stream::iter(instances)
        .map(|instance| blocking(move || sample(instance)))
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut text = Text::default();
    tell_parents(&mut text, &parents);
    tell_instances(&mut text, &samples);
    engines::tell(&mut text, &shared, &known);
    text.text
}

/// Asks a worker. One that does not answer, or is just gone, leaves its numbers out.
fn sample(instance: Instance) -> Sample {
    let usage = instance.pid.and_then(|pid| proc::usage(pid).ok());
    let status = instance.pid.and_then(|_| {
        let control = Control::connect(instance.control.as_ref()).ok()?;
        Some(control.status().ok()?.into())
    });
    Sample {
        instance,
        status,
        usage,
    }
}

fn tell_parents(text: &mut Text, parents: &[Parent]) {
    type Value = fn(&Parent) -> u64;
    let families: [(&str, &str, Value); 4] = [
        ("places", "Places for vGPUs.", |parent| {
            parent.instances.total
        }),
        ("places_used", "Places that are taken.", |parent| {
            parent.instances.used
        }),
        ("video_memory_bytes", "Video memory.", |parent| {
            parent.video_memory.total
        }),
        (
            "video_memory_used_bytes",
            "Video memory that is taken.",
            |parent| parent.video_memory.used,
        ),
    ];
    for (name, help, value) in families {
        text.family(&format!("parent_{name}"), "gauge", help);
        for parent in parents {
            text.value(&[("parent", &parent.name)], value(parent));
        }
    }
    let help = "vGPUs of the type that can still be created.";
    text.family("type_available_instances", "gauge", help);
    for offered in parents.iter().flat_map(|parent| &parent.types) {
        let labels = [("parent", offered.parent.as_str()), ("type", &offered.name)];
        text.value(&labels, offered.available_instances);
    }
}

fn tell_instances(text: &mut Text, samples: &[Sample]) {
    text.family("instances", "gauge", "vGPUs by their state.");
    for (state, label) in STATES {
        let of_state = samples
            .iter()
            .filter(|sample| sample.instance.state == state);
        text.value(&[("state", label)], of_state.count());
    }
    tell_ends(text, samples);
    let help = "Whether a client is connected.";
    tell(text, samples, ("connected", "gauge", help), |sample| {
        Some(u64::from(sample.status.as_ref()?.connected))
    });
    for (counter, name, help) in COUNTERS {
        tell(text, samples, (name, "counter", help), |sample| {
            sample.status.as_ref()?.counters.get(counter).copied()
        });
    }
    let help = "Mappings of guest memory that are there now.";
    tell(text, samples, ("mappings", "gauge", help), |sample| {
        Some(sample.status.as_ref()?.mappings)
    });
    let help = "Pages of guest memory that the device holds now.";
    tell(text, samples, ("pinned_pages", "gauge", help), |sample| {
        Some(sample.status.as_ref()?.pinned_pages)
    });
    let help = "Memory of the worker.";
    tell(
        text,
        samples,
        ("resident_memory_bytes", "gauge", help),
        |sample| Some(sample.usage?.resident),
    );
    let help = "Memory of the worker, what is shared in proportion.";
    tell(
        text,
        samples,
        ("proportional_memory_bytes", "gauge", help),
        |sample| sample.usage?.proportional,
    );
    let help = "CPU time of the worker.";
    tell(
        text,
        samples,
        ("cpu_seconds_total", "counter", help),
        |sample| {
            let ticks = sample.usage?.cpu_ticks;
            Some(format!(
                "{}.{:02}",
                ticks / TICKS_PER_SECOND,
                ticks % TICKS_PER_SECOND
            ))
        },
    );
}

/// How often workers ended and were replaced. It counts on over daemons.
fn tell_ends(text: &mut Text, samples: &[Sample]) {
    type Value = fn(&Instance) -> u64;
    let families: [(&str, &str, Value); 3] = [
        (
            "crashes_total",
            "How often the worker ended by itself.",
            |instance| instance.crashes,
        ),
        (
            "recoveries_total",
            "How often another worker took over from one that ended by itself.",
            |instance| instance.recoveries,
        ),
        (
            "upgrades_total",
            "How often the worker was replaced by one of the installed program.",
            |instance| instance.upgrades,
        ),
    ];
    for (name, help, value) in families {
        tell(text, samples, (name, "counter", help), |sample| {
            Some(value(&sample.instance))
        });
    }
}

/// A family, with a value for each instance that has one.
fn tell<T: Display>(
    text: &mut Text,
    samples: &[Sample],
    (name, kind, help): (&str, &str, &str),
    value: impl Fn(&Sample) -> Option<T>,
) {
    text.family(&format!("instance_{name}"), kind, help);
    for sample in samples {
        if let Some(value) = value(sample) {
            let instance = &sample.instance;
            let uuid = instance.uuid.to_string();
            let labels = [
                ("uuid", uuid.as_str()),
                ("parent", &instance.parent),
                ("type", &instance.type_name),
            ];
            text.value(&labels, value);
        }
    }
}

/// The text format: families of values. What stands in labels here needs no escapes: UUIDs, and
/// names that were checked.
#[derive(Default)]
struct Text {
    text: String,
    name: String,
}

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.name = format!("vgpud_{name}");
        let name = &self.name;
        // Into a string: it cannot fail, nor can it below.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A value of the family that was begun last.
    fn value(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let labels = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""));
        let labels = labels.collect::<Vec<_>>().join(",");
        let _ = writeln!(self.text, "{}{{{labels}}} {value}", self.name);
    }
}
