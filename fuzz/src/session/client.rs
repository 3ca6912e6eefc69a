//! The client: takes the script's steps, and checks what comes back.
//!
//! As long as it sends whole messages after a VERSION that was taken, each of its commands has one
//! answer, in order, and the connection lives. Once it has sent anything else, anything may come,
//! but no harm.

mod gained;
mod operator;
mod transport;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mdev::mailbox::MailSender;
use vfu::wire::header::MessageType;
use vfu::wire::{Command, Header};

use super::descriptors::Pool;
use super::expected::Owed;
use super::memory::Answers;
use super::script::layout::write_piece;
use super::script::{MAX_STEPS, Message, Opening, Step};
use crate::device::DeviceKind;
use crate::input::Input;
use crate::state::edit;
use gained::Gained;
use operator::Operator;
use transport::{Came, Transport};

/// What clients say first: QEMU 11.1, one that takes no requests for memory, one that says
/// nothing of itself, and some that are hard to please.
const VERSIONS: [&str; 7] = [
    r#"{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, "max_data_xfer_size": 1048576, "migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "write_multiple": true}}"#,
    r#"{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576}}"#,
    "",
    r#"{"capabilities":{"max_data_xfer_size":1,"max_dma_maps":1}}"#,
    r#"{"capabilities":{"max_dma_maps":65535,"max_data_xfer_size":0,"write_multiple":false}}"#,
    r#"{"capabilities":{"max_msg_fds":0,"max_dma_maps":0,"twin_socket":{"supported":true}}}"#,
    r#"{"capabilities":{"max_dma_maps":18446744073709551615,"max_data_xfer_size":18446744073709551615}}"#,
];

/// How long `Settle` waits for the next request.
const A_MOMENT: Duration = Duration::from_millis(1);
/// How often it waits.
const MAX_SETTLES: usize = 8;
/// Most answers that take long to make: an input must not take seconds.
const MAX_LARGE: usize = 2;
/// A state that is written at once, and most pieces of one that is not.
const WHOLE: usize = 1 << 20;
const MAX_PIECES: usize = 64;

/// What a client has done that ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manners {
    Good,
    /// It truncated its memory, or the operator stopped the device. Otherwise it was good.
    MayEnd,
    /// It sent what is no message, or left without a word.
    Bad,
}

/// What there is to know of a client afterwards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behaviour {
    pub(super) manners: Manners,
    /// Whether it wrote a state, which may be that of a device with another monitor.
    pub(super) has_written_state: bool,
}

pub(super) struct Client {
    transport: Transport,
    opening: Opening,
    answers: Answers,
    kind: DeviceKind,
    operator: Operator,
    pool: Pool,
    gained: Gained,
    manners: Manners,
    /// Commands that have no answer yet, in order.
    owed: VecDeque<Owed>,
    next_id: u16,
    settles: usize,
    has_written_state: bool,
    large_answers: usize,
}

impl Client {
    pub(super) fn new(
        socket: OwnedFd,
        opening: Opening,
        kind: DeviceKind,
        mail: MailSender,
    ) -> Self {
        Self {
            transport: Transport::new(socket),
            answers: Answers::new(opening.answers),
            opening,
            kind,
            operator: Operator::new(mail),
            pool: Pool::default(),
            gained: Gained::default(),
            manners: Manners::Good,
            owed: VecDeque::new(),
            next_id: 0,
            settles: 0,
            has_written_state: false,
            large_answers: 0,
        }
    }

    /// Lives its life, and tells how it behaved.
    pub(super) fn run(mut self, mut script: Input<'_>) -> Behaviour {
        self.greet();
        for _ in 0..MAX_STEPS {
            if script.is_empty() || self.transport.is_closed() {
                break;
            }
            self.take(&Step::read(&mut script));
        }
        self.leave();
        Behaviour {
            manners: self.manners,
            has_written_state: self.has_written_state,
        }
    }

    fn greet(&mut self) {
        let Some(json) = VERSIONS.get(usize::from(self.opening.version)) else {
            self.manners = Manners::Bad;
            return;
        };
        let mut payload = vec![0; 4];
        if !json.is_empty() {
            payload.extend(json.as_bytes());
            payload.push(0);
        }
        self.command(&Message {
            command: Command::Version as u16,
            payload,
            ..Message::default()
        });
    }

