//! Events of the Trace Event Format: a JSON object whose `traceEvents` are an array.
//!
//! A parent is a process there. Its engine's places are threads, on which a lease is a complete event
//! (`X`); so is each vGPU, with its waits and its leases. Shares and queues are counters (`C`),
//! policies and settings that change are instants (`i`). Times are microseconds from the first event
//! on, with three decimals.

use std::collections::HashMap;
use std::io::Write;

use serde_json::{Map, Value, json};
use uuid::Uuid;
use vgpud::api::{Engine, EngineSettings, EngineSlice, Policy, SliceReason};

use super::lanes::Lanes;

/// The number of the first vGPU's thread. Those of an engine's places are below.
const FIRST_VGPU: usize = 1000;

/// Writes events as they come.
pub(super) struct Writer<'a> {
    output: &'a mut dyn Write,
    is_first: bool,
    /// The beginning: what was before is cut off.
    zero: u64,
    parents: HashMap<String, Parent>,
}

/// A process of the trace.
struct Parent {
    id: usize,
    lanes: Lanes,
    named_lanes: usize,
    policy: Option<Policy>,
    vgpus: HashMap<Uuid, Vgpu>,
}

/// A thread of the trace.
#[derive(Clone, Copy)]
struct Vgpu {
    id: usize,
    settings: Option<EngineSettings>,
    /// What was before is written.
    until: u64,
}

