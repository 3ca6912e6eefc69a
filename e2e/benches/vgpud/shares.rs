//! How well an engine is shared, and what that costs: on the real clock, by clients without machines.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use e2e::daemon::Instance;
use e2e::{Daemon, Programs, Vgpu};
use serde_json::json;

use crate::report::{Ratio, Report};
use crate::spinner::{ATTRIBUTE, MOST, Spinner};
use crate::stats::{median, percentile_99};

/// How long shares are measured.
const SPAN: Duration = Duration::from_secs(10);
const QUICK: Duration = Duration::from_secs(1);

/// Before it is measured: all have begun.
const START: Duration = Duration::from_millis(300);

/// How long a job of those takes that always have one, and how often they are looked after: their
/// queues last for longer.
const JOB_US: u32 = 500;
const FEED: Duration = Duration::from_millis(1);

/// What is wanted: how far a share is from its weight's, and from its cap.
const ERROR: f64 = 0.03;
/// What one that is alone loses to being scheduled.
const COST: f64 = 1.02;

/// Jobs of the light one; how many hogs are beside it, and how long theirs take: as long as a lease,
/// and such that one begins shortly before a lease ends.
const LIGHT_US: u32 = 100;
const HOGS: [(usize, u32); 2] = [(1, 2000), (3, 1500)];

pub(crate) fn measure(programs: &Programs, quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let span = if quick { QUICK } else { SPAN };
    report.heading(
        "One engine, several vGPUs",
        &format!("jobs of {JOB_US} µs, for {span:?}; wanted: within {ERROR} of the share"),
    );
    for count in [2, 4, 16] {
        weights(programs, count, span, report)?;
    }
    caps(programs, span, report)?;
    cost(programs, quick, report)?;
    for hogs in HOGS {
        light(programs, hogs, quick, report)?;
    }
    Ok(())
}

/// vGPUs that share one engine, each with a client.
struct Sharers {
    spinners: Vec<Spinner>,
    /// Last, so that the clients are gone first.
    _daemon: Daemon,
}

impl Sharers {
    fn start(programs: &Programs, settings: &[String], micros: u32) -> anyhow::Result<Self> {
        let daemon = Daemon::run(programs)?;
        let mut spinners = Vec::new();
        for setting in settings {
            let Instance { socket, .. } = daemon.start("edu-1", &[ATTRIBUTE, setting])?;
            spinners.push(Spinner::connect(&socket, micros)?);
        }
        Ok(Self {
            spinners,
            _daemon: daemon,
        })
    }

    /// Keeps all of them busy for a while: what each has used, in seconds.
    fn run(&mut self, span: Duration) -> anyhow::Result<Vec<f64>> {
        let busy = |spinners: &mut Vec<Spinner>, span| {
            let begin = Instant::now();
            while begin.elapsed() < span {
                spinners.iter_mut().try_for_each(Spinner::feed)?;
                thread::sleep(FEED);
            }
            let service = spinners.iter_mut().map(Spinner::service);
            service.collect::<anyhow::Result<Vec<_>>>()
        };
        let before = busy(&mut self.spinners, START)?;
        let after = busy(&mut self.spinners, span)?;
        let pairs = after.iter().zip(&before);
        Ok(pairs
            .map(|(after, before)| (*after - *before).as_secs_f64())
            .collect())
    }
}

/// Weights 100 to 400: of two one has twice as much.
fn weights(
    programs: &Programs,
    count: u32,
    span: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let weights: Vec<_> = (0..count).map(|place| (place % 4 + 1) * 100).collect();
    let settings: Vec<_> = weights
        .iter()
        .map(|weight| format!("weight={weight}"))
        .collect();
    let mut sharers = Sharers::start(programs, &settings, JOB_US)?;
    let begin = Instant::now();
    let used = sharers.run(span)?;
    let (total, sum) = (used.iter().sum::<f64>(), weights.iter().sum::<u32>());
    let errors = used.iter().zip(&weights).map(|(used, weight)| {
        let wanted = f64::from(*weight) / f64::from(sum);
        (used / total / wanted - 1.0).abs()
    });
    let worst = errors.fold(0.0, f64::max);
    let busy = total / (begin.elapsed().saturating_sub(START)).as_secs_f64();
    let verdict = report.judge(Some(worst <= ERROR));
    report.line(&format!(
        "{count:2} at weights 100 to {}: error of a share {:.1} %: {verdict}; busy {:.0} %",
        count.min(4) * 100,
        worst * 100.0,
        busy * 100.0
    ));
    report.add(
        &format!("shares/{count}"),
        json!({ "error": worst, "used_s": used, "busy": busy, "verdict": verdict }),
    );
    Ok(())
}

