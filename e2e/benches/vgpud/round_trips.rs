//! A trapped register, read and written: against a bare ping-pong of messages of those sizes.
//!
//! In each of [`ROUNDS`] rounds all contestants take turns, a slice of round trips at a time; the
//! median of a contestant's round trips is divided by the floor's of the same round.

use std::time::Duration;

use e2e::Programs;

use crate::cpus::{Batch, Cpus, Pinned};
use crate::peers::Peer;
use crate::proc;
use crate::raw_client::{Access, Wait};
use crate::report::{Ratio, Report};
use crate::servers::{Contestant, Watchdog};
use crate::stats::median;

const ROUNDS: usize = 5;

/// Turns that each takes in a round.
const SLICES: usize = 10;

/// Round trips of a turn, and those before it that do not count: a server that polls has closed
/// its window meanwhile.
const TRIPS: usize = 400;
const WARM_UP: usize = 50;

/// Times that a turn is made again, if its server has left for the client's CPU.
const TRIES: usize = 20;

/// For all rounds together. They take half a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// A fixed polling window, in microseconds, shown beside the one that tunes itself.
const FIXED: &str = "200";

/// One line of the table: a server, and how its client waits. The floor is the first.
struct Entry {
    server: usize,
    wait: Wait,
    target: Option<f64>,
}

impl Entry {
    fn sleeping(server: usize, target: Option<f64>) -> Self {
        let wait = Wait::Sleep;
        Self {
            server,
            wait,
            target,
        }
    }

    fn polling(server: usize, target: Option<f64>) -> Self {
        let wait = Wait::Poll;
        Self {
            server,
            wait,
            target,
        }
    }
}

/// A line for each access, and its median in each round, in nanoseconds.
struct Series<'a> {
    entry: &'a Entry,
    access: Access,
    medians: Vec<f64>,
    /// Turns after which the server was on the client's CPU.
    strays: usize,
}

pub(crate) fn measure(
    programs: &Programs,
    cpus: &Cpus,
    quick: bool,
    report: &mut Report,
) -> anyhow::Result<()> {
    let _pinned = Pinned::to(&[cpus.client])?;
    let trips = if quick { TRIPS / 10 } else { TRIPS };
    one_cpu(programs, cpus, trips, report)?;
    match cpus.other {
        Some(other) => two_cpus(programs, (cpus.client, other), trips, report),
        None => {
            report.heading("4 bytes across two CPUs", "not measured: there is one CPU");
            Ok(())
        }
    }
}

/// Under the usual rules the kernel switches in a slower rhythm where the server works longer than
/// its client: 0.1 µs more may cost 0.7. Under `SCHED_BATCH` it costs 0.1.
fn one_cpu(
    programs: &Programs,
    cpus: &Cpus,
    trips: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let cpu = cpus.client;
    report.heading(
        "4 bytes on one CPU, against a bare ping-pong of those sizes",
        &format!("client and server on CPU {cpu}; both sleep"),
    );
    let entries = [
        Entry::sleeping(0, None),
        Entry::sleeping(1, Some(1.15)),
        Entry::sleeping(2, Some(1.15)),
        Entry::sleeping(3, None),
    ];
    let mut servers = one_cpu_servers(programs, cpu)?;
    let series = run(&mut servers, &entries, cpu, trips)?;
    show("one-cpu", &servers, &series, report);
    drop(servers);

    report.heading(
        "The same under SCHED_BATCH",
        "no pre-emption at a wake-up, so what a server does is what it costs",
    );
    let batch = match Batch::begin() {
        Ok(batch) => batch,
        Err(error) => {
            report.line(&format!("not measured: {error}"));
            return Ok(());
        }
    };
    let entries = [0, 1, 2, 3].map(|server| Entry::sleeping(server, None));
    let mut servers = one_cpu_servers(programs, cpu)?;
    let series = run(&mut servers, &entries, cpu, trips)?;
    show("one-cpu-batch", &servers, &series, report);
    drop(batch);
    Ok(())
}

fn one_cpu_servers(programs: &Programs, cpu: usize) -> anyhow::Result<Vec<Contestant>> {
    Ok(vec![
        Contestant::peer(Peer::Floor, &[cpu])?,
        Contestant::vgpu(programs, "off", &[cpu])?,
        Contestant::vgpu(programs, "auto", &[cpu])?,
        Contestant::peer(Peer::VfioUser, &[cpu])?,
    ])
}

