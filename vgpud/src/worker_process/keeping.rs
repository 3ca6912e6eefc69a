//! What a worker has parked with the daemon, so that it outlives the worker: [`worker::parking`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::net::{AddressFamily, SocketType, sockopt};
use worker::parking::{CLIENT, JOURNAL, LISTENER, Parked, Parking};

use super::readable;

/// What one worker has parked. Nothing, if it was not adopted, or breaks the rules.
#[derive(Debug, Default)]
pub(crate) struct Keeping(Mutex<Option<Parking>>);

impl Keeping {
    pub(crate) fn new(parking: Parking) -> Self {
        Self(Mutex::new(Some(parking)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Parking>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what comes to `parking` from now on, and nothing of before.
    pub(crate) fn begin_anew(&self, parking: Parking) {
        *self.lock() = Some(parking);
    }

    /// Lets go of all: what is not whole is of no use.
    pub(crate) fn forget(&self) {
        *self.lock() = None;
    }

    /// Takes in what has come, without waiting. Whether more may come.
    pub(crate) fn take_in(&self) -> bool {
        let mut place = self.lock();
        let Some(parking) = place.as_mut() else {
            return false;
        };
        parking.take_in().unwrap_or_else(|error| {
            tracing::warn!("a worker cannot be continued if it ends, nor be upgraded: {error}");
            *place = None;
            false
        })
    }

    /// Takes in what comes, for as long as the worker parks here. It never waits for us.
    pub(crate) async fn take_in_all(&self) -> io::Result<()> {
        let socket = match self.lock().as_ref() {
            None => return Ok(()),
            Some(parking) => parking.as_fd().try_clone_to_owned()?,
        };
        loop {
            readable::wait(&socket).await?;
            if !self.take_in() {
                return Ok(());
            }
        }
    }

    /// All that is parked, the worker being gone.
    pub(crate) fn inherit(&self) -> Parked {
        self.take_in();
        let parking = self.lock().take();
        parking.map_or_else(Parked::new, Parking::into_parked)
    }

    /// A duplicate of the listening socket; none if no other worker can go on from what is parked.
    pub(crate) fn listener(&self) -> io::Result<Option<OwnedFd>> {
        self.take_in();
        let place = self.lock();
        let listener = place.as_ref().map(Parking::parked).and_then(listener_of);
        listener.map(OwnedFd::try_clone).transpose()
    }

    /// Duplicates of all that is parked.
    pub(crate) fn duplicate(&self) -> io::Result<Parked> {
        self.take_in();
        let place = self.lock();
        let parked = place.as_ref().map(Parking::parked).into_iter().flatten();
        parked
            .map(|(&id, fd)| Ok((id, fd.try_clone()?)))
            .collect::<io::Result<_>>()
    }
}

/// The listening socket among what is parked, if another worker can go on from that.
pub(crate) fn listener_of(parked: &Parked) -> Option<&OwnedFd> {
    parked.get(&JOURNAL)?;
    parked.get(&LISTENER)
}

/// Whether a client waits for the next worker.
pub(crate) fn has_client(parked: &Parked) -> bool {
    parked.contains_key(&CLIENT)
}

/// Lets go of what nobody will go on from. A client that is connected sees the connection end, and
/// not that it was reset. Blocks: guest memory whose last owner this is is freed here.
pub(crate) fn part(parked: Parked) {
    // Whatever a worker may have parked in its place: what is hung up on is read to its end.
    let is_client = |fd: &&OwnedFd| {
        sockopt::socket_type(fd) == Ok(SocketType::STREAM)
            && sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX)
    };
    if let Some(client) = parked.get(&CLIENT).filter(is_client) {
        vfu::server::hang_up(client);
    }
    drop(parked);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::BorrowedFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use mdev::keep::Park;
    use worker::parking::Depositor;

    use super::*;

    #[test]
    fn what_a_worker_parked_last_is_inherited() {
        let (parking, theirs) = Parking::new().unwrap();
        let keeping = Keeping::new(parking);
        let (one, other) = UnixStream::pair().unwrap();
        let all: [(u32, BorrowedFd<'_>); 2] = [(JOURNAL, one.as_fd()), (LISTENER, other.as_fd())];
        let mut depositor = Depositor::new(theirs);
        depositor.park(&all[..1]).unwrap();
        assert!(keeping.take_in());
        assert!(keeping.listener().unwrap().is_none());
        depositor.park(&all[1..]).unwrap();
        assert!(keeping.listener().unwrap().is_some());
        assert_eq!(keeping.duplicate().unwrap().len(), 2);
        drop(depositor);
        let parked = keeping.inherit();
        assert!(listener_of(&parked).is_some());
        assert!(!has_client(&parked));
        assert!(keeping.inherit().is_empty());
    }

    #[test]
    fn a_worker_that_breaks_the_rules_is_not_continued() {
        let (parking, theirs) = Parking::new().unwrap();
        let keeping = Keeping::new(parking);
        let (one, _other) = UnixStream::pair().unwrap();
        let mut depositor = Depositor::new(theirs.try_clone().unwrap());
        depositor.park(&[(JOURNAL, one.as_fd())]).unwrap();
        rustix::net::send(&theirs, b"{", rustix::net::SendFlags::empty()).unwrap();
        assert!(!keeping.take_in());
        assert!(keeping.inherit().is_empty());
    }

    #[test]
    fn who_is_parted_from_sees_an_end_though_bytes_are_unread() {
        let (mut vmm, socket) = UnixStream::pair().unwrap();
        // Only so that the test fails instead of waiting for ever.
        vmm.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        vmm.write_all(b"half a request").unwrap();
        let also = socket.try_clone().unwrap();
        part([(CLIENT, OwnedFd::from(socket))].into());
        assert_eq!(vmm.read(&mut [0; 8]).unwrap(), 0);
        drop(also);
        assert_eq!(vmm.read(&mut [0; 8]).unwrap(), 0);
    }
}
