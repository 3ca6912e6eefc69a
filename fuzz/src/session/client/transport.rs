//! The client's sockets: sends in whatever pieces, and never waits for room without reading.

mod line;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vfu::Errno;
use vfu::wire::Header;

use crate::session::descriptors::Pool;
use line::Line;

/// Longer than any answer takes.
const DEADLINE: Duration = Duration::from_secs(9);

/// A message of the server's.
pub(super) struct Came {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
    /// Whether it came on the twin socket.
    pub(super) is_twin: bool,
}

pub(super) struct Transport {
    main: Line,
    /// The way of the server's own commands, if they have one.
    twin: Option<Line>,
    came: VecDeque<Came>,
    held: Vec<u8>,
    split: Option<usize>,
}

impl Transport {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            main: Line::new(socket),
            twin: None,
            came: VecDeque::new(),
            held: Vec::new(),
            split: None,
        }
    }

    /// Whether there is nobody to talk to.
    pub(super) fn is_closed(&self) -> bool {
        self.main.is_closed
    }

    /// The server's commands come here from now on.
    pub(super) fn take_twin(&mut self, fds: Vec<OwnedFd>) {
        self.twin = fds.into_iter().next().map(Line::new);
    }

    /// Cuts the next message in two.
    pub(super) fn split_next(&mut self, at: usize) {
        self.split = Some(at);
    }

    /// Sends bytes together with the next ones.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend(bytes);
    }

    /// Sends what is held.
    pub(super) fn flush(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.transmit(&held, &[], &mut Pool::default());
    }

    /// Sends bytes. Descriptors go with their first one.
    pub(super) fn send(&mut self, bytes: &[u8], fds: &[u8], pool: &mut Pool) {
        let split = self.split.take();
        if !fds.is_empty() || split.is_some() {
            self.flush();
        }
        let mut bytes = [&std::mem::take(&mut self.held)[..], bytes].concat();
        let rest = bytes.split_off(split.unwrap_or(bytes.len()).min(bytes.len()));
        self.transmit(&bytes, fds, pool);
        // Nothing goes with no byte at all.
        self.transmit(&rest, if bytes.is_empty() { fds } else { &[] }, pool);
    }

    /// Answers what the server asked, the way that it was asked. On the twin socket no answer is
    /// better than to wait for room.
    pub(super) fn answer(&mut self, question: &Came, bytes: &[u8], pool: &mut Pool) {
        match &self.twin {
            Some(_) if question.is_twin => self.send_twin(bytes),
            _ => self.send(bytes, &[], pool),
        }
    }

    /// Sends bytes on the twin socket, if there is one and there is room.
    pub(super) fn send_twin(&mut self, bytes: &[u8]) {
        if let Some(twin) = &self.twin {
            let _ = twin.send_once(bytes, &[]);
        }
    }

    fn transmit(&mut self, mut bytes: &[u8], mut fds: &[u8], pool: &mut Pool) {
        while !bytes.is_empty() && !self.main.is_closed {
            match self.main.send_once(bytes, &pool.all(fds)) {
                Ok(sent) => {
                    bytes = &bytes[sent..];
                    fds = &[];
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.wait(PollFlags::IN | PollFlags::OUT, DEADLINE);
                    self.receive_now();
                }
                Err(Errno::PIPE | Errno::CONNRESET) => self.main.is_closed = true,
                Err(error) => panic!("a message cannot be sent: {error}"),
            }
        }
    }

    /// Waits for something to come.
    pub(super) fn receive(&mut self) {
        assert!(
            self.receive_within(DEADLINE),
            "neither an answer nor the end"
        );
    }

    /// The same, for some time.
    pub(super) fn receive_within(&mut self, time: Duration) -> bool {
        let has_come = !self.is_closed() && self.wait(PollFlags::IN, time);
        self.receive_now();
        has_come
    }

    /// Takes what has come.
    pub(super) fn receive_now(&mut self) {
        self.main.receive(false, &mut self.came);
        if let Some(twin) = &mut self.twin {
            twin.receive(true, &mut self.came);
            if twin.is_closed {
                self.twin = None;
            }
        }
    }

    /// The next message.
    pub(super) fn next_message(&mut self) -> Option<Came> {
        self.came.pop_front()
    }

    /// Sends no more.
    pub(super) fn hang_up(&mut self) {
        self.flush();
        self.main.hang_up();
    }

    fn wait(&self, flags: PollFlags, time: Duration) -> bool {
        let time = Timespec::try_from(time).expect("a time");
        let mut fds = vec![PollFd::new(&self.main, flags)];
        fds.extend(
            self.twin
                .iter()
                .map(|twin| PollFd::new(twin, PollFlags::IN)),
        );
        loop {
            match poll(&mut fds, Some(&time)) {
                Ok(ready) => return ready > 0,
                Err(Errno::INTR) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}
