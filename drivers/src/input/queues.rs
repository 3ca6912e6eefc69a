//! The two queues: events into the driver's buffers, and what the driver says.

use std::sync::{Arc, Mutex};

use virtio::{Cancelled, Chain, ChainError, QueueHandler};

use super::device::lock;
use super::model::event;
use super::stance::{EVENT, Event};
use super::tape::Tape;

/// The queue of buffers for events.
pub(super) const EVENTS_QUEUE: u16 = 0;

/// The largest size of each queue.
pub(super) const QUEUE_SIZES: [u16; 2] = [64, 64];

/// Most events that are read of one buffer: a driver sends one in each.
const MOST: usize = 64;

/// What serves both queues.
pub(super) struct Handler(pub(super) Arc<Mutex<Tape>>);

impl QueueHandler for Handler {
    fn is_ready(&mut self, queue: u16, position: u64) -> bool {
        queue != EVENTS_QUEUE || lock(&self.0).is_due(position)
    }

    fn handle(
        &mut self,
        queue: u16,
        position: u64,
        chain: &mut Chain<'_>,
    ) -> Result<u32, Cancelled> {
        let tape = lock(&self.0);
        let done = match queue {
            EVENTS_QUEUE => chain.write(&tape.at(position)),
            _ => listen(&tape, chain),
        };
        match done {
            Err(ChainError::Cancelled(cancelled)) => Err(cancelled),
            // A buffer that is too short, or nowhere, is the driver's loss.
            _ => Ok(chain.written()),
        }
    }
}

/// What the driver says: which lights are on.
fn listen(tape: &Tape, chain: &mut Chain<'_>) -> Result<(), ChainError> {
    for _ in 0..MOST {
        if chain.readable() < EVENT as u64 {
            break;
        }
        let mut bytes = [0; EVENT];
        chain.read(&mut bytes)?;
        let Event { kind, code, value } = Event::parse(bytes);
        if kind == event::LED && code < 16 {
            tape.set_light(code, value != 0);
        }
    }
    Ok(())
}
