//! The runs: a trace of each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use e2e::{Daemon, Programs};

use crate::spinner::{ATTRIBUTE, Spinner};
use crate::trace::Trace;

/// The places of the two vGPUs.
pub(crate) const FIRST: usize = 0;
pub(crate) const SECOND: usize = 1;

/// How long each part of a run takes.
const PART: Duration = Duration::from_secs(4);

/// How often a client looks after its jobs, which last for longer.
const FEED: Duration = Duration::from_millis(2);

/// Two vGPUs on one engine.
struct Pair {
    clients: [Spinner; 2],
    uuids: [String; 2],
    /// Last, so that the clients are gone first.
    daemon: Daemon,
}

impl Pair {
    /// The settings of each, and how long its jobs take.
    fn start(
        programs: &Programs,
        settings: [&[&str]; 2],
        micros: [u32; 2],
    ) -> anyhow::Result<Self> {
        let daemon = Daemon::run(programs)?;
        let (mut clients, mut uuids) = (Vec::new(), Vec::new());
        for (settings, micros) in settings.into_iter().zip(micros) {
            let attributes = [&[ATTRIBUTE], settings].concat();
            let instance = daemon.start("edu-1", &attributes)?;
            clients.push(Spinner::connect(&instance.socket, micros)?);
            uuids.push(instance.uuid);
        }
        let (Ok(clients), Ok(uuids)) = (clients.try_into(), uuids.try_into()) else {
            return Err(anyhow!("not two"));
        };
        Ok(Self {
            clients,
            uuids,
            daemon,
        })
    }

    /// Traces what happens while the clients do theirs.
    fn trace(
        self,
        parts: u32,
        work: impl FnOnce(&mut [Spinner; 2], &Daemon) -> anyhow::Result<()>,
    ) -> anyhow::Result<Trace> {
        let Self {
            mut clients,
            uuids,
            daemon,
        } = self;
        let seconds = (PART * parts).as_secs().to_string();
        let text = thread::scope(|scope| {
            let tracing = scope.spawn(|| daemon.vgpu("trace", &["--seconds", &seconds]));
            let worked = work(&mut clients, &daemon);
            let text = tracing.join().map_err(|_| anyhow!("the trace panicked"))?;
            worked.and(Ok(text?))
        })?;
        Trace::parse(&text, &uuids)
    }
}

/// Keeps those busy for a while.
fn feed(clients: &mut [Spinner], span: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < span {
        clients.iter_mut().try_for_each(Spinner::feed)?;
        thread::sleep(FEED);
    }
    Ok(())
}

/// Two that are always busy, under one policy after the other.
pub(crate) fn policies(programs: &Programs) -> anyhow::Result<Trace> {
    let settings: [&[&str]; 2] = [
        &["weight=300", "reservation=45%"],
        &["weight=100", "reservation=15%"],
    ];
    let mut pair = Pair::start(programs, settings, [1000; 2])?;
    feed(&mut pair.clients, Duration::from_millis(300))?;
    pair.trace(3, |clients, daemon| {
        feed(clients, PART)?;
        for policy in ["equal-share", "fixed-share"] {
            daemon.vgpu("policy", &["soft0", policy])?;
            feed(clients, PART)?;
        }
        Ok(())
    })
}

/// One with a cap that is always busy, and another that is so for a while.
pub(crate) fn cap(programs: &Programs) -> anyhow::Result<Trace> {
    let mut pair = Pair::start(programs, [&["cap=30%"], &[]], [1000; 2])?;
    feed(&mut pair.clients[..1], Duration::from_millis(300))?;
    pair.trace(3, |clients, _| {
        feed(&mut clients[..1], PART)?;
        feed(clients, PART)?;
        feed(&mut clients[..1], PART)
    })
}

/// One with a short job now and then, alone, and beside one that always has long ones.
pub(crate) fn light(programs: &Programs) -> anyhow::Result<Trace> {
    const PAUSE: Duration = Duration::from_millis(10);
    let pair = Pair::start(programs, [&[], &[]], [100, 2000])?;
    pair.trace(2, |clients, _| {
        let [light, hog] = clients;
        let begun = Instant::now();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let hogging = scope.spawn(|| -> anyhow::Result<()> {
                while !is_over.load(Ordering::Relaxed) {
                    if begun.elapsed() >= PART {
                        hog.feed()?;
                    }
                    thread::sleep(FEED);
                }
                Ok(())
            });
            let mut result = Ok(());
            while result.is_ok() && begun.elapsed() < PART * 2 {
                result = light.one().map(drop);
                thread::sleep(PAUSE);
            }
            is_over.store(true, Ordering::Relaxed);
            let hogged = hogging.join();
            ensure!(hogged.is_ok(), "the hog panicked");
            result
        })
    })
}
