//! The accepting thread: hands a client on once it has said its first word.
//!
//! A client that is refused must have asked before: QEMU 11.1 aborts, and its guest with it, on a
//! reply that comes before the request was sent. Whoever connects and says nothing waits beside the
//! others, and holds up nobody.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use mdev::mailbox::{Gone, Mail, MailSender};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};

/// How long a client may take to its first word.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most clients that are waited for at a time: each has a descriptor of ours. One more, and the
/// one that has been silent for longest is dropped.
const MAX_SILENT: usize = 32;

/// A client that has said nothing yet.
struct Silent {
    socket: UnixStream,
    since: Instant,
}

/// The body of the thread: ends with the device's, or once `over` can be read.
pub(crate) fn run(listener: &UnixListener, mail: &MailSender, over: BorrowedFd<'_>) {
    let mut silent = VecDeque::new();
    loop {
        let ready = wait(listener, over, &silent);
        let hand_on = hand_on_spoken(&mut silent, mail);
        match ready {
            _ if hand_on.is_err() => return,
            Some(Woken::Over) => return,
            Some(Woken::Connected) => take_next(listener, &mut silent),
            None => {}
        }
    }
}

/// What ended a sleep, apart from clients that spoke or were silent for too long.
enum Woken {
    Over,
    Connected,
}

/// Sleeps until somebody connects, speaks, or was silent for too long, or it is over.
fn wait(listener: &UnixListener, over: BorrowedFd<'_>, silent: &VecDeque<Silent>) -> Option<Woken> {
    let mut fds = vec![
        PollFd::new(&over, PollFlags::IN),
        PollFd::new(listener, PollFlags::IN),
    ];
    fds.extend(
        silent
            .iter()
            .map(|it| PollFd::new(&it.socket, PollFlags::IN)),
    );
    let left = silent
        .front()
        .map(|oldest| PATIENCE.saturating_sub(oldest.since.elapsed()));
    let limit = left.and_then(|left| Timespec::try_from(left).ok());
    // An interrupted wait is over early, and the next one begins.
    if poll(&mut fds, limit.as_ref()).is_err() {
        return None;
    }
    let is_ready = |number: usize| fds[number].revents().contains(PollFlags::IN);
    match (is_ready(0), is_ready(1)) {
        (true, _) => Some(Woken::Over),
        (false, true) => Some(Woken::Connected),
        (false, false) => None,
    }
}

/// Hands on those who have spoken, and drops those who are gone or were silent for too long.
fn hand_on_spoken(silent: &mut VecDeque<Silent>, mail: &MailSender) -> Result<(), Gone> {
    for client in std::mem::take(silent) {
        match has_spoken(&client.socket) {
            Some(true) => mail.send(Mail::Client(client.socket.into()))?,
            None if client.since.elapsed() < PATIENCE => silent.push_back(client),
            Some(false) | None => {
                tracing::debug!("a client was dropped: it connected and said nothing");
            }
        }
    }
    Ok(())
}

/// Whether a client's first word is here; `None` while it may come. It is only looked at: the
/// session is to read it. Who just tries the path says nothing and goes.
fn has_spoken(client: &UnixStream) -> Option<bool> {
    let look = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match recv(client, &mut [0; 1], look) {
        Ok((_, bytes)) => Some(bytes > 0),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
        Err(_) => Some(false),
    }
}

fn take_next(listener: &UnixListener, silent: &mut VecDeque<Silent>) {
    match listener.accept() {
        Ok((socket, _)) => {
            if silent.len() == MAX_SILENT {
                silent.pop_front();
            }
            silent.push_back(Silent {
                socket,
                since: Instant::now(),
            });
        }
        Err(error) => {
            tracing::warn!("cannot accept a client: {error}");
            // Out of descriptors, say. Trying at once would only burn the CPU.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::{AsFd, OwnedFd};
    use std::thread;

    use mdev::mailbox::Mailbox;
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    /// Longer than anything here takes: a test fails after it rather than hang.
    const DEADLINE: Duration = Duration::from_secs(20);

    fn next_client(mailbox: &Mailbox) -> OwnedFd {
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            if let Some(Mail::Client(client)) = mailbox.next_mail() {
                return client;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("no client came");
    }

    #[test]
    fn silent_clients_hold_up_nobody_however_many_there_are() {
        let dir = std::env::temp_dir().join(format!("accept-{}", std::process::id()));
        let listener = UnixListener::bind(&dir).unwrap();
        let (mailbox, mail) = Mailbox::new().unwrap();
        let over = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let ends = over.try_clone().unwrap();
        let thread = thread::spawn(move || run(&listener, &mail, ends.as_fd()));
        let connect = || UnixStream::connect(&dir).unwrap();
        let mut silent: Vec<_> = (0..2 * MAX_SILENT).map(|_| connect()).collect();
        let begin = Instant::now();
        let mut good = connect();
        good.write_all(b"good").unwrap();
        let client = next_client(&mailbox);
        // Each of them once held up the next for as long as it may be silent.
        assert!(begin.elapsed() < PATIENCE);
        let mut word = [0; 4];
        recv(&client, &mut word, RecvFlags::empty()).unwrap();
        assert_eq!(&word, b"good", "none of it was taken");
        // One that comes to speak late is heard, if its turn to be dropped has not come.
        silent.last_mut().unwrap().write_all(b"late").unwrap();
        let client = next_client(&mailbox);
        recv(&client, &mut word, RecvFlags::empty()).unwrap();
        assert_eq!(&word, b"late");
        rustix::io::write(&over, &1_u64.to_ne_bytes()).unwrap();
        thread.join().unwrap();
        std::fs::remove_file(dir).unwrap();
    }
}
