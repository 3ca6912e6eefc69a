//! The input's format: an opening, then steps. Most steps are commands in the form that they
//! have, with any numbers in it; some are bytes of any form.

pub(super) mod layout;
mod message;

use vfu::wire::Command;

use crate::input::{Input, write_len, write_number};
use layout::LAYOUTS;
pub use message::{Manner, Message};
use message::{read_fds, write_fds};

/// Most steps of one input.
pub const MAX_STEPS: usize = 200;

/// What is fixed before the first message.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Which device.
    pub device: u8,
    /// Whether a client follows that behaves: one in eight.
    pub is_followed: bool,
    /// With which attributes.
    pub attributes: u8,
    /// Which VERSION is sent; none for the last.
    pub version: u8,
    /// How requests for memory are answered.
    pub answers: u8,
    /// Whether the client leaves without reading what is there.
    pub leaves_abruptly: bool,
}

impl Opening {
    /// Reads it off the front of an input.
    pub fn read(input: &mut Input<'_>) -> Self {
        let [device, choice, answers] = [input.u8(), input.u8(), input.u8()];
        Self {
            device,
            is_followed: device >> 5 == 7,
            attributes: choice & 3,
            version: choice >> 2 & 7,
            answers,
            leaves_abruptly: choice >> 5 == 7,
        }
    }
}