    fn take(&mut self, step: &Step<'_>) {
        match step {
            Step::Command(message) => self.command(message),
            Step::Raw(bytes, fds) => {
                self.manners = Manners::Bad;
                self.transport.send(bytes, fds, &mut self.pool);
                self.transport.receive_now();
            }
            Step::Split(at) => self.transport.split_next(*at),
            Step::FillEventfd(choice) => self.pool.fill(*choice),
            Step::Truncate(choice, len) => {
                self.may_end();
                self.pool.truncate(*choice, *len);
            }
            Step::Settle => self.settle(),
            Step::Twin(bytes) => self.transport.send_twin(bytes),
            Step::Operator(choice) if Operator::stops(*choice) => {
                self.may_end();
                self.operator.act(*choice);
            }
            Step::Operator(choice) => self.operator.act(*choice),
            Step::WriteBack(piece_len) => {
                let stream = std::mem::take(&mut self.gained.stream);
                self.write_state(&stream, *piece_len);
            }
            Step::State(edits) => {
                let stream = edit::stream(self.kind.saved(), Input::new(edits));
                self.has_written_state = true;
                self.write_state(&stream, WHOLE);
            }
            Step::Ring(choice, number) => self.gained.ring(*choice, *number),
            Step::Poke(choice, at, byte) => self.gained.poke(*choice, *at, *byte),
        }
        self.serve_what_came();
    }

    fn may_end(&mut self) {
        if self.manners == Manners::Good {
            self.manners = Manners::MayEnd;
        }
    }

    fn command(&mut self, message: &Message) {
        const NO_REPLY: u32 = 1 << 4;
        let no_reply = if message.manner.no_reply { NO_REPLY } else { 0 };
        let header = Header {
            id: self.next_id,
            command: message.command,
            size: (Header::LEN + message.payload.len()) as u32,
            flags: message.flags | no_reply,
            errno: 0,
        };
        let owed = Owed::by(header, &message.payload);
        self.large_answers += usize::from(owed.as_ref().is_some_and(Owed::is_large));
        if self.large_answers > MAX_LARGE {
            return;
        }
        self.next_id = self.next_id.wrapping_add(1);
        let bytes = [&header.to_bytes()[..], &message.payload].concat();
        self.owed.extend(owed);
        if message.manner.held && message.fds.is_empty() {
            self.transport.hold(&bytes);
            return;
        }
        self.transport.send(&bytes, &message.fds, &mut self.pool);
        if !message.manner.pipelined {
            self.wait_for_answers();
        }
    }

    /// Serves requests until every command has its answer, or the connection has ended, as it may.
    fn wait_for_answers(&mut self) {
        self.transport.flush();
        self.serve_what_came();
        while self.manners != Manners::Bad && !self.owed.is_empty() {
            if self.transport.is_closed() {
                assert_ne!(
                    self.manners,
                    Manners::Good,
                    "closed, and owed {:?}",
                    self.owed
                );
                break;
            }
            self.transport.receive();
            self.serve_what_came();
        }
    }

    fn serve_what_came(&mut self) {
        while let Some(came) = self.transport.next_message() {
            if came.header.message_type() == MessageType::Command {
                if let Some(answer) = self.answers.to(&came.header, &came.payload) {
                    self.transport.answer(&came, &answer, &mut self.pool);
                }
                continue;
            }
            assert!(!came.is_twin, "an answer on the way of questions");
            if self.manners != Manners::Bad {
                let owed = self.owed.pop_front().expect("an answer to nothing");
                owed.check(&came.header, &came.payload, came.fds.len());
            }
            let Came {
                header,
                payload,
                fds,
                ..
            } = came;
            let rest = self.gained.take(header.command, &payload, fds);
            if header.command == Command::Version as u16 {
                self.transport.take_twin(rest);
            }
        }
    }

    fn settle(&mut self) {
        self.settles += 1;
        self.transport.flush();
        while self.settles <= MAX_SETTLES && self.transport.receive_within(A_MOMENT) {
            self.serve_what_came();
            self.settles += 1;
        }
    }

    /// Writes a state to the device, as MIG_DATA_WRITEs of so many bytes.
    fn write_state(&mut self, stream: &[u8], piece_len: usize) {
        for piece in stream.chunks(piece_len.max(1)).take(MAX_PIECES) {
            let mut payload = Vec::new();
            write_piece(piece, &mut payload);
            self.command(&Message {
                command: Command::MigDataWrite as u16,
                payload,
                ..Message::default()
            });
        }
    }

    fn leave(&mut self) {
        if self.opening.leaves_abruptly {
            self.transport.flush();
            self.manners = Manners::Bad;
            return;
        }
        self.wait_for_answers();
        self.transport.hang_up();
        // The answers that a bad client still has coming.
        while !self.transport.is_closed() {
            self.transport.receive();
            while self.transport.next_message().is_some() {}
        }
    }
}
