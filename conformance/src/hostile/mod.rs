//! Messages that no client sends, many of them: nothing may come of them but refusals.
//!
//! - `noise`: numbers that are the same for the same seed, and often wrong.
//! - `messages`: what is made of them.
//! - `arsenal`: descriptors to send along.
//! - `peer`: a connection that is written and read without ever waiting long.
//!
//! Afterwards a good client must be served; and where the server's process is known it must hold
//! as many descriptors as before, and little more memory than after the first tenth.

mod arsenal;
mod messages;
mod noise;
mod peer;

use std::os::fd::{AsFd, BorrowedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use arsenal::Arsenal;
use messages::{Ending, Hostile, Piece};
use noise::Noise;
use peer::{Peer, Sent};

use crate::check::{Unmet, Verdict, Within};
use crate::ensure;
use crate::process::{self, Usage};
use crate::target::Target;

/// More memory than this after the warm-up is a leak.
const MOST_GROWTH_KIB: u64 = 4 << 10;
/// Bytes that are sent at once: enough to be quick, little enough that it is never half sent.
const BATCH: usize = 8 << 10;

/// So many connections in a row on which nothing could be sent are no accident.
const MOST_FRUITLESS: u32 = 1000;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// How many messages.
    pub messages: u64,
    /// The same messages come of the same seed.
    pub seed: u64,
    /// The server's process, if its descriptors and memory are to be looked at.
    pub pid: Option<u32>,
}

/// What was done, and what it cost the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Toll {
    /// Messages that were sent.
    pub messages: u64,
    /// Connections that they were sent on.
    pub connections: u64,
    /// How long it took.
    pub took: Duration,
    /// What the server held before, after the warm-up and in the end.
    pub usage: Option<[Usage; 3]>,
}

impl std::fmt::Display for Toll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.took.as_secs_f64();
        write!(
            f,
            "{} hostile messages on {} connections in {seconds:.1} s",
            self.messages, self.connections
        )?;
        if let Some([before, warm, after]) = self.usage {
            write!(
                f,
                "; descriptors {} before, {} after; memory {} KiB before, {} warm, {} after",
                before.fds, after.fds, before.rss_kib, warm.rss_kib, after.rss_kib
            )?;
        }
        Ok(())
    }
}

/// Attacks the server. What was done is told in `toll`, however it ends.
pub fn run(target: &Target, attack: Attack, toll: &mut Toll) -> Verdict {
    let start = Instant::now();
    let arsenal = Arsenal::new()?;
    let mut noise = Noise::new(attack.seed);
    let before = settled(target, attack.pid, None).within("before")?;
    let mut warm = None;
    let mut fruitless = 0;
    let outcome = loop {
        if toll.messages >= attack.messages {
            break Ok(());
        }
        if fruitless > MOST_FRUITLESS {
            break Err(Unmet::fail("the server lets nobody in any more"));
        }
        if warm.is_none() && toll.messages >= attack.messages / 10 {
            warm = settled(target, attack.pid, before)?;
        }
        let sent_before = toll.messages;
        if let Err(unmet) = connection(target, &arsenal, &mut noise, toll) {
            break Err(unmet);
        }
        let is_fruitless = toll.messages == sent_before;
        fruitless = if is_fruitless { fruitless + 1 } else { 0 };
    };
    toll.took = start.elapsed();
    outcome?;
    let after = settled(target, attack.pid, before)?;
    if let (Some(before), Some(warm), Some(after)) = (before, warm.or(before), after) {
        toll.usage = Some([before, warm, after]);
        let (had, has) = (before.fds, after.fds);
        ensure!(
            had == has,
            "the server had {had} descriptors, and has {has}"
        );
        let grown = after.rss_kib.saturating_sub(warm.rss_kib);
        ensure!(grown <= MOST_GROWTH_KIB, "its memory grew by {grown} KiB");
    }
    Ok(())
}

/// A good client is served: within some time, since what came before may still be in the queue.
fn is_served(target: &Target) -> Verdict {
    let deadline = Instant::now() + target.patience();
    loop {
        let served = target.client().and_then(|mut client| client.is_in_step());
        if served.is_ok() || Instant::now() > deadline {
            return served.within("a good client");
        }
        sleep(Duration::from_millis(10));
    }
}

/// What the server holds once it has seen that everybody has gone: as many descriptors as
/// `expected`, or as it goes on to hold.
fn settled(
    target: &Target,
    pid: Option<u32>,
    expected: Option<Usage>,
) -> Result<Option<Usage>, Unmet> {
    is_served(target)?;
    let Some(pid) = pid else {
        return Ok(None);
    };
    let deadline = Instant::now() + target.patience();
    let mut last = process::usage(pid)?;
    let mut steady = 0;
    loop {
        sleep(Duration::from_millis(10));
        let now = process::usage(pid)?;
        steady = if now.fds == last.fds { steady + 1 } else { 0 };
        last = now;
        let is_settled = match expected {
            Some(expected) => now.fds == expected.fds,
            None => steady >= 20,
        };
        if is_settled || Instant::now() > deadline {
            return Ok(Some(now));
        }
    }
}

/// One connection, until it is broken or given up.
fn connection(target: &Target, arsenal: &Arsenal, noise: &mut Noise, toll: &mut Toll) -> Verdict {
    let mut peer = Peer::new(target)?;
    toll.connections += 1;
    // One in eight does not even say its version.
    if !noise.one_in(8) && !peer.agree(target)? {
        return Ok(());
    }
    // One in sixteen does not read what comes back.
    peer.reads = !noise.one_in(16);
    let mut batch = Vec::with_capacity(2 * BATCH);
    let mut batched = 0;
    for _ in 0..noise.below(2000) {
        let Hostile { piece, ending } = messages::any(noise);
        let Piece { bytes, fds } = piece;
        if fds > 0 {
            if !deliver(&mut peer, &mut batch, &mut batched, toll)? {
                return Ok(());
            }
            let fds: Vec<BorrowedFd<'_>> = (0..fds).map(|_| arsenal.any(noise).as_fd()).collect();
            if peer.send(&bytes, &fds)? == Sent::Closed {
                return Ok(());
            }
            toll.messages += 1;
        } else {
            batch.extend(bytes);
            batched += 1;
        }
        if ending == Ending::Breaks || batch.len() >= BATCH {
            let is_open = deliver(&mut peer, &mut batch, &mut batched, toll)?;
            if !is_open || ending == Ending::Breaks {
                return Ok(());
            }
            if noise.one_in(64) {
                arsenal.cut(noise);
            }
        }
    }
    deliver(&mut peer, &mut batch, &mut batched, toll).map(drop)
}

/// Sends what was gathered; tells whether the connection is still open.
fn deliver(
    peer: &mut Peer,
    batch: &mut Vec<u8>,
    batched: &mut u64,
    toll: &mut Toll,
) -> Result<bool, Unmet> {
    let sent = peer.send(batch, &[])?;
    toll.messages += std::mem::take(batched);
    batch.clear();
    Ok(sent == Sent::All)
}
