//! The threads that reach a device's own from outside: whoever accepts, and whoever answers. They end
//! with it, though the process may go on.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::net::{Shutdown, shutdown};

/// Most who may ask a vGPU at a time. Each has a thread.
pub(crate) const MAX_ASKERS: usize = 16;

/// The threads. Clones speak of the same.
#[derive(Clone)]
pub(crate) struct Attendants(Arc<Shared>);

struct Shared {
    /// Can be read from the end on.
    over: OwnedFd,
    threads: Mutex<VecDeque<JoinHandle<()>>>,
    askers: Mutex<Vec<Weak<OwnedFd>>>,
    most_askers: usize,
}

impl Attendants {
    /// As many may ask at a time as are given.
    pub(crate) fn new(most_askers: usize) -> io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            over: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            threads: Mutex::default(),
            askers: Mutex::default(),
            most_askers,
        })))
    }

    fn threads(&self) -> MutexGuard<'_, VecDeque<JoinHandle<()>>> {
        let threads = self.0.threads.lock();
        threads.unwrap_or_else(PoisonError::into_inner)
    }

    fn askers(&self) -> MutexGuard<'_, Vec<Weak<OwnedFd>>> {
        let mut askers = self.0.askers.lock().unwrap_or_else(PoisonError::into_inner);
        askers.retain(|asker| asker.strong_count() > 0);
        askers
    }

    /// Can be read from the end on.
    pub(crate) fn over(&self) -> BorrowedFd<'_> {
        self.0.over.as_fd()
    }

    /// Waits until somebody connects. `false` once it is over.
    pub(crate) fn wait_for(&self, listener: &OwnedFd) -> bool {
        loop {
            let mut fds = [
                PollFd::new(&self.0.over, PollFlags::IN),
                PollFd::new(listener, PollFlags::IN),
            ];
            // An interrupted wait is over early, and the next one begins.
            if poll(&mut fds, None).is_ok() {
                return fds[0].revents().is_empty();
            }
        }
    }

    /// Starts a thread, which must end once it is over.
    pub(crate) fn spawn(
        &self,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> anyhow::Result<()> {
        let thread = crate::spawn(name, body)?;
        let mut threads = self.threads();
        threads.retain(|thread| !thread.is_finished());
        threads.push_back(thread);
        Ok(())
    }

    /// Starts a thread for whoever asks, if there are not too many of them. When it is over, the
    /// connection ends.
    pub(crate) fn attend(&self, asker: OwnedFd, serve: impl FnOnce(&OwnedFd) + Send + 'static) {
        let asker = Arc::new(asker);
        {
            let mut askers = self.askers();
            if askers.len() >= self.0.most_askers {
                return;
            }
            askers.push(Arc::downgrade(&asker));
        }
        // Without a thread the asker sees the connection close.
        let _ = self.spawn("asker", move || serve(&asker));
    }

    /// Ends all of them. Whoever waits for the device must have been told that it is gone.
    pub(crate) fn end(&self) {
        let _ = rustix::io::write(&self.0.over, &1_u64.to_ne_bytes());
        // Those who accept come first, so that in the end nobody is there whom they have started.
        loop {
            for asker in self.askers().iter().filter_map(Weak::upgrade) {
                // Its thread may be reading, or waiting for room to write.
                let _ = shutdown(&asker, Shutdown::Both);
            }
            let Some(thread) = self.threads().pop_front() else {
                return;
            };
            // A panic has ended the process.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use worker::seqpacket;

    use super::*;

    /// Longer than anything here takes: a test fails after it rather than hang.
    const DEADLINE: Duration = Duration::from_secs(20);

    fn pair() -> (OwnedFd, OwnedFd) {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let flags = SocketFlags::CLOEXEC;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    #[test]
    fn at_the_end_nobody_is_left_who_waits_reads_or_writes() {
        let attendants = Attendants::new(MAX_ASKERS).unwrap();
        let (_idle, listener) = pair();
        let waits = attendants.clone();
        attendants
            .spawn("accept", move || while waits.wait_for(&listener) {})
            .unwrap();
        let (_reader, asker) = pair();
        attendants.attend(asker, |asker| drop(seqpacket::receive(asker)));
        let (_writer, asker) = pair();
        attendants.attend(asker, |asker| {
            while seqpacket::send(asker, b"answer", None).is_ok() {}
        });
        let (done, is_done) = mpsc::channel();
        let ending = attendants.clone();
        std::thread::spawn(move || {
            ending.end();
            done.send(()).unwrap();
        });
        is_done.recv_timeout(DEADLINE).unwrap();
        assert_eq!(attendants.askers().len(), 0);
    }

    #[test]
    fn as_many_may_ask_as_there_are_threads_for() {
        let attendants = Attendants::new(MAX_ASKERS).unwrap();
        let ours: Vec<_> = (0..=MAX_ASKERS)
            .map(|_| {
                let (ours, asker) = pair();
                attendants.attend(asker, |asker| drop(seqpacket::receive(asker)));
                ours
            })
            .collect();
        let (refused, asking) = ours.split_last().unwrap();
        assert!(seqpacket::receive(refused).unwrap().is_none());
        assert_eq!(attendants.askers().len(), MAX_ASKERS);
        drop(asking.iter());
        attendants.end();
    }
}
