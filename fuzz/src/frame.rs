//! The frame decoder: bytes in any pieces, with descriptors on any of them, against the obvious
//! way to cut them into messages. What is whole is then parsed as everything that it could be.

mod model;
mod round_trip;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{RecvFlags, Shutdown, shutdown};
use vfu::socket::{BrokenStream, Frame, Received, Receiver, Sender};

use crate::descriptors::OpenDescriptors;
use crate::input::Input;
use model::{Broken, Cut, Model};

/// Longest stream: what the decoder reads at once would make more of it only slower.
const MAX_STREAM: usize = 32 << 10;

/// The largest messages that are taken: before VERSION, after it, and small enough to be met.
const MAX_FRAMES: [usize; 4] = [4128, (1 << 20) + 32, 64, 16];

/// How the stream is cut: length and number of descriptors for each piece, over and over.
struct Pieces<'a>(&'a [u8]);

impl Pieces<'_> {
    fn of(&self, piece: usize) -> (usize, usize) {
        let byte = self.0[piece % self.0.len()];
        let len = usize::from(byte & 0x1f) + 1;
        let len = if byte & 0x20 == 0 { len } else { len * 32 };
        (len, usize::from(byte >> 6))
    }
}

/// Decodes a stream.
///
/// # Panics
///
/// If the decoder does not find the messages, descriptors and errors that are there, or if a
/// message that is understood does not mean the same after it was emitted and parsed again.
pub fn frame(data: &[u8]) {
    let mut input = Input::new(data);
    let control = input.u8();
    let max_frame = MAX_FRAMES[usize::from(control >> 6)];
    let pieces = Pieces(match input.bytes(usize::from(control & 0x1f) + 1) {
        [] => return,
        pieces => pieces,
    });
    let stream = input.rest();
    let stream = &stream[..stream.len().min(MAX_STREAM)];
    let descriptors = OpenDescriptors::count();
    Decoding::new(max_frame).feed(stream, &pieces);
    descriptors.check();
}

struct Decoding {
    sender: Sender,
    peer: Arc<OwnedFd>,
    receiver: Receiver,
    model: Model,
    descriptor: OwnedFd,
}

impl Decoding {
    fn new(max_frame: usize) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let peer = Arc::new(OwnedFd::from(ours));
        Self {
            sender: Sender::new(Arc::clone(&peer)),
            peer,
            receiver: Receiver::new(Arc::new(theirs.into()), max_frame),
            model: Model::new(max_frame),
            descriptor: eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd"),
        }
    }

    /// Sends piece after piece, and decodes what has come in between.
    fn feed(mut self, mut stream: &[u8], pieces: &Pieces<'_>) {
        for number in 0.. {
            if stream.is_empty() {
                break;
            }
            let (len, fds) = pieces.of(number);
            let (piece, rest) = stream.split_at(len.min(stream.len()));
            stream = rest;
            let lent = vec![self.descriptor.as_fd(); fds];
            self.sender.send(piece, &lent).expect("there is room");
            self.model.sent(piece, fds);
            if self.decode().is_err() {
                return;
            }
        }
        self.hang_up();
    }

    /// Decodes until there is no more. An error if the stream is broken, as it had to be.
    fn decode(&mut self) -> Result<(), ()> {
        loop {
            match self.receiver.next_frame() {
                Ok(Some(frame)) => match self.model.cut() {
                    Ok(Some(expected)) => check_frame(&expected, frame),
                    other => panic!("{frame:?}, not {other:?}"),
                },
                Ok(None) => match self.receiver.receive(RecvFlags::DONTWAIT) {
                    Ok(Received::Some) => {}
                    Ok(Received::Nothing) => return self.check_nothing(),
                    Ok(Received::Closed) => panic!("it is not closed"),
                    Err(error) => return check_error(self.model.broken(), &error),
                },
                Err(error) => return check_error(self.model.broken(), &error),
            }
        }
    }

    fn check_nothing(&mut self) -> Result<(), ()> {
        match self.model.cut() {
            Ok(None) => Ok(()),
            missed => panic!("missed: {missed:?}"),
        }
    }

    fn hang_up(&mut self) {
        shutdown(&*self.peer, Shutdown::Write).expect("it is connected");
        let is_mid_message = self.model.is_mid_message();
        assert_eq!(self.receiver.is_mid_message(), is_mid_message);
        match self.receiver.receive(RecvFlags::DONTWAIT) {
            Ok(Received::Closed) => assert!(!is_mid_message, "half a message is no end"),
            Err(BrokenStream::Truncated) => assert!(is_mid_message, "nothing is missing"),
            other => panic!("{other:?} at the end"),
        }
    }
}

fn check_frame(expected: &Cut, frame: Frame<'_>) {
    assert_eq!(frame.header, expected.header);
    assert_eq!(frame.payload, expected.payload);
    assert_eq!(frame.fds.len(), expected.fds, "descriptors");
    round_trip::check(&frame.header, frame.payload, frame.fds);
}

fn check_error(expected: Option<Broken>, error: &BrokenStream) -> Result<(), ()> {
    match (expected, error) {
        (Some(Broken::Size(expected)), BrokenStream::FrameSize { header, size, .. }) => {
            assert_eq!((*header, *size), (expected, expected.size));
        }
        (Some(Broken::TooManyFds), BrokenStream::TooManyFds) => {}
        (expected, error) => panic!("{error:?}, not {expected:?}"),
    }
    Err(())
}
