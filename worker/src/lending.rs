//! How a worker is granted time on an engine that it shares: over a SOCK_SEQPACKET pair that it
//! gets beside [`Request::Lend`](crate::protocol::Request::Lend).
//!
//! ```text
//! daemon                              worker
//!   the two pages, in one packet ───▶   maps them: one to read, one to write
//!   any packet                   ───▶   looks at its lease
//!                                ◀───   any packet: its lease is over, or it has jobs that wait
//!   closed                       ───▶   goes on at the rate of its last lease
//! ```
//!
//! What is in the pages: [`mdev::sched::lease`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use mdev::engine::EngineLease;
use mdev::sched::lease::{GrantWords, Page, UsageWords};
use rustix::net::{RecvFlags, SendFlags};

use crate::parking::{Packet, Parcel, pair, receive, send};

/// The numbers of the pages in their packet.
const GRANT: u32 = 1;
const USAGE: u32 = 2;

/// Both ends, with the pages on their way: ours, and the one for the worker.
pub fn offer(grant: &Page<GrantWords>, usage: &Page<UsageWords>) -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pair()?;
    let parcel = Parcel {
        park: vec![GRANT, USAGE],
        release: Vec::new(),
    };
    let grant = grant.read_only_file()?;
    let fds = [grant.as_fd(), usage.as_fd()];
    send(&ours, &parcel, &fds, SendFlags::DONTWAIT)?;
    Ok((ours, theirs))
}

/// The worker's end: from now on it is granted time over `socket`.
pub fn accept(lease: &EngineLease, socket: OwnedFd) -> io::Result<()> {
    let [grant, usage] = pages(&socket)?;
    lease.connect(socket, grant, usage)
}

/// The pages that a worker is sent first: the one that it reads, and the one that it writes.
pub fn pages(socket: &OwnedFd) -> io::Result<[OwnedFd; 2]> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let Packet::Parcel(parcel, fds) = receive(socket, RecvFlags::DONTWAIT)? else {
        return Err(invalid());
    };
    if parcel.park != [GRANT, USAGE] {
        return Err(invalid());
    }
    <[OwnedFd; 2]>::try_from(fds).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use mdev::engine::now;
    use mdev::sched::lease::{Granter, Lease};
    use mdev::sched::{Class, Nanos};

    use super::*;

    #[test]
    fn a_worker_that_was_granted_time_runs_jobs_and_tells_of_them() {
        let grant = Page::<GrantWords>::new().unwrap();
        let usage = Page::<UsageWords>::new().unwrap();
        let lease = EngineLease::awaited().unwrap();
        let (_ours, theirs) = offer(&grant, &usage).unwrap();
        accept(&lease, theirs).unwrap();
        let second = Nanos::from_millis(1000);
        let granted = Lease::new(0, 1, second, second, now() + second).unwrap();
        Granter::new(&grant).grant(&grant, &granted);
        drop(lease.submit(Class::Render).begin().unwrap());
        assert_eq!(usage.done().0, 1);
    }

    #[test]
    fn a_socket_without_pages_is_refused() {
        let lease = EngineLease::awaited().unwrap();
        let (ours, theirs) = pair().unwrap();
        assert!(accept(&lease, theirs).is_err());
        drop(ours);
        let (ours, theirs) = pair().unwrap();
        send(&ours, &Parcel::default(), &[], SendFlags::DONTWAIT).unwrap();
        assert!(accept(&lease, theirs).is_err());
        let grant = Page::<GrantWords>::new().unwrap();
        let usage = Page::<UsageWords>::new().unwrap();
        let (_ours, theirs) = offer(&grant, &usage).unwrap();
        assert!(accept(&EngineLease::default(), theirs).is_err());
    }
}