fn two_cpus(
    programs: &Programs,
    (client, other): (usize, usize),
    trips: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let both = [client, other];
    let mut servers = vec![
        Contestant::peer(Peer::Floor, &[other])?,
        Contestant::vgpu(programs, "off", &[other])?,
        Contestant::peer(Peer::VfioUser, &[other])?,
        Contestant::vgpu(programs, "auto", &both)?,
        Contestant::vgpu(programs, FIXED, &both)?,
    ];
    let (sleeping, polling) = (Some(0.6), Some(0.2));
    let entries = [
        Entry::sleeping(0, None),
        Entry::sleeping(1, None),
        Entry::sleeping(2, None),
        Entry::sleeping(3, sleeping),
        Entry::sleeping(4, sleeping),
        Entry::polling(3, polling),
        Entry::polling(4, polling),
    ];
    report.heading(
        "4 bytes across two CPUs, against the same ping-pong where both ends sleep",
        &format!(
            "client on CPU {client}; server on CPU {other}, where a polling one is put before each \
             turn, and free to leave"
        ),
    );
    let series = run(&mut servers, &entries, client, trips)?;
    show("two-cpus", &servers, &series, report);
    show_strays(&servers, &series, report);
    Ok(())
}

/// Measures every entry, for both accesses.
fn run<'a>(
    servers: &mut [Contestant],
    entries: &'a [Entry],
    client_cpu: usize,
    trips: usize,
) -> anyhow::Result<Vec<Series<'a>>> {
    let _watchdog = Watchdog::new(servers, LIMIT)?;
    let of_access = |access| {
        entries.iter().map(move |entry| Series {
            entry,
            access,
            medians: Vec::new(),
            strays: 0,
        })
    };
    let mut series: Vec<Series<'_>> = Access::BOTH.into_iter().flat_map(of_access).collect();
    let count = series.len();
    for _ in 0..ROUNDS {
        let mut took = vec![Vec::new(); count];
        for slice in 0..SLICES {
            // Nobody always comes after the same one.
            for turn in 0..count {
                let which = (turn + slice) % count;
                let series = &mut series[which];
                let server = &mut servers[series.entry.server];
                let times = series.turn(server, client_cpu, trips)?;
                took[which].extend(times);
            }
        }
        for (series, took) in series.iter_mut().zip(took) {
            series.medians.push(median(&took));
        }
    }
    Ok(series)
}

impl Series<'_> {
    /// Makes some round trips. Where the server is free, they are made again if it ran to the
    /// client's CPU meanwhile.
    fn turn(
        &mut self,
        server: &mut Contestant,
        client_cpu: usize,
        trips: usize,
    ) -> anyhow::Result<Vec<f64>> {
        let mut tries = 0..TRIES;
        loop {
            let mut times = Vec::with_capacity(trips);
            let (access, wait) = (self.access, self.entry.wait);
            server.move_from(client_cpu)?;
            server
                .client
                .trips(access, wait, WARM_UP, &mut Vec::new())?;
            server.client.trips(access, wait, trips, &mut times)?;
            if !server.is_free() || proc::busiest_cpu(server.pid())? != client_cpu {
                return Ok(times);
            }
            self.strays += 1;
            if tries.next().is_none() {
                return Ok(times);
            }
        }
    }
}

fn show(place: &str, servers: &[Contestant], series: &[Series<'_>], report: &mut Report) {
    for access in Access::BOTH {
        let mut of_access = series.iter().filter(|series| series.access == access);
        let Some(floor) = of_access.next() else {
            continue;
        };
        for series in of_access {
            let (server, access) = (&servers[series.entry.server], access.name());
            let (client, client_key) = match series.entry.wait {
                Wait::Sleep => ("", "client-sleeps"),
                Wait::Poll => (", client polls", "client-polls"),
            };
            report.ratio(&Ratio {
                name: format!("{place}/{access}/{}/{client_key}", server.key),
                what: format!("{access}: {}{client}", server.name),
                ours: &series.medians,
                floor: &floor.medians,
                target: series.entry.target,
            });
        }
    }
}

/// Tells how often "across two CPUs" was not what happened, where a server was free to go.
fn show_strays(servers: &[Contestant], series: &[Series<'_>], report: &Report) {
    for (index, server) in servers.iter().enumerate() {
        let own = series.iter().filter(|series| series.entry.server == index);
        let strays: usize = own.map(|series| series.strays).sum();
        if strays > 0 {
            let name = &server.name;
            report.line(&format!(
                "{name} ran to its client's CPU in {strays} turns, which were made again"
            ));
        }
    }
}
