//! Engines that vGPUs share.

use std::collections::HashMap;

use uuid::Uuid;

use crate::api::{Engine, EngineState, EngineUse, Instance, Policy};

use super::Text;

const POLICIES: [(Policy, &str); 3] = [
    (Policy::BestEffort, "best-effort"),
    (Policy::EqualShare, "equal-share"),
    (Policy::FixedShare, "fixed-share"),
];

const STATES: [(EngineState, &str); 5] = [
    (EngineState::Idle, "idle"),
    (EngineState::Waiting, "waiting"),
    (EngineState::Running, "running"),
    (EngineState::Stopped, "stopped"),
    (EngineState::Stuck, "stuck"),
];

/// A family: its name, its kind, what it is for, and its value.
type Family = (
    &'static str,
    &'static str,
    &'static str,
    fn(&EngineUse) -> u64,
);

/// What of a vGPU's use is told as it is.
const COUNTS: [Family; 7] = [
    (
        "weight",
        "gauge",
        "Part of the engine in relation to others.",
        |of| of.settings.weight.into(),
    ),
    ("queue", "gauge", "Jobs that wait in the worker.", |of| {
        of.queued
    }),
    ("jobs_total", "counter", "Jobs that have ended.", |of| {
        of.jobs
    }),
    (
        "leases_total",
        "counter",
        "How often the engine was granted.",
        |of| of.leases,
    ),
    (
        "overlong_jobs_total",
        "counter",
        "Jobs that took longer than they may.",
        |of| of.overlong_jobs,
    ),
    (
        "misreports_total",
        "counter",
        "How often the worker has used more than it said.",
        |of| of.misreports,
    ),
    (
        "stopped",
        "gauge",
        "Whether nothing is granted, as the settings say.",
        |of| of.settings.stop.into(),
    ),
];

/// The same in seconds, of nanoseconds.
const SECONDS: [Family; 4] = [
    (
        "seconds_total",
        "counter",
        "Time of the engine that was used.",
        |of| of.used_ns,
    ),
    (
        "job_wait_seconds_total",
        "counter",
        "How long jobs have waited that have begun.",
        |of| of.jobs_waited_ns,
    ),
    (
        "lease_wait_seconds_total",
        "counter",
        "How long the worker has waited for the engine.",
        |of| of.leases_waited_ns,
    ),
    (
        "longest_wait_seconds",
        "gauge",
        "The longest that it has waited for it.",
        |of| of.longest_wait_ns,
    ),
];

/// A share of an engine in thousandths; none if it has none.
type Share = fn(&EngineUse) -> Option<u32>;

const SHARES: [(&str, &str, Share); 4] = [
    (
        "share_ratio",
        "Part of the engine that was used in the last second.",
        |of| Some(of.share_permille),
    ),
    (
        "wanted_ratio",
        "Part of the last second in which there was something to do.",
        |of| Some(of.wanted_permille),
    ),
    ("cap_ratio", "The ceiling, where there is one.", |of| {
        of.settings.cap_permille
    }),
    (
        "reservation_ratio",
        "What is reserved, where anything is.",
        |of| of.settings.reservation_permille,
    ),
];

/// Tells of every engine, and of those who share it.
pub(super) fn tell(text: &mut Text, engines: &[Engine], instances: &[Instance]) {
    text.family(
        "engine_policy",
        "gauge",
        "How the parent's engine is shared.",
    );
    for engine in engines {
        for (policy, name) in POLICIES {
            let labels = [("parent", engine.parent.as_str()), ("policy", name)];
            text.value(&labels, u64::from(engine.policy == policy));
        }
    }
    text.family(
        "engine_places",
        "gauge",
        "How many jobs run on the engine at once.",
    );
    for engine in engines {
        text.value(&[("parent", &engine.parent)], engine.places);
    }
    text.family(
        "engine_seconds_total",
        "counter",
        "Time of the engine that was used.",
    );
    for engine in engines {
        text.value(&[("parent", &engine.parent)], seconds(engine.used_ns));
    }
    let types = instances.iter();
    let types: HashMap<_, _> = types.map(|it| (it.uuid, it.type_name.as_str())).collect();
    let users = Users { engines, types };
    for (name, kind, help, value) in COUNTS {
        users.tell(text, (name, kind, help), |of| Some(value(of).to_string()));
    }
    for (name, kind, help, value) in SECONDS {
        users.tell(text, (name, kind, help), |of| Some(seconds(value(of))));
    }
    for (name, help, value) in SHARES {
        users.tell(text, (name, "gauge", help), |of| {
            let thousandths = value(of)?;
            Some(format!("{}.{:03}", thousandths / 1000, thousandths % 1000))
        });
    }
    text.family(
        "instance_engine_state",
        "gauge",
        "What the vGPU does with the engine.",
    );
    users.each(|labels, of| {
        for (state, name) in STATES {
            let labels: Vec<_> = labels.iter().copied().chain([("state", name)]).collect();
            text.value(&labels, u64::from(of.state == state));
        }
    });
}

/// Those who share engines, and their types.
struct Users<'a> {
    engines: &'a [Engine],
    types: HashMap<Uuid, &'a str>,
}

impl Users<'_> {
    fn each(&self, mut tell: impl FnMut(&[(&str, &str)], &EngineUse)) {
        for engine in self.engines {
            for of in &engine.clients {
                let uuid = of.uuid.to_string();
                // It may have gone between the two questions.
                let type_name = self.types.get(&of.uuid).copied().unwrap_or_default();
                let labels = [
                    ("uuid", uuid.as_str()),
                    ("parent", &engine.parent),
                    ("type", type_name),
                ];
                tell(&labels, of);
            }
        }
    }

    fn tell(
        &self,
        text: &mut Text,
        (name, kind, help): (&str, &str, &str),
        value: impl Fn(&EngineUse) -> Option<String>,
    ) {
        text.family(&format!("instance_engine_{name}"), kind, help);
        self.each(|labels, of| {
            if let Some(value) = value(of) {
                text.value(labels, value);
            }
        });
    }
}

fn seconds(nanos: u64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}