/// Numbers of steps that are no command of [`LAYOUTS`].
mod kind {
    pub(super) const FRAME: u8 = 20;
    pub(super) const RAW: u8 = 21;
    pub(super) const SPLIT: u8 = 22;
    pub(super) const FILL_EVENTFD: u8 = 23;
    pub(super) const TRUNCATE: u8 = 24;
    pub(super) const SETTLE: u8 = 25;
    pub(super) const TWIN: u8 = 26;
    pub(super) const OPERATOR: u8 = 27;
    pub(super) const WRITE_BACK: u8 = 28;
    pub(super) const STATE: u8 = 29;
    pub(super) const RING: u8 = 30;
    pub(super) const POKE: u8 = 31;
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A command.
    Command(Message),
    /// Bytes, whatever they are.
    Raw(&'a [u8], Vec<u8>),
    /// The next message leaves in two pieces, cut here.
    Split(usize),
    /// An eventfd is counted up to its end.
    FillEventfd(u8),
    /// A memory file gets another size.
    Truncate(u8, u64),
    /// The client waits a moment, answering what it is asked.
    Settle,
    /// Bytes, on the twin socket.
    Twin(&'a [u8]),
    /// The operator sets an attribute, saves the device or restores it; or another client comes.
    Operator(u8),
    /// The state that was read is written, in pieces of so many bytes.
    WriteBack(usize),
    /// A good state with these changes is written.
    State(&'a [u8]),
    /// A number is written to a doorbell.
    Ring(u8, u64),
    /// A byte is written to mapped memory.
    Poke(u8, u64, u8),
}

impl<'a> Step<'a> {
    /// Reads the next step.
    pub fn read(input: &mut Input<'a>) -> Self {
        let byte = input.u8();
        let manner = Manner {
            no_reply: byte & 0x20 != 0,
            held: byte & 0x40 != 0,
            pipelined: byte & 0x80 != 0,
        };
        match byte & 0x1f {
            kind::FRAME => Self::read_frame(manner, input),
            kind::RAW => {
                let len = input.len();
                Self::Raw(input.bytes(len), read_fds(input))
            }
            kind::SPLIT => Self::Split(input.len()),
            kind::FILL_EVENTFD => Self::FillEventfd(input.u8()),
            kind::TRUNCATE => Self::Truncate(input.u8(), input.number()),
            kind::SETTLE => Self::Settle,
            kind::TWIN => {
                let len = input.len();
                Self::Twin(input.bytes(len))
            }
            kind::OPERATOR => Self::Operator(input.u8()),
            kind::WRITE_BACK => Self::WriteBack(input.len()),
            kind::STATE => {
                let len = input.len();
                Self::State(input.bytes(len))
            }
            kind::RING => Self::Ring(input.u8(), input.number()),
            kind::POKE => Self::Poke(input.u8(), input.number(), input.u8()),
            place => Self::read_command(manner, place, input),
        }
    }

    fn read_frame(manner: Manner, input: &mut Input<'a>) -> Self {
        let command = input.u8();
        let flags = input.u8();
        let len = input.len();
        Self::Command(Message {
            manner,
            // The highest number that a byte reaches stands for those above.
            command: match command {
                u8::MAX => u16::MAX,
                command => command.into(),
            },
            flags: flags.into(),
            payload: input.bytes(len).to_vec(),
            fds: read_fds(input),
        })
    }

    fn read_command(manner: Manner, place: u8, input: &mut Input<'_>) -> Self {
        let (command, fields) = LAYOUTS[usize::from(place) % LAYOUTS.len()];
        let mut payload = Vec::new();
        for field in fields {
            field.read(input, &mut payload);
        }
        let takes_fds = matches!(command, Command::DmaMap | Command::DeviceSetIrqs);
        Self::Command(Message {
            manner,
            command: command as u16,
            flags: 0,
            payload,
            fds: if takes_fds {
                read_fds(input)
            } else {
                Vec::new()
            },
        })
    }

    /// Appends the step. A command is written as a frame, so any can be.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Command(message) => message.write(out),
            Self::Raw(bytes, fds) => {
                out.push(kind::RAW);
                write_len(bytes.len() as u16, out);
                out.extend(*bytes);
                write_fds(fds, out);
            }
            Self::Split(at) => {
                out.push(kind::SPLIT);
                write_len(*at as u16, out);
            }
            Self::FillEventfd(choice) => out.extend([kind::FILL_EVENTFD, *choice]),
            Self::Truncate(choice, len) => {
                out.extend([kind::TRUNCATE, *choice]);
                write_number(*len, out);
            }
            Self::Settle => out.push(kind::SETTLE),
            Self::Twin(bytes) => {
                out.push(kind::TWIN);
                write_len(bytes.len() as u16, out);
                out.extend(*bytes);
            }
            Self::Operator(choice) => out.extend([kind::OPERATOR, *choice]),
            Self::WriteBack(len) => {
                out.push(kind::WRITE_BACK);
                write_len(*len as u16, out);
            }
            Self::State(edits) => {
                out.push(kind::STATE);
                write_len(edits.len() as u16, out);
                out.extend(*edits);
            }
            Self::Ring(choice, number) => {
                out.extend([kind::RING, *choice]);
                write_number(*number, out);
            }
            Self::Poke(choice, at, byte) => {
                out.extend([kind::POKE, *choice]);
                write_number(*at, out);
                out.push(*byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_was_written_is_read_again() {
        let command = |payload: &[u8], fds: &[u8], no_reply| {
            Step::Command(Message {
                manner: Manner {
                    no_reply,
                    held: true,
                    pipelined: false,
                },
                command: 9,
                flags: 1,
                payload: payload.to_vec(),
                fds: fds.to_vec(),
            })
        };
        for step in [
            command(&[], &[], false),
            command(&[7; 300], &[1, 2, 3], true),
            Step::Raw(&[1, 2, 3], vec![4]),
            Step::Split(7),
            Step::FillEventfd(1),
            Step::Truncate(2, 1 << 30),
            Step::Settle,
            Step::Twin(&[9; 16]),
            Step::Operator(3),
            Step::WriteBack(1000),
            Step::State(&[1, 2, 3]),
            Step::Ring(1, 1 << 40),
            Step::Poke(0, 4096, 7),
        ] {
            let mut bytes = Vec::new();
            step.write(&mut bytes);
            let mut input = Input::new(&bytes);
            assert_eq!(Step::read(&mut input), step);
            assert!(input.is_empty());
        }
    }
}
