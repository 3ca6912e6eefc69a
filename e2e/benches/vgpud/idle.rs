//! What a client costs that is connected and silent.

use std::thread;
use std::time::Duration;

use e2e::Programs;
use serde_json::json;

use crate::cpus::{Cpus, Pinned};
use crate::proc::CpuUse;
use crate::raw_client::{Access, Wait};
use crate::report::Report;
use crate::servers::{Contestant, Watchdog};

/// Round trips before the silence, so that a window is open.
const BURST: usize = 10_000;

/// From the last reply to the first look: longer than any window.
const SETTLING: Duration = Duration::from_millis(50);

const SILENCE: Duration = Duration::from_secs(2);

/// For one burst. It takes a second.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn measure(programs: &Programs, cpus: &Cpus, report: &mut Report) -> anyhow::Result<()> {
    report.heading(
        "A silent client",
        &format!("{SETTLING:?} after {BURST} round trips, for {SILENCE:?}; wanted: nothing"),
    );
    let mut found = Vec::new();
    for poll in ["auto", "off", "200"] {
        let used = silence(programs, cpus, poll)?;
        let verdict = report.judge(Some(used == CpuUse::default()));
        report.line(&format!(
            "vgpud --poll {poll}: {} ticks, {} ns on a CPU, woken {} times: {verdict}",
            used.ticks, used.run_ns, used.voluntary_switches
        ));
        found.push(json!({
            "poll": poll,
            "ticks": used.ticks,
            "run_ns": used.run_ns,
            "voluntary_switches": used.voluntary_switches,
            "verdict": verdict,
        }));
    }
    report.add("idle", found.into());
    Ok(())
}

/// What a server uses while its client is silent.
fn silence(programs: &Programs, cpus: &Cpus, poll: &str) -> anyhow::Result<CpuUse> {
    let both: Vec<usize> = [cpus.client].into_iter().chain(cpus.other).collect();
    let mut server = [Contestant::vgpu(programs, poll, &both)?];
    let _watchdog = Watchdog::new(&server, LIMIT)?;
    let [contestant] = &mut server;
    let _pinned = Pinned::to(&[cpus.client])?;
    contestant
        .client
        .trips(Access::Read, Wait::Sleep, BURST, &mut Vec::new())?;
    thread::sleep(SETTLING);
    let before = CpuUse::of(contestant.pid())?;
    thread::sleep(SILENCE);
    Ok(CpuUse::of(contestant.pid())?.since(before))
}
