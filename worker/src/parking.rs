//! Where a worker leaves duplicates of its descriptors, so that they outlive it: with the daemon,
//! over a SOCK_SEQPACKET pair that the worker gets as `--keeper`.
//!
//! A worker that dies leaves its client's connection, the guest's memory and the journal behind.
//! The daemon hands them, by `--resume`, to the next worker, which goes on: [`crate::resume`].
//! To the daemon they are numbers and descriptors, and nothing else.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use vfu::socket::SCM_MAX_FD;

use crate::protocol::MAX_DOCUMENT;

/// Most descriptors that are kept for one worker: it could have the daemon run out of them.
pub const MAX_PARKED: usize = 8192;

/// The numbers that the daemon has to know: without the first nothing can be continued, the second
/// is what the next worker gets as `--fd`, and the third is there only while a client is.
pub use mdev::keep::{CLIENT, JOURNAL, LISTENER};

/// What one packet says. The descriptors beside it are those of `park`, in that order.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parcel {
    /// Numbers of descriptors to be kept. One that was there goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) park: Vec<u32>,
    /// Numbers of descriptors to be closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) release: Vec<u32>,
}

/// Descriptors, each with the number that its worker knows it by.
pub type Parked = BTreeMap<u32, OwnedFd>;

/// Both ends of a SEQPACKET socket.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

/// Sends one packet.
pub(crate) fn send(
    socket: impl AsFd,
    parcel: &Parcel,
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let document = serde_json::to_vec(parcel)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FD))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = flags | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(&document)], &mut ancillary, flags)?;
    Ok(())
}

/// Sends every descriptor, in as many packets as that takes.
pub(crate) fn send_all<'a>(
    socket: impl AsFd,
    fds: impl IntoIterator<Item = (u32, BorrowedFd<'a>)>,
    flags: SendFlags,
) -> io::Result<()> {
    let fds: Vec<_> = fds.into_iter().collect();
    for chunk in fds.chunks(SCM_MAX_FD) {
        let (park, fds): (Vec<_>, Vec<_>) = chunk.iter().copied().unzip();
        let parcel = Parcel {
            park,
            release: Vec::new(),
        };
        send(&socket, &parcel, &fds, flags)?;
    }
    Ok(())
}

/// What one packet brought.
pub(crate) enum Packet {
    /// A parcel and its descriptors.
    Parcel(Parcel, Vec<OwnedFd>),
    /// There is none now.
    Nothing,
    /// The other end has closed.
    Closed,
}

/// Receives one packet.
pub(crate) fn receive(socket: impl AsFd, flags: RecvFlags) -> io::Result<Packet> {
    let mut document = vec![0; MAX_DOCUMENT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FD))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut room = [IoSliceMut::new(&mut document)];
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let message = match recvmsg(socket, &mut room, &mut ancillary, flags) {
        Ok(message) => message,
        Err(Errno::AGAIN) => return Ok(Packet::Nothing),
        Err(error) => return Err(error.into()),
    };
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let cut_off = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
    if message.flags.intersects(cut_off) {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    if message.bytes == 0 {
        return Ok(Packet::Closed);
    }
    let parcel: Parcel = serde_json::from_slice(&document[..message.bytes])?;
    if parcel.park.len() != fds.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    Ok(Packet::Parcel(parcel, fds))
}

/// The daemon's end: what one worker has parked.
#[derive(Debug)]
pub struct Parking {
    socket: OwnedFd,
    parked: Parked,
}

impl Parking {
    /// A place for a worker that is to be started, and the end that it gets as `--keeper`, or
    /// beside [`crate::protocol::Request::Adopt`].
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = pair()?;
        let parking = Self {
            socket: ours,
            parked: Parked::new(),
        };
        Ok((parking, theirs))
    }

    /// Takes in what has come, without waiting. `false` once the worker's end is closed: then
    /// what it sent before is here. An error says that it does not keep to the rules: what it
    /// parked is of no use.
    pub fn take_in(&mut self) -> io::Result<bool> {
        loop {
            match receive(&self.socket, RecvFlags::DONTWAIT)? {
                Packet::Nothing => return Ok(true),
                Packet::Closed => return Ok(false),
                Packet::Parcel(parcel, fds) => {
                    self.parked.extend(parcel.park.into_iter().zip(fds));
                    for id in parcel.release {
                        self.parked.remove(&id);
                    }
                    if self.parked.len() > MAX_PARKED {
                        return Err(io::Error::from(io::ErrorKind::QuotaExceeded));
                    }
                }
            }
        }
    }

    /// Keeps what another worker has parked, which this one was handed: it knows the numbers, and
    /// does not send them again. To be called before the first [`Self::take_in`].
    pub fn fill(&mut self, parked: Parked) {
        self.parked.extend(parked);
    }

    /// What is parked now.
    pub fn parked(&self) -> &Parked {
        &self.parked
    }

    /// What was parked, the worker being gone.
    pub fn into_parked(self) -> Parked {
        self.parked
    }
}

impl AsFd for Parking {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The worker's end. It never waits for the daemon: where that would be needed, it fails.
#[derive(Debug)]
pub struct Depositor {
    socket: OwnedFd,
}

impl Depositor {
    /// Parks with whoever has the other end of `socket`.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

impl mdev::keep::Park for Depositor {
    fn park(&mut self, fds: &[(u32, BorrowedFd<'_>)]) -> io::Result<()> {
        send_all(&self.socket, fds.iter().copied(), SendFlags::DONTWAIT)
    }

    fn release(&mut self, ids: &[u32]) -> io::Result<()> {
        // So that a packet is never longer than a document.
        for ids in ids.chunks(SCM_MAX_FD) {
            let parcel = Parcel {
                park: Vec::new(),
                release: ids.to_vec(),
            };
            send(&self.socket, &parcel, &[], SendFlags::DONTWAIT)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use mdev::keep::Park;

    use super::*;

    #[test]
    fn what_is_parked_outlives_its_worker() {
        let (mut parking, theirs) = Parking::new().unwrap();
        let mut depositor = Depositor::new(theirs);
        let file = File::open("/dev/null").unwrap();
        let many: Vec<_> = (0..600).map(|id| (id, file.as_fd())).collect();
        depositor.park(&many).unwrap();
        depositor.release(&[0, 1, 599, 1000]).unwrap();
        assert!(parking.take_in().unwrap());
        depositor
            .park(&[(7, file.as_fd()), (1, file.as_fd())])
            .unwrap();
        drop(depositor);
        assert!(!parking.take_in().unwrap());
        let ids: Vec<_> = parking.into_parked().into_keys().collect();
        assert_eq!(ids, (1..599).collect::<Vec<_>>());
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for document in [&b"{"[..], br#"{"park":[1]}"#, br#"{"other":1}"#] {
            let (mut parking, theirs) = Parking::new().unwrap();
            rustix::net::send(&theirs, document, SendFlags::empty()).unwrap();
            assert!(parking.take_in().is_err(), "{document:?}");
        }
    }

    #[test]
    fn a_worker_cannot_have_any_number_kept() {
        let (mut parking, theirs) = Parking::new().unwrap();
        let mut depositor = Depositor::new(theirs);
        let file = File::open("/dev/null").unwrap();
        let over = (0..40).any(|round| {
            let many: Vec<_> = (0..250)
                .map(|id| (round * 250 + id, file.as_fd()))
                .collect();
            depositor.park(&many).unwrap();
            parking.take_in().is_err()
        });
        assert!(over);
    }
}
