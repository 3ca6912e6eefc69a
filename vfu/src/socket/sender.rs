//! The writing end: whole messages, one after the other.

use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kept::Outbox;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, Shutdown, shutdown};

use super::SCM_MAX_FD;
use crate::Errno;

/// How long a peer may take to make room for one message before the connection is given up. A
/// client waits 5 s for a reply, so nobody is still waiting for one that leaves later than this.
const SEND_TIMEOUT: Duration = Duration::from_secs(4);

/// The writing end of a connection. Clones share it.
#[derive(Clone, Debug)]
pub struct Sender {
    socket: Arc<OwnedFd>,
    /// Held while one message is written, so that messages do not mix.
    outbox: Arc<Mutex<Outbox>>,
    timeout: Duration,
}

impl Sender {
    /// Writes to `socket`.
    pub fn new(socket: Arc<OwnedFd>) -> Self {
        Self::resume(socket, Outbox::private())
    }

    /// Writes to `socket`, and notes in `outbox` how much of each message has left.
    pub fn resume(socket: Arc<OwnedFd>, outbox: Outbox) -> Self {
        Self {
            socket,
            outbox: Arc::new(Mutex::new(outbox)),
            timeout: SEND_TIMEOUT,
        }
    }

    #[cfg(test)]
    fn with_timeout(socket: Arc<OwnedFd>, timeout: Duration) -> Self {
        Self {
            timeout,
            ..Self::new(socket)
        }
    }

