//! Shares and waits over time, out of a trace.

use anyhow::Context;
use serde_json::Value;

/// What two vGPUs did. Times are seconds from the beginning on.
pub(crate) struct Trace {
    /// Of each vGPU: when a lease began, how long it lasted, how long was waited for it, and how much
    /// of it was used.
    leases: [Vec<Lease>; 2],
    policies: Vec<(f64, String)>,
}

#[derive(Clone, Copy)]
struct Lease {
    begun: f64,
    ended: f64,
    waited: f64,
    used: f64,
}

impl Trace {
    /// Of these vGPUs.
    pub(crate) fn parse(text: &str, uuids: &[String; 2]) -> anyhow::Result<Self> {
        let trace: Value = serde_json::from_str(text).context("no trace")?;
        let events = trace["traceEvents"].as_array().context("no events")?;
        let mut found = Self {
            leases: [Vec::new(), Vec::new()],
            policies: Vec::new(),
        };
        for event in events {
            let seconds = |value: &Value| value.as_f64().unwrap_or(0.0) / 1e6;
            let (at, args) = (seconds(&event["ts"]), &event["args"]);
            if event["name"] == "policy" {
                let policy = args["policy"].as_str().unwrap_or_default();
                found.policies.push((at, policy.to_owned()));
            }
            let of = uuids.iter().position(|uuid| args["uuid"] == **uuid);
            if let Some(of) = of.filter(|_| event["name"] == "has the engine") {
                found.leases[of].push(Lease {
                    begun: at,
                    ended: at + seconds(&event["dur"]),
                    waited: seconds(&args["waited_us"]),
                    used: seconds(&args["used_us"]),
                });
            }
        }
        Ok(found)
    }

    /// When the last lease was over.
    pub(crate) fn end(&self) -> f64 {
        let leases = self.leases.iter().flatten();
        leases.map(|lease| lease.ended).fold(0.0, f64::max)
    }

    /// When which policy began.
    pub(crate) fn policies(&self) -> Vec<(f64, String)> {
        self.policies.clone()
    }

    /// What a vGPU had of the engine in that time.
    pub(crate) fn mean(&self, vgpu: usize, from: f64, until: f64) -> f64 {
        let had = self.leases[vgpu].iter().map(|lease| {
            let within = lease.ended.min(until) - lease.begun.max(from);
            let lasted = (lease.ended - lease.begun).max(1e-9);
            // What was used is spread over the lease.
            within.max(0.0) / lasted * lease.used
        });
        had.sum::<f64>() / (until - from)
    }

    /// What it had, in percent, for each while of `bin` seconds: at its middle.
    pub(crate) fn shares(&self, vgpu: usize, bin: f64) -> Vec<(f64, f64)> {
        let bins = (self.end() / bin) as u32;
        let starts = (0..bins).map(|number| f64::from(number) * bin);
        let shares =
            starts.map(|from| (from + bin / 2.0, 100.0 * self.mean(vgpu, from, from + bin)));
        shares.collect()
    }

    /// When its leases began, and how long it had waited for each, in milliseconds.
    pub(crate) fn waits(&self, vgpu: usize) -> Vec<(f64, f64)> {
        let leases = self.leases[vgpu].iter();
        leases
            .map(|lease| (lease.begun, lease.waited * 1e3))
            .collect()
    }
}