impl<'a> Writer<'a> {
    /// Begins the document, at that time.
    pub(super) fn begin(output: &'a mut dyn Write, zero: u64) -> anyhow::Result<Self> {
        output.write_all(b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
        Ok(Self {
            output,
            is_first: true,
            zero,
            parents: HashMap::new(),
        })
    }

    /// Ends the document.
    pub(super) fn end(&mut self, missed: u64) -> anyhow::Result<()> {
        let other = json!({
            "program": concat!("vgpu ", env!("CARGO_PKG_VERSION")),
            "clock": "CLOCK_MONOTONIC",
            "begin_ns": self.zero.to_string(),
            "missed_decisions": missed,
        });
        Ok(writeln!(self.output, "\n],\"otherData\":{other}}}")?)
    }

    /// How an engine is, now.
    pub(super) fn engine(&mut self, engine: &Engine) -> anyhow::Result<()> {
        let at = engine.at_ns;
        let pid = self.parent(&engine.parent)?;
        let before = self.known(&engine.parent).and_then(|parent| parent.policy);
        if before != Some(engine.policy) {
            let policy = serde_json::to_value(engine.policy)?;
            let args = json!({ "policy": policy, "places": engine.places });
            self.event(
                ("i", "policy"),
                (pid, 0),
                at,
                json!({ "s": "p", "args": args }),
            )?;
        }
        let (mut shares, mut queues) = (Map::new(), Map::new());
        for of in &engine.clients {
            let tid = self.vgpu(&engine.parent, of.uuid)?;
            let known = self.known(&engine.parent);
            let known = known.and_then(|parent| parent.vgpus.get_mut(&of.uuid));
            let is_new =
                known.is_some_and(|vgpu| vgpu.settings.replace(of.settings) != Some(of.settings));
            if is_new {
                let args = json!({ "s": "t", "args": of.settings });
                self.event(("i", "settings"), (pid, tid), at, args)?;
            }
            let name = of.uuid.to_string();
            shares.insert(name.clone(), json!(f64::from(of.share_permille) / 10.0));
            queues.insert(name, of.queued.into());
        }
        if let Some(parent) = self.known(&engine.parent) {
            parent.policy = Some(engine.policy);
        }
        if shares.is_empty() {
            return Ok(());
        }
        self.event(("C", "share %"), (pid, 0), at, json!({ "args": shares }))?;
        self.event(("C", "queue"), (pid, 0), at, json!({ "args": queues }))
    }

    /// A lease that is over. They come in the order of their beginnings.
    pub(super) fn slice(&mut self, parent: &str, slice: &EngineSlice) -> anyhow::Result<()> {
        let pid = self.parent(parent)?;
        let tid = self.vgpu(parent, slice.uuid)?;
        let zero = self.zero;
        let Some(known) = self.known(parent) else {
            return Ok(());
        };
        let begun = slice.begun_ns.max(zero);
        let ended = slice.ended_ns.max(begun);
        let since = slice.begun_ns.saturating_sub(slice.waited_ns).max(zero);
        let lane = known.lanes.take(begun, ended);
        let is_new_lane = lane >= known.named_lanes;
        known.named_lanes = known.named_lanes.max(lane + 1);
        let since = known.vgpus.get_mut(&slice.uuid).map(|vgpu| {
            let since = since.max(vgpu.until).min(begun);
            vgpu.until = ended;
            since
        });
        if is_new_lane {
            let name = format!("engine, place {}", lane + 1);
            self.named("thread_name", (pid, lane + 1), &name)?;
        }
        let args = json!({
            "uuid": slice.uuid,
            "why": why(slice.why),
            "waited_us": micros(slice.waited_ns),
            "used_us": micros(slice.used_ns),
            "decision": slice.id,
        });
        let lasted = json!({ "dur": micros(ended - begun), "args": args, "cat": "lease" });
        let name = slice.uuid.to_string();
        if let Some(since) = since.filter(|since| *since < begun) {
            let waits = json!({ "dur": micros(begun - since), "cat": "wait" });
            self.event(("X", "waits"), (pid, tid), since, waits)?;
        }
        self.event(("X", "has the engine"), (pid, tid), begun, lasted.clone())?;
        self.event(("X", &name), (pid, lane + 1), begun, lasted)
    }

    fn known(&mut self, parent: &str) -> Option<&mut Parent> {
        self.parents.get_mut(parent)
    }

    /// The number of a parent, which is named the first time.
    fn parent(&mut self, name: &str) -> anyhow::Result<usize> {
        if let Some(known) = self.parents.get(name) {
            return Ok(known.id);
        }
        let id = self.parents.len() + 1;
        let parent = Parent {
            id,
            lanes: Lanes::default(),
            named_lanes: 0,
            policy: None,
            vgpus: HashMap::new(),
        };
        self.parents.insert(name.to_owned(), parent);
        self.named("process_name", (id, 0), name)?;
        Ok(id)
    }

    /// The number of a vGPU, which is named the first time.
    fn vgpu(&mut self, parent: &str, uuid: Uuid) -> anyhow::Result<usize> {
        let pid = self.parent(parent)?;
        let Some(known) = self.known(parent) else {
            return Ok(0);
        };
        if let Some(vgpu) = known.vgpus.get(&uuid) {
            return Ok(vgpu.id);
        }
        let id = FIRST_VGPU + known.vgpus.len();
        let vgpu = Vgpu {
            id,
            settings: None,
            until: 0,
        };
        known.vgpus.insert(uuid, vgpu);
        self.named("thread_name", (pid, id), &uuid.to_string())?;
        Ok(id)
    }

    /// What a process or a thread is called.
    fn named(&mut self, what: &str, of: (usize, usize), name: &str) -> anyhow::Result<()> {
        self.event(
            ("M", what),
            of,
            self.zero,
            json!({ "args": { "name": name } }),
        )
    }

    fn event(
        &mut self,
        (phase, name): (&str, &str),
        (pid, tid): (usize, usize),
        at_ns: u64,
        more: Value,
    ) -> anyhow::Result<()> {
        let mut event = json!({ "ph": phase, "name": name, "pid": pid, "tid": tid });
        event["ts"] = json!(micros(at_ns.saturating_sub(self.zero)));
        if let (Value::Object(event), Value::Object(more)) = (&mut event, more) {
            event.extend(more);
        }
        let comma = if self.is_first { "" } else { "," };
        self.is_first = false;
        Ok(write!(self.output, "{comma}\n{event}")?)
    }
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

fn why(why: SliceReason) -> &'static str {
    match why {
        SliceReason::Display => "display",
        SliceReason::Reservation => "reservation",
        SliceReason::Turn => "turn",
    }
}
