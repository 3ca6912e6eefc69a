//! Answers to the device's requests for memory, DMA_READ and DMA_WRITE, good and bad.

use vfu::Errno;
use vfu::wire::dma::DmaAccess;
use vfu::wire::{Command, Header};

use super::descriptors::GUEST_BYTE;

/// Most bytes that a server asks for at a time.
const MAX_DATA: u64 = 64 << 10;

/// How a client answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answers(u8);

impl Answers {
    pub(super) fn new(choice: u8) -> Self {
        Self(choice)
    }

    /// The whole reply to a request; `None` for a client that says nothing.
    ///
    /// # Panics
    ///
    /// If it is no request that a server may send.
    pub(super) fn to(self, request: &Header, payload: &[u8]) -> Option<Vec<u8>> {
        let is_read = request.command == Command::DmaRead as u16;
        assert!(
            is_read || request.command == Command::DmaWrite as u16,
            "{request:?}"
        );
        let asked = Asked::parse(is_read, payload);
        let variant = usize::from(self.0 >> 3);
        let body = match self.0 & 7 {
            0 => asked.answer(GUEST_BYTE),
            1 => asked.answer(0),
            2 => return Some(refusal(request, variant)),
            3 => cut(asked.answer(GUEST_BYTE), variant),
            4 => return None,
            5 => asked.early_answer(),
            // As some servers do: more than was asked for.
            6 => [asked.answer(GUEST_BYTE), vec![1; variant]].concat(),
            _ => return Some(misnamed(request, variant)),
        };
        let header = request.reply(body.len());
        Some([&header.to_bytes()[..], &body].concat())
    }
}

/// What is asked. Once the server was answered as QEMU 10 does, be it by mistake, it asks in the
/// way that QEMU 10 understands: with a count of 32 bits.
struct Asked {
    is_read: bool,
    address: u64,
    count: u64,
}

impl Asked {
    fn parse(is_read: bool, payload: &[u8]) -> Self {
        let specified = DmaAccess::parse(payload).map(|(it, _)| (it.address, it.count, 16));
        let early = payload.split_at_checked(12).map(|(head, _)| {
            let count = head[8..].iter().rev();
            let count = count.fold(0, |count, byte| count << 8 | u64::from(*byte));
            let address = head[..8].iter().rev();
            let address = address.fold(0, |address, byte| address << 8 | u64::from(*byte));
            (address, count, 12)
        });
        let mut ways = specified.ok().into_iter().chain(early);
        let fits = |(_, count, head): &(u64, u64, u64)| {
            let data = if is_read { 0 } else { *count };
            *count <= MAX_DATA && payload.len() as u64 == head + data
        };
        let (address, count, _) = ways.find(fits).expect("a well formed request");
        Self {
            is_read,
            address,
            count,
        }
    }

    /// As the specification says.
    fn answer(&self, byte: u8) -> Vec<u8> {
        let mut body = Vec::new();
        let access = DmaAccess {
            address: self.address,
            count: self.count,
        };
        access.emit(&mut body);
        body.extend(self.data(byte));
        body
    }

    /// As QEMU 10: a count of 32 bits, and nothing in reply to a write.
    fn early_answer(&self) -> Vec<u8> {
        if !self.is_read {
            return Vec::new();
        }
        let mut body = self.address.to_ne_bytes().to_vec();
        body.extend((self.count as u32).to_ne_bytes());
        body.extend(self.data(GUEST_BYTE));
        body
    }

    fn data(&self, byte: u8) -> Vec<u8> {
        let len = if self.is_read { self.count } else { 0 };
        vec![byte; len as usize]
    }
}

fn refusal(request: &Header, variant: usize) -> Vec<u8> {
    let errnos = [Errno::NOSYS, Errno::OPNOTSUPP, Errno::FAULT, Errno::IO];
    request
        .error_reply(errnos[variant % errnos.len()])
        .to_bytes()
        .to_vec()
}

fn cut(mut body: Vec<u8>, variant: usize) -> Vec<u8> {
    body.truncate(body.len().saturating_sub(variant));
    body
}

/// A reply to another request, or of another command.
fn misnamed(request: &Header, variant: usize) -> Vec<u8> {
    let other = Header {
        id: request.id.wrapping_add((variant & 1) as u16),
        command: request.command ^ (variant as u16 >> 1),
        ..*request
    };
    other.reply(0).to_bytes().to_vec()
}
