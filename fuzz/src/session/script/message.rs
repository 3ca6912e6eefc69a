//! A command in a whole frame, and how it is sent.

use super::kind::FRAME;
use crate::input::{Input, write_len};

/// How a command is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// With the No_reply flag.
    pub no_reply: bool,
    /// Together with the next one.
    pub held: bool,
    /// Without waiting for the answer.
    pub pipelined: bool,
}

/// A command in a whole frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// How it is sent.
    pub manner: Manner,
    /// Its number.
    pub command: u16,
    /// Flags besides those of `manner`.
    pub flags: u32,
    /// What follows the header.
    pub payload: Vec<u8>,
    /// Which descriptors come with it.
    pub fds: Vec<u8>,
}

impl Message {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let manner = self.manner;
        let bits = [
            (manner.no_reply, 0x20),
            (manner.held, 0x40),
            (manner.pipelined, 0x80),
        ];
        let set = bits.iter().filter(|(is_set, _)| *is_set);
        out.push(FRAME | set.map(|(_, bit)| bit).sum::<u8>());
        out.push(u8::try_from(self.command).unwrap_or(u8::MAX));
        out.push(self.flags as u8);
        write_len(self.payload.len() as u16, out);
        out.extend(&self.payload);
        write_fds(&self.fds, out);
    }
}

/// Most descriptors that a step names one by one; more are the last one, over and over.
const MAX_NAMED: u8 = 32;

pub(super) fn read_fds(input: &mut Input<'_>) -> Vec<u8> {
    let count = input.u8();
    let mut fds = input.bytes(count.min(MAX_NAMED).into()).to_vec();
    let last = fds.last().copied().unwrap_or(0);
    fds.resize(count.min(253).into(), last);
    fds
}

pub(super) fn write_fds(fds: &[u8], out: &mut Vec<u8>) {
    let count = fds.len().min(MAX_NAMED.into());
    out.push(count as u8);
    out.extend(&fds[..count]);
}
