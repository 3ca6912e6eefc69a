//! The thread that does what is due: alone on its work, so that no request holds up a decision.

use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::thread::Builder;

use mdev::engine::now;
use mdev::sched::{Nanos, Time};
use rustix::event::Timespec;
use rustix::event::epoll;

use super::Shared;

/// Tells that the thread is to look again.
pub(super) const WAKE: u64 = u64::MAX;

/// Most that is taken in before deadlines are looked at.
const AT_ONCE: usize = 64;

/// What tells a worker's socket: its engine and its slot.
pub(super) fn data(engine: usize, slot: usize) -> u64 {
    (engine as u64) << 32 | slot as u64
}

/// Starts it. It ends when the engines do.
pub(super) fn start(shared: Arc<Shared>) -> io::Result<()> {
    let thread = Builder::new().name("engines".to_owned());
    thread.spawn(move || run(&shared)).map(drop)
}

fn run(shared: &Shared) {
    let mut events = [MaybeUninit::uninit(); AT_ONCE];
    let mut next = None;
    loop {
        let limit = next.map(until);
        let ready = match epoll::wait(&shared.epoll, &mut events, limit.as_ref()) {
            Ok((ready, _)) => &*ready,
            Err(rustix::io::Errno::INTR) => &[],
            Err(error) => {
                tracing::error!("engines are not scheduled any more: {error}");
                return;
            }
        };
        let mut state = shared.state();
        if state.is_ending {
            return;
        }
        for event in ready {
            let data = event.data.u64();
            if data == WAKE {
                let _ = rustix::io::read(&shared.wake, &mut [0; 8]);
            } else if let Some(engine) = state.engines.get_mut((data >> 32) as usize) {
                let slot = data as u32 as usize;
                if !engine.heed(now(), slot)
                    && let Some(client) = engine.clients.get(&slot)
                {
                    // It would be told for ever.
                    let _ = epoll::delete(&shared.epoll, &client.socket);
                }
            }
        }
        let state = &mut *state;
        next = None;
        for engine in &mut state.engines {
            let time = now();
            if engine.next_tick().is_some_and(|due| due <= time) {
                engine.tick(time);
            }
            next = next.into_iter().chain(engine.next_tick()).min();
            for notice in engine.notices.drain(..) {
                if let Some(notices) = &state.notices {
                    // Without a manager there are no workers either.
                    let _ = notices.send((engine.parent.clone(), notice));
                }
            }
        }
    }
}

/// How long until then.
fn until(time: Time) -> Timespec {
    let Nanos(nanos) = time.since(now());
    Timespec {
        tv_sec: (nanos / 1_000_000_000) as i64,
        tv_nsec: (nanos % 1_000_000_000) as i64,
    }
}
