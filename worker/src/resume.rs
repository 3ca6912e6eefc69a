//! How a worker takes over from one that has ended or waits: over a SOCK_SEQPACKET pair that it
//! gets as `--resume`.
//!
//! ```text
//! daemon                                   new worker
//!   every descriptor, in packets ────────▶  builds the device, and is confined
//!   a packet without any         ────────▶  maps memory, takes the session's state
//!                                ◀────────  {"ready": {…}}, or {"refused": {"words": "…"}}
//!   {"go": …}                    ────────▶  serves the client, where the other stopped
//! ```
//!
//! Between `ready` and `go` the old worker, if it still waits, is told to leave. A new one whose
//! socket closes before `go` ends, and leaves the client as it is.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};

use crate::parking::{Packet, Parcel, Parked, pair, receive, send, send_all};
use crate::seqpacket;

/// What a worker ends with that cannot go on from what it was handed.
pub const RESUME_REFUSED: u8 = 3;

/// How long a new worker may leave the daemon with descriptors for which there is no room.
const SEND_PATIENCE: Duration = Duration::from_secs(3);

/// How long the daemon may leave a new worker without the next descriptors.
const TAKE_PATIENCE: Duration = Duration::from_secs(10);

/// What the new worker answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It can go on.
    Ready(Outlook),
    /// It cannot.
    Refused {
        /// Why, in words.
        words: String,
    },
}

/// How the new worker will go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// Whether a client is connected.
    pub connected: bool,
    /// Whether the device has the state that it had. If not it was reset, and a driver in the
    /// guest has to be bound anew.
    pub exact: bool,
    /// A request that was given up, since it ended two workers: its place in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// The word to go on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Go,
}

/// The daemon's end.
#[derive(Debug)]
pub struct Handing {
    socket: OwnedFd,
}

impl Handing {
    /// Both ends; the second is for the new worker's `--resume`.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (socket, theirs) = pair()?;
        set_socket_timeout(&socket, Timeout::Send, Some(SEND_PATIENCE))?;
        Ok((Self { socket }, theirs))
    }

    /// Hands everything over. Waits for the worker to take it in, where the socket's room ends, but
    /// not for ever.
    pub fn hand_over(&self, parked: &Parked) -> io::Result<()> {
        let fds = parked.iter().map(|(id, fd)| (*id, fd.as_fd()));
        send_all(&self.socket, fds, SendFlags::empty())?;
        send(&self.socket, &Parcel::default(), &[], SendFlags::empty())
    }

    /// Waits for the answer.
    pub fn answer(&self, patience: Duration) -> io::Result<Answer> {
        wait(&self.socket, patience)?;
        match seqpacket::receive(&self.socket)? {
            Some((document, _)) => Ok(serde_json::from_slice(&document)?),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Lets the new worker go on.
    pub fn go(self) -> io::Result<()> {
        seqpacket::send(&self.socket, &serde_json::to_vec(&Word::Go)?, None)
    }
}

/// Waits until there is something to read.
fn wait(socket: &OwnedFd, patience: Duration) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The new worker's end.
#[derive(Debug)]
pub struct Taking {
    socket: OwnedFd,
}

impl Taking {
    /// Takes over from whoever has the other end of `socket`.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Everything that is handed over.
    pub fn take(&self) -> io::Result<Parked> {
        let mut parked = Parked::new();
        loop {
            wait(&self.socket, TAKE_PATIENCE)?;
            match receive(&self.socket, RecvFlags::empty())? {
                Packet::Parcel(parcel, fds) if !parcel.park.is_empty() => {
                    parked.extend(parcel.park.into_iter().zip(fds));
                }
                Packet::Parcel(..) => return Ok(parked),
                Packet::Nothing | Packet::Closed => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }

    /// Answers, without waiting for a word.
    pub fn tell(&self, answer: &Answer) -> io::Result<()> {
        seqpacket::send(&self.socket, &serde_json::to_vec(answer)?, None)
    }

    /// Answers, and waits for the word. `false` if it will not come.
    pub fn answer(&self, answer: &Answer) -> io::Result<bool> {
        self.tell(answer)?;
        let word = seqpacket::receive(&self.socket)?;
        Ok(word.is_some_and(|(word, _)| serde_json::from_slice::<Word>(&word).is_ok()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::thread;

    use super::*;

    fn parked(count: u32) -> Parked {
        let file = File::open("/dev/null").unwrap();
        (0..count)
            .map(|id| (id, file.as_fd().try_clone_to_owned().unwrap()))
            .collect()
    }

    #[test]
    fn a_worker_gets_what_is_parked_and_goes_when_it_is_told() {
        let (handing, theirs) = Handing::new().unwrap();
        let taking = thread::spawn(move || {
            let taking = Taking::new(theirs);
            let parked = taking.take().unwrap();
            let outlook = Outlook {
                connected: true,
                ..Outlook::default()
            };
            (
                parked.len(),
                taking.answer(&Answer::Ready(outlook)).unwrap(),
            )
        });
        handing.hand_over(&parked(600)).unwrap();
        let answer = handing.answer(Duration::from_secs(10)).unwrap();
        assert!(matches!(answer, Answer::Ready(outlook) if outlook.connected));
        handing.go().unwrap();
        assert_eq!(taking.join().unwrap(), (600, true));
    }

    #[test]
    fn a_worker_that_is_not_told_to_go_does_not() {
        let (handing, theirs) = Handing::new().unwrap();
        let taking = thread::spawn(move || {
            let taking = Taking::new(theirs);
            taking.take().unwrap();
            let words = "another version".to_owned();
            taking.answer(&Answer::Refused { words }).unwrap()
        });
        handing.hand_over(&parked(0)).unwrap();
        let answer = handing.answer(Duration::from_secs(10)).unwrap();
        assert!(matches!(answer, Answer::Refused { .. }));
        drop(handing);
        assert!(!taking.join().unwrap());
    }
}
