//! Two samples become a frame. All is integers, so that the same samples give the same frame.
//!
//! A counter that has become less is a new one: its daemon or its worker is another. Nothing is
//! told of a rate then, until the next sample.

use serde::Serialize;
use uuid::Uuid;
use vgpud::api::{Engine, EngineState, EngineUse, Instance, Policy};

use crate::show::state_word;

use super::sample::Sample;

/// What there was to see at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Frame {
    pub(super) engines: Vec<EngineRow>,
    pub(super) vgpus: Vec<Row>,
}

/// An engine that is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct EngineRow {
    pub(super) parent: String,
    pub(super) policy: Policy,
    pub(super) places: u32,
    /// How much of it was used, in thousandths of all its places.
    pub(super) busy_permille: u64,
    /// How many share it.
    pub(super) users: usize,
}

/// A vGPU. What it has nothing of is left out: most of it, if it shares no engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) uuid: Uuid,
    pub(super) parent: String,
    #[serde(rename = "type")]
    pub(super) type_name: String,
    /// Of its engine, while it runs and shares one; else where it stands in its life.
    pub(super) state: String,
    pub(super) weight: Option<u32>,
    pub(super) cap_permille: Option<u32>,
    pub(super) reservation_permille: Option<u32>,
    /// Its part of what all on its engine have used.
    pub(super) share_permille: Option<u64>,
    /// How much of one place of the engine it has used.
    pub(super) busy_permille: Option<u64>,
    /// How much of the last second it had something to do.
    pub(super) wanted_permille: Option<u64>,
    /// Jobs that wait.
    pub(super) queued: Option<u64>,
    /// How long it waited each time until it was granted the engine.
    pub(super) wait_ns: Option<u64>,
    /// The longest of these waits, ever.
    pub(super) longest_wait_ns: Option<u64>,
    pub(super) jobs_per_second: Option<u64>,
    /// CPU time of its worker, in thousandths of one CPU.
    pub(super) cpu_permille: Option<u64>,
    /// Its worker's memory in RAM.
    pub(super) resident_bytes: Option<u64>,
}

/// What `now` tells, and what came of it since `before`.
pub(super) fn compare(before: Option<&Sample>, now: &Sample) -> Frame {
    let mut frame = Frame::default();
    for engine in &now.engines {
        let older = before.and_then(|before| engine_of(before, &engine.parent));
        let older = older.filter(|older| older.at_ns < engine.at_ns);
        let busy: u64 = engine
            .clients
            .iter()
            .map(|of| busy(older, engine, of))
            .sum();
        frame.engines.push(EngineRow {
            parent: engine.parent.clone(),
            policy: engine.policy,
            places: engine.places,
            busy_permille: (busy / u64::from(engine.places.max(1))).min(1000),
            users: engine.clients.len(),
        });
    }
    for instance in &now.instances {
        let mut row = row(instance);
        fill_engine(&mut row, before, now);
        fill_usage(&mut row, before, now);
        frame.vgpus.push(row);
    }
    frame
}

fn engine_of<'a>(sample: &'a Sample, parent: &str) -> Option<&'a Engine> {
    let mut engines = sample.engines.iter();
    engines.find(|engine| engine.parent == parent)
}

fn client_of(engine: &Engine, uuid: Uuid) -> Option<&EngineUse> {
    engine.clients.iter().find(|of| of.uuid == uuid)
}

fn row(instance: &Instance) -> Row {
    Row {
        uuid: instance.uuid,
        parent: instance.parent.clone(),
        type_name: instance.type_name.clone(),
        state: state_word(instance.state).to_owned(),
        weight: None,
        cap_permille: None,
        reservation_permille: None,
        share_permille: None,
        busy_permille: None,
        wanted_permille: None,
        queued: None,
        wait_ns: None,
        longest_wait_ns: None,
        jobs_per_second: None,
        cpu_permille: None,
        resident_bytes: None,
    }
}

fn fill_engine(row: &mut Row, before: Option<&Sample>, now: &Sample) {
    let Some(engine) = engine_of(now, &row.parent) else {
        return;
    };
    let Some(of) = client_of(engine, row.uuid) else {
        return;
    };
    let older = before.and_then(|before| engine_of(before, &row.parent));
    let older = older.filter(|older| older.at_ns < engine.at_ns);
    let used = busy(older, engine, of);
    let all: u64 = engine
        .clients
        .iter()
        .map(|of| busy(older, engine, of))
        .sum();
    row.state = engine_word(of.state).to_owned();
    row.weight = Some(of.settings.weight);
    row.cap_permille = of.settings.cap_permille;
    row.reservation_permille = of.settings.reservation_permille;
    row.busy_permille = Some(used);
    row.share_permille = Some((used * 1000).checked_div(all).unwrap_or(0));
    row.wanted_permille = Some(of.wanted_permille.into());
    row.queued = Some(of.queued);
    row.longest_wait_ns = Some(of.longest_wait_ns);
    if let Some(older) = older
        && let Some(then) = client_of(older, row.uuid)
    {
        let waited = of.leases_waited_ns.checked_sub(then.leases_waited_ns);
        let leases = of.leases.checked_sub(then.leases);
        row.wait_ns = waited
            .zip(leases)
            .map(|(waited, leases)| waited.checked_div(leases).unwrap_or(0));
        let jobs = of.jobs.checked_sub(then.jobs);
        row.jobs_per_second =
            jobs.map(|jobs| rate(jobs, 1_000_000_000, engine.at_ns - older.at_ns));
    }
}

/// How much of one place a vGPU has used since then; in the last second, if there is no then.
fn busy(older: Option<&Engine>, now: &Engine, of: &EngineUse) -> u64 {
    let since = older.and_then(|older| {
        let then = client_of(older, of.uuid)?;
        let used = of.used_ns.checked_sub(then.used_ns)?;
        // What is measured late may be more than has passed.
        Some(rate(used, 1000, now.at_ns - older.at_ns).min(1000))
    });
    since.unwrap_or(of.share_permille.into())
}

fn fill_usage(row: &mut Row, before: Option<&Sample>, now: &Sample) {
    let of = |sample: &Sample| sample.usage.iter().find(|of| of.uuid == row.uuid).copied();
    let Some(usage) = of(now) else {
        return;
    };
    row.resident_bytes = Some(usage.resident_bytes);
    let since = before.and_then(|before| {
        let passed = now.at.saturating_duration_since(before.at).as_nanos();
        let used = usage.cpu_ns.checked_sub(of(before)?.cpu_ns)?;
        (passed > 0).then(|| rate(used, 1000, passed.try_into().unwrap_or(u64::MAX)))
    });
    row.cpu_permille = since;
}

/// `count` times `scale` in each of `nanos`; 0 if no time has passed.
fn rate(count: u64, scale: u64, nanos: u64) -> u64 {
    let scaled = u128::from(count) * u128::from(scale);
    let rate = scaled.checked_div(u128::from(nanos)).unwrap_or(0);
    rate.try_into().unwrap_or(u64::MAX)
}

pub(super) fn engine_word(state: EngineState) -> &'static str {
    match state {
        EngineState::Idle => "idle",
        EngineState::Waiting => "waiting",
        EngineState::Running => "running",
        EngineState::Stopped => "stopped",
        EngineState::Stuck => "stuck",
    }
}

pub(super) fn policy_word(policy: Policy) -> &'static str {
    match policy {
        Policy::BestEffort => "best-effort",
        Policy::EqualShare => "equal-share",
        Policy::FixedShare => "fixed-share",
    }
}
