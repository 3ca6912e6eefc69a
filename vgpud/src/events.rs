//! What happened: kept for a while, and sent to whoever listens.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::broadcast;
use uuid::Uuid;

use crate::api::{Event, EventKind};
use crate::clock;

/// Events that are kept for readers that come back. A slower one is told that it missed some.
const KEPT: usize = 1024;

/// The events of this daemon.
#[derive(Debug)]
pub(crate) struct Events {
    past: Mutex<Past>,
    sender: broadcast::Sender<Event>,
}

#[derive(Debug, Default)]
struct Past {
    events: VecDeque<Event>,
    next_id: u64,
}

impl Events {
    pub(crate) fn new() -> Self {
        let past = Past {
            events: VecDeque::new(),
            next_id: 1,
        };
        Self {
            past: Mutex::new(past),
            sender: broadcast::Sender::new(KEPT),
        }
    }

    /// Tells that something happened to an instance.
    pub(crate) fn tell(&self, kind: EventKind, instance: Uuid, parent: &str, detail: String) {
        tracing::info!(%instance, parent, ?kind, "{detail}");
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Event {
            id: past.next_id,
            at: clock::now(),
            kind,
            instance: Some(instance),
            parent: Some(parent.to_owned()),
            detail,
        };
        past.next_id += 1;
        if past.events.len() == KEPT {
            past.events.pop_front();
        }
        past.events.push_back(event.clone());
        // Under the lock, so that no listener sees them in another order. Nobody may listen.
        let _ = self.sender.send(event);
    }

    /// What came after the event `last`, as far as it is kept, and what will come.
    pub(crate) fn listen(&self, last: Option<u64>) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = match last {
            None => Vec::new(),
            Some(last) => {
                let events = past.events.iter().filter(|event| event.id > last);
                events.cloned().collect()
            }
        };
        (missed, self.sender.subscribe())
    }
}

/// Tells a reader that it was too slow.
pub(crate) fn missed(count: u64) -> Event {
    Event {
        id: 0,
        at: clock::now(),
        kind: EventKind::Missed,
        instance: None,
        parent: None,
        detail: format!("{count} events were missed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_comes_back_gets_what_it_missed() {
        let events = Events::new();
        for number in 0..KEPT as u128 + 10 {
            events.tell(
                EventKind::Created,
                Uuid::from_u128(number),
                "soft0",
                String::new(),
            );
        }
        let newest = KEPT as u64 + 10;
        let (missed, mut coming) = events.listen(Some(newest - 2));
        let ids: Vec<_> = missed.iter().map(|event| event.id).collect();
        assert_eq!(ids, [newest - 1, newest]);
        assert_eq!(events.listen(Some(0)).0.len(), KEPT);
        assert!(events.listen(None).0.is_empty());
        events.tell(EventKind::Destroyed, Uuid::nil(), "soft0", String::new());
        assert_eq!(coming.try_recv().unwrap().id, newest + 1);
    }
}