    /// Sends one whole message and its file descriptors.
    ///
    /// Header, payload and descriptors leave in one system call: QEMU gives up on a header that
    /// comes in two parts, and looks for descriptors only where it reads the header. After an
    /// error part of the message may have left, so the socket is shut down, for every clone and
    /// for the reading end as well.
    pub fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_as(None, message, fds)
    }

    /// Sends the answer to the message that lies at `answered` in the stream of what came: once it
    /// has left, that is dealt with.
    pub fn answer(
        &self,
        answered: &Range<u64>,
        message: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        self.send_as(Some(answered), message, fds)
    }

    fn send_as(
        &self,
        answered: Option<&Range<u64>>,
        message: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        if fds.len() > SCM_MAX_FD {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        outbox.begin(answered.map(|range| range.start), message.len());
        self.send_all(&mut outbox, message, fds).inspect_err(|_| {
            // It fails if the connection is gone, and then there is nothing to shut down.
            let _ = shutdown(&*self.socket, Shutdown::Both);
        })?;
        if let Some(answered) = answered {
            outbox.end(answered);
        }
        Ok(())
    }

    /// Does not wait in `sendmmsg`, which waits anew for each piece of a large message: a peer
    /// that reads a little now and then would hold it up for minutes.
    fn send_all(
        &self,
        outbox: &mut Outbox,
        mut message: &[u8],
        mut fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        // Most messages go at once, and need no clock.
        let mut deadline = None;
        while !message.is_empty() {
            match outbox.send(&*self.socket, message, fds, flags) {
                Ok(sent) => {
                    message = message.get(sent..).unwrap_or_default();
                    fds = &[];
                }
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    Some(Errno::AGAIN) => {
                        let deadline =
                            deadline.get_or_insert_with(|| Instant::now() + self.timeout);
                        self.wait_for_room(*deadline)?;
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    fn wait_for_room(&self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&*self.socket, PollFlags::OUT)];
        match poll(&mut fds, Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use rustix::net::RecvFlags;

    use super::*;
    use crate::socket::{Received, Receiver};
    use crate::wire::{Command, Header};

    const SHORT: Duration = Duration::from_millis(100);

    fn pair(timeout: Duration) -> (Sender, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sender = Sender::with_timeout(Arc::new(ours.into()), timeout);
        (sender, theirs)
    }

    fn message(id: u16, len: usize) -> Vec<u8> {
        let mut message = Header::command(id, Command::RegionWrite, len)
            .to_bytes()
            .to_vec();
        message.resize(Header::LEN + len, id.to_ne_bytes()[0]);
        message
    }

    #[test]
    fn a_peer_that_never_reads_makes_send_fail_for_every_clone() {
        for len in [1 << 20, 20] {
            let (sender, _peer) = pair(SHORT);
            let clone = sender.clone();
            let mut receiver = Receiver::new(Arc::clone(&sender.socket), 100);
            let begin = Instant::now();
            let error = loop {
                if let Err(error) = sender.send(&message(0, len), &[]) {
                    break error;
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{len}");
            assert!(begin.elapsed() >= SHORT, "{len}");
            // Part of a message may have left: nothing may follow it.
            let error = clone.send(&message(1, 0), &[]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{len}");
            let received = receiver.receive(RecvFlags::DONTWAIT).unwrap();
            assert_eq!(received, Received::Closed, "{len}");
        }
    }

    #[test]
    fn a_peer_that_reads_a_little_now_and_then_does_not_hold_send_up() {
        let (sender, mut peer) = pair(SHORT);
        let reader = thread::spawn(move || {
            let mut room = vec![0; 64 << 10];
            while peer.read(&mut room).is_ok_and(|len| len > 0) {
                thread::sleep(SHORT / 2);
            }
        });
        let begin = Instant::now();
        let error = sender.send(&message(0, 8 << 20), &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() < 10 * SHORT, "{:?}", begin.elapsed());
        drop(sender);
        reader.join().unwrap();
    }

    #[test]
    fn messages_of_two_threads_do_not_mix() {
        let (sender, peer) = pair(Duration::from_secs(5));
        let sizes = [0, 1000, 70_000, 300_000];
        let threads = [0, 1, 2, 3].map(|id| {
            let sender = sender.clone();
            thread::spawn(move || {
                for turn in 0..40 {
                    let len = sizes[(turn + usize::from(id)) % sizes.len()];
                    sender.send(&message(id, len), &[]).unwrap();
                }
            })
        });
        let mut receiver = Receiver::new(Arc::new(peer.into()), 1 << 20);
        let mut seen = 0;
        while seen < 160 {
            receiver.receive(RecvFlags::empty()).unwrap();
            while let Some(frame) = receiver.next_frame().unwrap() {
                let expected = frame.header.id.to_ne_bytes()[0];
                assert!(frame.payload.iter().all(|byte| *byte == expected));
                seen += 1;
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
    }

    /// QEMU reads the header by itself, and looks for descriptors nowhere else.
    #[test]
    fn descriptors_come_with_the_header_of_a_large_message() {
        let (sender, peer) = pair(Duration::from_secs(5));
        let file = peer.try_clone().unwrap();
        let writer = thread::spawn(move || {
            let fds = [file.as_fd(), file.as_fd()];
            sender.send(&message(0, 1 << 20), &fds).unwrap();
            sender.send(&message(1, 0), &[]).unwrap();
        });
        let mut receiver = Receiver::new(Arc::new(peer.into()), 2 << 20);
        let mut seen = Vec::new();
        while seen.len() < 2 {
            receiver.receive(RecvFlags::empty()).unwrap();
            while let Some(frame) = receiver.next_frame().unwrap() {
                seen.push((frame.payload.len(), frame.fds.len()));
            }
        }
        assert_eq!(
            seen,
            [(1 << 20, 2), (0, 0)],
            "the rest does not bring them again"
        );
        writer.join().unwrap();
    }

    #[test]
    fn more_descriptors_than_the_kernel_passes_are_refused_and_no_harm_done() {
        let (sender, peer) = pair(SHORT);
        let fds = vec![peer.as_fd(); SCM_MAX_FD + 1];
        let error = sender.send(&message(0, 0), &fds).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        sender.send(&message(0, 0), &fds[1..]).unwrap();
    }

    #[test]
    fn a_peer_that_is_gone_makes_send_fail_at_once() {
        let (sender, peer) = pair(Duration::from_secs(5));
        drop(peer);
        let error = sender.send(&message(0, 1 << 20), &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
