//! What a decision costs: `cargo bench -p mdev --bench scheduler`.
//!
//! A job from its arrival to the correction of its charge is three calls: it arrives, it is picked,
//! it has ended. All three are counted, on an engine whose clients are always busy. The figures go
//! to `target/bench/scheduler.json`, from where `./x bench` takes them into its summary.

use std::fs;
use std::hint::black_box;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use mdev::engine::{EngineLease, now};
use mdev::sched::lease::{GrantWords, Granter, Lease, Page, UsageWords};
use mdev::sched::{
    Class, ClientId, EngineId, Job, Nanos, PerMille, Policy, Priority, Scheduler, Settings, Time,
    Weight,
};
use serde_json::{Value, json};

/// Rounds of each measurement; the median counts.
const ROUNDS: usize = 5;

/// Jobs in a round.
const JOBS: u32 = 500_000;

/// Most nanoseconds for a job, from its arrival to its end.
const TARGET: f64 = 1000.0;

/// What the clients of a measurement have been given.
#[derive(Clone, Copy)]
enum Given {
    Weights,
    CapsAndReservations,
}

fn main() {
    let mut lines = Vec::new();
    for clients in [2, 16, 256] {
        for (given, words) in [
            (Given::Weights, "weights"),
            (Given::CapsAndReservations, "caps, reservations"),
        ] {
            let ns = median((0..ROUNDS).map(|_| round(clients, given)));
            lines.push(say(&format!("a job, {clients} clients with {words}"), ns));
        }
    }
    let ns = median((0..ROUNDS).map(|_| round_of_leased()));
    lines.push(say("a job of a worker that has a lease", ns));
    save(&lines);
}

/// Nanoseconds that a worker needs for a job beside the job, while its budget lasts: to hand it in,
/// begin and end it.
fn round_of_leased() -> f64 {
    let second = Nanos::from_millis(1000);
    let grant = Page::<GrantWords>::new().expect("a page");
    let usage = Page::<UsageWords>::new().expect("a page");
    let (_lender, socket) = UnixStream::pair().expect("a socket");
    let lease = EngineLease::awaited().expect("a lease");
    let usage_file = usage.as_fd().try_clone_to_owned().expect("a file");
    let grant_file = grant.read_only_file().expect("a file");
    lease
        .connect(socket.into(), grant_file, usage_file)
        .expect("a lender");
    let mut granter = Granter::new(&grant);
    let start = Instant::now();
    for job in 0..JOBS {
        if job % 1000 == 0 {
            let granted = Lease::new(0, 1, second, second, now() + second);
            granter.grant(&grant, &granted.expect("a lease"));
        }
        black_box(lease.submit(Class::Render).begin()).expect("a turn");
    }
    start.elapsed().as_nanos() as f64 / f64::from(JOBS)
}

/// Nanoseconds for a job.
fn round(clients: u32, given: Given) -> f64 {
    let mut scheduler = Scheduler::new();
    let engine = scheduler
        .add_engine(Time(0), 1, Policy::BestEffort)
        .expect("an engine");
    let joined: Vec<ClientId> = (0..clients)
        .map(|n| {
            let settings = settings(n, clients, given);
            scheduler.join(Time(0), settings).expect("a client")
        })
        .collect();
    for client in &joined {
        for _ in 0..2 {
            arrive(&mut scheduler, Time(0), engine, *client);
        }
    }
    let start = Instant::now();
    let mut now = Time(0);
    for _ in 0..JOBS {
        now = one_job(&mut scheduler, engine, now);
    }
    start.elapsed().as_nanos() as f64 / f64::from(JOBS)
}

/// A job is picked and ends, and its client brings another one. Returns when that is.
fn one_job(scheduler: &mut Scheduler, engine: EngineId, mut now: Time) -> Time {
    let decision = loop {
        if let Some(decision) = scheduler.next(now, engine).expect("an engine") {
            break black_box(decision);
        }
        let change = scheduler.next_change(engine).expect("an engine");
        now = change.expect("all are busy");
    };
    let used = Nanos(100_000 + decision.job.number() % 7 * 50_000);
    now = now + used;
    arrive(scheduler, now, engine, decision.client);
    scheduler
        .complete(now, engine, decision.job, used)
        .expect("it ran");
    now
}

fn arrive(scheduler: &mut Scheduler, now: Time, engine: EngineId, client: ClientId) {
    let job = Job {
        class: Class::Render,
        estimate: Nanos(200_000),
    };
    scheduler
        .arrive(now, engine, client, job)
        .expect("it has room");
}

fn settings(n: u32, clients: u32, given: Given) -> Settings {
    let weight = Weight::new(100 + n % 4 * 100).expect("a weight");
    match given {
        Given::Weights => Settings::new(weight, None, None, Priority::Normal),
        Given::CapsAndReservations => {
            let reservation = PerMille::new((500 / clients).max(1)).expect("a share");
            let cap = PerMille::new((3000 / clients).clamp(2, 1000)).expect("a share");
            Settings::new(weight, Some(cap), Some(reservation), Priority::Normal)
        }
    }
    .expect("settings")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn say(what: &str, value: f64) -> Value {
    let verdict = if value <= TARGET { "met" } else { "MISSED" };
    println!("  {what:<44} {value:8.2} ns     ≤ {TARGET} {verdict}");
    json!({ "name": what, "value": value, "unit": "ns", "target": TARGET, "verdict": verdict })
}

fn save(lines: &[Value]) {
    // Cargo's folder for such things is TARGET/tmp, wherever TARGET is.
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    let text = serde_json::to_string_pretty(lines).expect("JSON");
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(dir.join("scheduler.json"), text + "\n"))
        .expect("the figures are saved");
}
