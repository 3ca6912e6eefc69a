//! A client at full rate, which knows what each answer has to be.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use vfu::client::Client;
use vfu::socket::{Received, Receiver, Sender};
use vfu::wire::access::RegionAccess;
use vfu::wire::version::Capabilities;
use vfu::wire::{Command, Header};

use crate::host::DEADLINE;

/// Requests that are sent before the first of them is answered.
const AHEAD: usize = 6;

/// The register that gives back the complement of what was written to it.
const LIVENESS: u64 = 4;

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was told to stop, and every request had its answer.
    Told,
    /// The connection was closed.
    Closed,
}

/// A client in a thread of its own.
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: JoinHandle<End>,
}

impl Stream {
    pub(crate) fn start(socket: UnixStream) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let client = Requests::new(socket, Arc::clone(&answered));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || client.run(&told));
        Self {
            stop,
            answered,
            thread,
        }
    }

    /// How many answers came, all of them right.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many came, or the connection has ended.
    pub(crate) fn wait_for(&self, answers: u64) {
        let deadline = Instant::now() + DEADLINE;
        while self.answered() < answers && !self.is_over() {
            assert!(Instant::now() < deadline, "{} answers", self.answered());
            thread::sleep(Duration::from_micros(200));
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Panics if any answer was wrong.
    pub(crate) fn end(self) -> End {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// What is asked, and what has to be answered.
struct Requests {
    sender: Sender,
    receiver: Receiver,
    answered: Arc<AtomicU64>,
    next_id: u16,
    value: u32,
    /// The id of each request that has no answer yet, and the answer's payload.
    expected: VecDeque<(u16, Vec<u8>)>,
}

impl Requests {
    fn new(socket: UnixStream, answered: Arc<AtomicU64>) -> Self {
        let copy = OwnedFd::from(socket.try_clone().unwrap());
        let offer = Capabilities {
            max_msg_fds: Some(16),
            ..Capabilities::default()
        };
        let client = Client::negotiate(copy, offer).unwrap();
        // Its buffer is empty: the answer to VERSION was all there is.
        drop(client);
        let socket = Arc::new(OwnedFd::from(socket));
        Self {
            sender: Sender::new(Arc::clone(&socket)),
            receiver: Receiver::new(socket, 1 << 20),
            answered,
            next_id: 1,
            value: 0x1234_5678,
            expected: VecDeque::new(),
        }
    }

    fn run(mut self, stop: &AtomicBool) -> End {
        loop {
            let is_told = stop.load(Ordering::Relaxed);
            while !is_told && self.expected.len() < AHEAD {
                if !self.ask() {
                    return End::Closed;
                }
            }
            if self.expected.is_empty() {
                return End::Told;
            }
            if !self.listen() {
                return End::Closed;
            }
        }
    }

    /// A write and a read of what it makes; every other write wants no answer.
    fn ask(&mut self) -> bool {
        self.value = self
            .value
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        let access = RegionAccess {
            offset: LIVENESS,
            region: 0,
            count: 4,
        };
        let mut head = Vec::new();
        access.emit(&mut head);
        let write = [&head[..], &self.value.to_le_bytes()].concat();
        let read = [&head[..], &(!self.value).to_le_bytes()].concat();
        let is_posted = self.value & 0x100 != 0;
        let written = self.send(Command::RegionWrite, &write, is_posted);
        if !is_posted {
            self.expected
                .push_back((self.next_id.wrapping_sub(1), head.clone()));
        }
        let asked = self.send(Command::RegionRead, &head, false);
        self.expected
            .push_back((self.next_id.wrapping_sub(1), read));
        written && asked
    }

    fn send(&mut self, command: Command, payload: &[u8], is_posted: bool) -> bool {
        let mut header = Header::command(self.next_id, command, payload.len());
        if is_posted {
            header = header.without_reply();
        }
        self.next_id = self.next_id.wrapping_add(1);
        let message = [&header.to_bytes()[..], payload].concat();
        self.sender.send(&message, &[]).is_ok()
    }

    /// Takes the answers that are there, at least one. `false` at the end of the connection.
    fn listen(&mut self) -> bool {
        match self.receiver.receive(RecvFlags::empty()) {
            Ok(Received::Some) => {}
            Ok(Received::Closed) | Err(_) => return false,
            Ok(Received::Nothing) => panic!("no answer to {:?}", self.expected),
        }
        while let Some(frame) = self.receiver.next_frame().unwrap() {
            let (id, payload) = self.expected.pop_front().expect("an answer too many");
            assert_eq!(frame.header.id, id, "{:?}", frame.header);
            assert_eq!(frame.header.error(), None);
            assert_eq!(frame.payload, payload, "the answer to {id}");
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        true
    }
}
