//! Descriptors on their way to a worker that has a physical device: those of the device, and those of
//! each seat. Each set goes over a SOCK_SEQPACKET pair, in one packet, as they are parked
//! ([`crate::parking`]).
//!
//! ```text
//! daemon                                 worker
//!   container, group, device   ───────▶   takes them at its start: --parent-files
//!   `serve`, and the end of a pair ───▶   one seat more
//!   listener, control socket … ───────▶   takes them from that end
//!                              ◀───────   done
//!                              ◀───────   closed: the seat has ended
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use mdev::host::HostFiles;
use rustix::net::{RecvFlags, SendFlags};

use crate::parking::{Packet, Parcel, Parked, pair, receive, send, send_all};

/// The number of a parent's address space in its packet.
pub const CONTAINER: u32 = 1;
/// Of its group.
pub const GROUP: u32 = 2;
/// Of the device itself.
pub const DEVICE: u32 = 3;

/// The number, in a seat's packet, of the socket on which clients connect: bound, and listening.
pub const LISTENER: u32 = 1;
/// Of the seat's control socket: SOCK_SEQPACKET, bound, and listening.
pub const CONTROL: u32 = 2;
/// Of the socket to whoever keeps the seat's descriptors: what a worker gets as `--keeper`.
pub const KEEPER: u32 = 3;
/// Of the socket over which comes what another worker has left: what a worker gets as `--resume`.
pub const RESUME: u32 = 4;

/// The descriptors of a seat.
#[derive(Debug)]
pub struct SeatFiles {
    /// Where clients connect.
    pub listener: OwnedFd,
    /// Where control requests come.
    pub control: OwnedFd,
    /// Where the seat's descriptors are kept.
    pub keeper: Option<OwnedFd>,
    /// Where to go on from.
    pub resume: Option<OwnedFd>,
}

impl SeatFiles {
    /// Both ends of a pair, with the descriptors on their way: ours, which can be read once the seat
    /// has ended, and the one that goes with [`crate::protocol::Request::Serve`].
    pub fn offer(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        let all = [
            (LISTENER, Some(&self.listener)),
            (CONTROL, Some(&self.control)),
            (KEEPER, self.keeper.as_ref()),
            (RESUME, self.resume.as_ref()),
        ];
        let all = all.into_iter();
        offer(all.filter_map(|(number, fd)| Some((number, fd?))))
    }

    /// The worker's side: takes them from its end of the pair.
    pub fn accept(socket: &OwnedFd) -> io::Result<Self> {
        let mut found = accept(socket)?;
        let files = Self {
            listener: found.remove(&LISTENER).ok_or_else(invalid)?,
            control: found.remove(&CONTROL).ok_or_else(invalid)?,
            keeper: found.remove(&KEEPER),
            resume: found.remove(&RESUME),
        };
        let is_whole = files.resume.is_none() || files.keeper.is_some();
        if is_whole && found.is_empty() {
            Ok(files)
        } else {
            Err(invalid())
        }
    }
}

/// What a worker gets as `--parent-files`: a socket with duplicates of a device's files on their way.
pub fn offer_parent(files: &HostFiles) -> io::Result<OwnedFd> {
    let (_, theirs) = offer([
        (CONTAINER, &files.container),
        (GROUP, &files.group),
        (DEVICE, &files.device),
    ])?;
    Ok(theirs)
}

/// Sends duplicates of a device's files, as they are parked: to a daemon that was started after the
/// worker, and comes with [`crate::protocol::Request::Adopt`].
pub fn park_parent(socket: &OwnedFd, files: &HostFiles) -> io::Result<()> {
    let numbered = [
        (CONTAINER, files.container.as_fd()),
        (GROUP, files.group.as_fd()),
        (DEVICE, files.device.as_fd()),
    ];
    send_all(socket, numbered, SendFlags::DONTWAIT)
}

/// The worker's side of [`offer_parent`].
pub fn accept_parent(socket: &OwnedFd) -> io::Result<HostFiles> {
    let mut found = accept(socket)?;
    let files = HostFiles {
        container: found.remove(&CONTAINER).ok_or_else(invalid)?,
        group: found.remove(&GROUP).ok_or_else(invalid)?,
        device: found.remove(&DEVICE).ok_or_else(invalid)?,
    };
    found.is_empty().then_some(files).ok_or_else(invalid)
}

fn offer<'a>(
    files: impl IntoIterator<Item = (u32, &'a OwnedFd)>,
) -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pair()?;
    let files = files.into_iter().map(|(number, fd)| (number, fd.as_fd()));
    let (park, fds): (Vec<_>, Vec<_>) = files.unzip();
    let parcel = Parcel {
        park,
        release: Vec::new(),
    };
    send(&ours, &parcel, &fds, SendFlags::DONTWAIT)?;
    Ok((ours, theirs))
}

/// It came before: there is nothing to wait for.
fn accept(socket: &OwnedFd) -> io::Result<Parked> {
    match receive(socket, RecvFlags::DONTWAIT)? {
        Packet::Parcel(parcel, fds) => Ok(parcel.park.into_iter().zip(fds).collect()),
        Packet::Nothing | Packet::Closed => Err(invalid()),
    }
}

fn invalid() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::parking::Parking;

    fn file() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    fn has_closed(socket: &OwnedFd) -> bool {
        let mut fds = [PollFd::new(socket, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())) == Ok(1)
    }

    #[test]
    fn a_seat_gets_its_descriptors_and_its_end_is_seen() {
        for (keeper, resume) in [
            (None, None),
            (Some(file()), None),
            (Some(file()), Some(file())),
        ] {
            let expected = (keeper.is_some(), resume.is_some());
            let files = SeatFiles {
                listener: file(),
                control: file(),
                keeper,
                resume,
            };
            let (ours, theirs) = files.offer().unwrap();
            let taken = SeatFiles::accept(&theirs).unwrap();
            assert_eq!((taken.keeper.is_some(), taken.resume.is_some()), expected);
            assert!(!has_closed(&ours));
            drop(theirs);
            assert!(has_closed(&ours));
        }
    }

    #[test]
    fn descriptors_that_do_not_make_a_seat_are_refused() {
        let file = file();
        for numbers in [
            &[][..],
            &[LISTENER],
            &[CONTROL, KEEPER],
            &[LISTENER, CONTROL, RESUME],
            &[LISTENER, CONTROL, 5],
        ] {
            let (_ours, theirs) = offer(numbers.iter().map(|&number| (number, &file))).unwrap();
            assert!(SeatFiles::accept(&theirs).is_err(), "{numbers:?}");
        }
        let (_ours, theirs) = pair().unwrap();
        assert!(SeatFiles::accept(&theirs).is_err(), "nothing came");
    }

    #[test]
    fn a_parent_goes_over_as_three_files_and_no_others() {
        let files = HostFiles {
            container: file(),
            group: file(),
            device: file(),
        };
        accept_parent(&offer_parent(&files).unwrap()).unwrap();
        let (mut parking, theirs) = Parking::new().unwrap();
        park_parent(&theirs, &files).unwrap();
        parking.take_in().unwrap();
        let numbers: Vec<_> = parking.parked().keys().copied().collect();
        assert_eq!(numbers, [CONTAINER, GROUP, DEVICE]);
        let file = file();
        for numbers in [&[1, 2][..], &[1, 2, 3, 4], &[]] {
            let (_ours, theirs) = offer(numbers.iter().map(|&number| (number, &file))).unwrap();
            assert!(accept_parent(&theirs).is_err(), "{numbers:?}");
        }
    }
}
