//! The vGPUs that one worker serves.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use mdev::mailbox::{Mail, MailSender};
use mdev::metrics::Metrics;

/// Most vGPUs of one device. Each has some threads, and descriptors.
pub(super) const MOST: usize = 256;

/// How long all of them may take to end. A device has 4 s to let go of memory.
const END_PATIENCE: Duration = Duration::from_secs(8);

/// The seats. Clones speak of the same.
#[derive(Clone, Default)]
pub(super) struct Seats(Arc<Shared>);

#[derive(Default)]
struct Shared {
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    /// None as long as it is being built.
    seats: BTreeMap<u64, Option<Occupant>>,
    next: u64,
    /// All of them are to end, and nobody comes any more.
    is_over: bool,
}

struct Occupant {
    mail: MailSender,
    metrics: Arc<Metrics>,
}

/// Why nobody comes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoSeat {
    #[error("{MOST} vGPUs are there, and there is room for no more")]
    Full,
    #[error("the worker is about to end")]
    Over,
}

/// A seat that is taken. Dropping it gives it back.
pub(super) struct Place {
    number: u64,
    seats: Seats,
}

impl Seats {
    fn table(&self) -> MutexGuard<'_, Table> {
        let table = self.0.table.lock();
        table.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat.
    pub(super) fn take(&self) -> Result<Place, NoSeat> {
        let mut table = self.table();
        if table.is_over {
            return Err(NoSeat::Over);
        }
        if table.seats.len() >= MOST {
            return Err(NoSeat::Full);
        }
        let number = table.next;
        table.next += 1;
        table.seats.insert(number, None);
        Ok(Place {
            number,
            seats: self.clone(),
        })
    }

    /// The seat of that number is served. It may have ended already.
    pub(super) fn occupy(&self, number: u64, mail: MailSender, metrics: Arc<Metrics>) {
        let mut table = self.table();
        if table.is_over {
            let _ = mail.send(Mail::Stop);
        }
        if let Some(seat) = table.seats.get_mut(&number) {
            *seat = Some(Occupant { mail, metrics });
        }
    }

    /// How many there are, and whether any has a client.
    pub(super) fn count(&self) -> (u64, bool) {
        let table = self.table();
        let mut occupants = table.seats.values().flatten();
        let is_connected = occupants.any(|seat| seat.metrics.connected.load(Ordering::Relaxed));
        (table.seats.len() as u64, is_connected)
    }

    /// Ends all of them, and lets nobody come any more.
    pub(super) fn stop(&self) -> anyhow::Result<()> {
        let mut table = self.table();
        table.is_over = true;
        for seat in table.seats.values().flatten() {
            // If it has ended, there is nothing to stop.
            let _ = seat.mail.send(Mail::Stop);
        }
        let ended = self
            .0
            .changed
            .wait_timeout_while(table, END_PATIENCE, |table| !table.seats.is_empty());
        let (table, _) = ended.unwrap_or_else(PoisonError::into_inner);
        let left = table.seats.len();
        ensure!(left == 0, "{left} vGPUs have not ended in time");
        Ok(())
    }
}

impl Place {
    /// Its number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let seat = self.seats.table().seats.remove(&self.number);
        // Its mail may own what ends with it.
        drop(seat);
        self.seats.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use mdev::mailbox::Mailbox;

    use super::*;

    #[test]
    fn seats_are_as_many_as_there_is_room_for_and_are_given_back() {
        let seats = Seats::default();
        let mut places: Vec<_> = (0..MOST).map(|_| seats.take().unwrap()).collect();
        assert_eq!(seats.take().err(), Some(NoSeat::Full));
        places.pop();
        assert_eq!(seats.count(), (MOST as u64 - 1, false));
        seats.take().unwrap();
    }

    #[test]
    fn all_are_told_to_end_also_those_that_come_in_between() {
        let seats = Seats::default();
        let sit = |place: &Place| {
            let (mailbox, mail) = Mailbox::new().unwrap();
            seats.occupy(place.number(), mail, Arc::default());
            mailbox
        };
        let (early, late) = (seats.take().unwrap(), seats.take().unwrap());
        let told = sit(&early);
        let ending = thread::spawn({
            let seats = seats.clone();
            move || seats.stop()
        });
        while !told.has_mail() {
            thread::yield_now();
        }
        assert_eq!(seats.take().err(), Some(NoSeat::Over));
        let told = sit(&late);
        assert!(matches!(told.next_mail(), Some(Mail::Stop)));
        drop((early, late));
        ending.join().unwrap().unwrap();
    }
}