/// A ceiling, with the engine idle else, and beside one who has none.
fn caps(programs: &Programs, span: Duration, report: &mut Report) -> anyhow::Result<()> {
    for (name, settings) in [
        ("alone", &["cap=20"][..]),
        ("beside a hog", &["cap=20", "weight=100"]),
    ] {
        let settings: Vec<_> = settings.iter().map(|it| (*it).to_owned()).collect();
        let mut sharers = Sharers::start(programs, &settings, JOB_US)?;
        let begin = Instant::now();
        let used = sharers.run(span)?;
        let passed = (begin.elapsed().saturating_sub(START)).as_secs_f64();
        let error = used[0] / passed / 0.2 - 1.0;
        let verdict = report.judge(Some(error.abs() <= ERROR));
        report.line(&format!(
            "a cap of 20 %, {name}: error {:+.1} %: {verdict}",
            error * 100.0
        ));
        report.add(
            &format!("shares/cap {name}"),
            json!({ "error": error, "used_s": used, "passed_s": passed, "verdict": verdict }),
        );
    }
    Ok(())
}

/// What one that is alone loses: rounds of jobs with a scheduler, and without.
fn cost(programs: &Programs, quick: bool, report: &mut Report) -> anyhow::Result<()> {
    const SHORT_US: u32 = 20;
    let (rounds, jobs) = if quick { (3, 500) } else { (21, 4000) };
    let mut scheduled = Sharers::start(programs, &["weight=100".to_owned()], SHORT_US)?;
    let scheduled = scheduled
        .spinners
        .first_mut()
        .ok_or_else(|| anyhow!("nobody"))?;
    let vgpu = Vgpu::run(programs, "edu-1", &["-o", ATTRIBUTE])?;
    let mut free = Spinner::connect(&vgpu.socket(), SHORT_US)?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(round(scheduled, jobs)?);
        floor.push(round(&mut free, jobs)?);
    }
    report.ratio(&Ratio {
        name: "shares/cost".to_owned(),
        what: format!("{jobs} jobs of {SHORT_US} µs, scheduled / not"),
        ours: &ours,
        floor: &floor,
        target: Some(COST),
    });
    Ok(())
}

/// How long so many jobs take, in nanoseconds; some always wait.
fn round(spinner: &mut Spinner, jobs: u64) -> anyhow::Result<f64> {
    let until = spinner.ended()? + jobs;
    let begin = Instant::now();
    while spinner.ended()? + MOST < until {
        spinner.feed()?;
    }
    spinner.feed()?;
    while spinner.ended()? < until {}
    let took = begin.elapsed().as_nanos() as f64;
    // The rest, for the next round to begin with none.
    while !spinner.is_idle()? {}
    Ok(took)
}

/// How long the jobs of a light vGPU take, alone and beside some that are always busy.
fn light(
    programs: &Programs,
    (hogs, hog_us): (usize, u32),
    quick: bool,
    report: &mut Report,
) -> anyhow::Result<()> {
    let jobs = if quick { 50 } else { 1000 };
    let settings = vec!["weight=100".to_owned(); 1 + hogs];
    let mut sharers = Sharers::start(programs, &settings, LIGHT_US)?;
    let Some((light, others)) = sharers.spinners.split_first_mut() else {
        return Err(anyhow!("nobody"));
    };
    let alone = some(light, jobs)?;
    let is_over = AtomicBool::new(false);
    let beside = thread::scope(|scope| {
        others.iter_mut().for_each(|hog| hog.set_length(hog_us));
        let feeding = scope.spawn(|| -> anyhow::Result<()> {
            while !is_over.load(Ordering::Relaxed) {
                others.iter_mut().try_for_each(Spinner::feed)?;
                thread::sleep(FEED);
            }
            Ok(())
        });
        thread::sleep(START);
        let beside = some(light, jobs);
        is_over.store(true, Ordering::Relaxed);
        feeding
            .join()
            .map_err(|_| anyhow!("the hog's thread panicked"))??;
        beside
    })?;
    let (p99_alone, p99) = (percentile_99(&alone), percentile_99(&beside));
    let most = 2.0 * p99_alone + f64::from(hog_us);
    let verdict = report.judge(Some(p99 <= most));
    report.line(&format!(
        "a job of {LIGHT_US} µs, 99 of 100 within {p99_alone:.0} µs alone, {p99:.0} µs beside {hogs} \
         with jobs of {hog_us} µs (middle {:.0} and {:.0}); wanted {most:.0}: {verdict}",
        median(&alone),
        median(&beside),
    ));
    report.add(
        &format!("shares/light beside {hogs}"),
        json!({ "alone_us": p99_alone, "beside_us": p99, "wanted_us": most, "verdict": verdict }),
    );
    Ok(())
}

/// Some jobs, one after the other, with time between them: how long each took, in microseconds.
fn some(light: &mut Spinner, jobs: usize) -> anyhow::Result<Vec<f64>> {
    const PAUSE: Duration = Duration::from_millis(3);
    let mut took = Vec::new();
    for _ in 0..jobs {
        thread::sleep(PAUSE);
        took.push(light.one()?.as_secs_f64() * 1e6);
    }
    Ok(took)
}
