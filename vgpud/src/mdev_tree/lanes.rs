//! Threads that wait for the daemon, so that nobody else does. Each has a client of its own.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::client::Client;

type Job = Box<dyn FnOnce(&Client) + Send>;

/// Some threads that take one job after the other. The kernel bounds those that wait: each is a
/// process that asks.
#[derive(Debug)]
pub(super) struct Lane {
    jobs: Mutex<Sender<Job>>,
}

impl Lane {
    /// Starts so many threads. Each waits no longer than `patience` for an answer of the daemon's.
    pub(super) fn start(
        name: &str,
        threads: usize,
        api: &Path,
        patience: Duration,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..threads {
            let client = Client::new(api)?.with_patience(patience);
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || work(&queue, &client))?;
        }
        Ok(Self {
            jobs: Mutex::new(jobs),
        })
    }

    /// Has a job done, by and by. A reply that it drops is answered with EIO.
    pub(super) fn give(&self, job: impl FnOnce(&Client) + Send + 'static) {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.send(Box::new(job)).is_err() {
            tracing::error!("nobody is left to ask the daemon");
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>, client: &Client) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else {
            return;
        };
        // The panic has told itself. The thread is needed for those who come next.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| job(client)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn one_that_waits_or_panics_holds_up_nobody() {
        let lane = Lane::start("test", 2, Path::new("/nonexistent"), LIMIT).unwrap();
        let (open, gate) = mpsc::channel::<()>();
        let (done, all) = mpsc::channel();
        lane.give(move |_| {
            let _ = gate.recv_timeout(LIMIT);
        });
        for number in 0..10 {
            let done = done.clone();
            lane.give(move |client| {
                assert!(client.parents().is_err());
                assert!(number % 2 == 0, "a panic that is meant");
                done.send(number).unwrap();
            });
        }
        let seen: Vec<_> = (0..5).map(|_| all.recv_timeout(LIMIT).unwrap()).collect();
        assert_eq!(seen, [0, 2, 4, 6, 8]);
        drop(open);
    }
}
