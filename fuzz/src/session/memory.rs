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
        let variant = usize::from(self.0 >> 3);
        let body = match self.0 & 7 {
            0 => answer(is_read, payload, GUEST_BYTE),
            1 => answer(is_read, payload, 0),
            2 => return Some(refusal(request, variant)),
            3 => cut(answer(is_read, payload, GUEST_BYTE), variant),
            4 => return None,
            5 => early(is_read, payload),
            // As some servers do: more than was asked for.
            6 => [answer(is_read, payload, GUEST_BYTE), vec![1; variant]].concat(),
            _ => return Some(misnamed(request, variant)),
        };
        let header = request.reply(body.len());
        Some([&header.to_bytes()[..], &body].concat())
    }
}

/// As the specification says.
fn answer(is_read: bool, payload: &[u8], byte: u8) -> Vec<u8> {
    let (access, data) = DmaAccess::parse(payload).expect("the server's request is well formed");
    assert!(access.count <= MAX_DATA, "{access:?}");
    let mut body = Vec::new();
    access.emit(&mut body);
    if is_read {
        body.extend(vec![byte; access.count as usize]);
    } else {
        assert_eq!(data.len() as u64, access.count, "as much as it says");
    }
    body
}

/// As QEMU 10: a count of 32 bits, and nothing in reply to a write.
fn early(is_read: bool, payload: &[u8]) -> Vec<u8> {
    if !is_read {
        return Vec::new();
    }
    let count = payload.get(8..12).and_then(|count| count.try_into().ok());
    let count = count.map_or(0, u32::from_ne_bytes);
    let mut body = payload.get(..12).unwrap_or_default().to_vec();
    body.extend(vec![GUEST_BYTE; u64::from(count).min(MAX_DATA) as usize]);
    body
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
