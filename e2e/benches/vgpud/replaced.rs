//! How long a client waits while another worker takes the place of its own: one that is told to
//! hand over, and one that was killed.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use e2e::{Daemon, Programs};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::raw_client::{Access, RawClient, Wait};
use crate::report::Report;
use crate::stats::{median, percentile_99};

/// What is served meanwhile.
const TYPES: [&str; 3] = ["serial-1", "bochs-4m", "edu-1"];

/// How often each is replaced.
const TIMES: usize = 40;
const QUICK: usize = 4;

/// What is wanted of an upgrade, at most.
const PAUSE_MS: f64 = 50.0;

/// What is wanted after a death: QEMU gives up after 5 s.
const RECOVERY_MS: f64 = 1000.0;

pub(crate) fn measure(programs: &Programs, quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let times = if quick { QUICK } else { TIMES };
    report.heading(
        "Another worker under a connected client",
        &format!(
            "{times} times each; wanted: at most {PAUSE_MS} ms, and {RECOVERY_MS} after a death"
        ),
    );
    let daemon = Daemon::run_with(programs, "[workers]\nmost-crashes = 1000\n")?;
    for name in TYPES {
        let instance = daemon.start(name, &[])?;
        let _client = vfio_user::Client::new(&instance.socket)
            .map_err(|error| anyhow!("no client of {name}: {error:?}"))?;
        let mut pauses = Vec::new();
        for _ in 0..times {
            let text = daemon.vgpu("upgrade", &["--json", &instance.uuid])?;
            pauses.push(pause_of(&text).with_context(|| format!("no pause in {text}"))?);
        }
        tell(
            &format!("upgrade of {name}: pause"),
            &pauses,
            PAUSE_MS,
            report,
        );
    }
    let instance = daemon.start("bochs-4m", &[])?;
    let mut client = RawClient::connect(&instance.socket)?;
    let mut waits = Vec::new();
    for _ in 0..times {
        let listed = daemon.list()?;
        let own = listed.iter().find(|it| it["uuid"] == *instance.uuid);
        let pid = own.and_then(|it| it["pid"].as_u64()).context("no worker")?;
        e2e::daemon::kill(u32::try_from(pid)?, Signal::KILL)?;
        let begin = Instant::now();
        client.trips(Access::Read, Wait::Sleep, 1, &mut Vec::new())?;
        waits.push(begin.elapsed().as_secs_f64() * 1e3);
        // Until the daemon has taken note of it.
        std::thread::sleep(Duration::from_millis(20));
    }
    tell(
        "death of a worker: until a read is answered",
        &waits,
        RECOVERY_MS,
        report,
    );
    Ok(())
}

fn pause_of(text: &str) -> Option<f64> {
    let value: Value = serde_json::from_str(text).ok()?;
    let value = value
        .as_array()
        .and_then(|all| all.first())
        .unwrap_or(&value);
    Some(value["pause_us"].as_f64()? / 1e3)
}

fn tell(what: &str, took_ms: &[f64], target_ms: f64, report: &mut Report) {
    let worst = took_ms.iter().copied().fold(0.0, f64::max);
    let (middle, p99) = (median(took_ms), percentile_99(took_ms));
    let verdict = report.judge(Some(worst <= target_ms));
    report.line(&format!(
        "{what}: {middle:.1} ms, 99 of 100 in {p99:.1}, worst {worst:.1}: {verdict}"
    ));
    report.add(
        &format!("replaced/{what}"),
        json!({ "median_ms": middle, "p99_ms": p99, "worst_ms": worst, "verdict": verdict }),
    );
}
