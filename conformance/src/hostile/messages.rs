//! Hostile messages, one after the other.

use super::noise::Noise;
use crate::negotiated::{CONFIG, OFFER};
use crate::payload::{self, NO_REPLY, access, dma, multi, region_info, version, words};

/// Bytes to send, and how many descriptors to send with them.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    pub(super) fds: usize,
}

/// What a message does to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Its frame is whole: the next message may follow.
    Whole,
    /// Nothing sensible can follow.
    Breaks,
}

#[derive(Debug)]
pub(super) struct Hostile {
    pub(super) piece: Piece,
    pub(super) ending: Ending,
}

/// The next message.
pub(super) fn any(noise: &mut Noise) -> Hostile {
    if noise.one_in(400) {
        return Hostile {
            piece: Piece {
                bytes: broken(noise),
                fds: fd_count(noise, 8),
            },
            ending: Ending::Breaks,
        };
    }
    let (command, payload) = if noise.one_in(4) {
        let len = noise.below(200);
        let command = u16::try_from(noise.below(21)).unwrap_or(0);
        (command, noise.bytes(len))
    } else {
        let (command, mut payload) = template(noise);
        mutate(noise, &mut payload);
        (command, payload)
    };
    let flags = match noise.below(32) {
        0 => noise.word(),
        1 | 2 => 1,
        3..10 => NO_REPLY,
        _ => 0,
    };
    let id = u16::try_from(noise.below(1 << 16)).unwrap_or(0);
    // Those that take descriptors get some more often.
    let odds = if matches!(command, 2 | 8) { 3 } else { 40 };
    Hostile {
        piece: Piece {
            bytes: payload::message(id, command, flags, &payload),
            fds: fd_count(noise, odds),
        },
        ending: Ending::Whole,
    }
}

/// How many descriptors: none, mostly.
fn fd_count(noise: &mut Noise, odds: u64) -> usize {
    if !noise.one_in(odds) {
        return 0;
    }
    let most = noise.pick(&[1, 1, 1, 2, 4, 16]);
    usize::try_from(1 + noise.below(most)).unwrap_or(1)
}

/// Bytes after which nobody knows where a message begins.
fn broken(noise: &mut Noise) -> Vec<u8> {
    let len = 1 + noise.below(300);
    match noise.below(4) {
        0 => noise.bytes(len),
        1 => {
            let size = noise.pick(&[0, 1, 15, 1 << 21, 1 << 31, u32::MAX]);
            payload::header(1, 9, size, 0).to_vec()
        }
        2 => {
            let mut whole = payload::message(1, 10, 0, &access(0, 0, 64, &[0; 64]));
            whole.truncate(usize::try_from(1 + noise.below(95)).unwrap_or(1));
            whole
        }
        _ => {
            // It promises a megabyte, and brings some of it.
            let mut bytes = payload::header(1, 10, 1 << 20, 0).to_vec();
            bytes.extend(noise.bytes(len * 16));
            bytes
        }
    }
}

/// A region, and a place in it that something may be at.
fn place(noise: &mut Noise) -> (u32, u64) {
    let region = noise.pick(&[0, 0, 1, 2, CONFIG, CONFIG, 8]);
    let near = noise.below(0x100) & !3;
    let offset = noise.pick(&[near, near, near, 0x500, 0xffc, 0x1000, 0x2000, 0xf_fffc]);
    (region, offset)
}

/// A message that would be good, now and then.
fn template(noise: &mut Noise) -> (u16, Vec<u8>) {
    let (region, offset) = place(noise);
    let index = u32::try_from(noise.below(10)).unwrap_or(0);
    let page = noise.below(64) * 0x1000;
    let count = noise.pick(&[1, 2, 4, 4, 4, 8, 64]);
    match noise.below(22) {
        0 => (1, version(0, 0, &[OFFER.as_bytes(), b"\0"].concat())),
        1 | 2 => (2, dma(32, 3, &[page, page, noise.pick(&[0x1000, 0x4000])])),
        3 => (3, dma(24, 0, &[page, noise.pick(&[0x1000, 0x4000])])),
        4 => (3, dma(24, 2, &[0, 0])),
        5 => (4, words(&[16, 0, 0, 0])),
        6 => (5, region_info(noise.pick(&[32, 64, 4096]), index)),
        7 => (6, words(&[4096, 0, index, 0])),
        8 => (7, words(&[16, 0, index, 0])),
        9 | 10 => (8, interrupts(noise, index)),
        11 | 12 => (9, access(region, offset, count, &[])),
        13..=15 => {
            let data = noise.bytes(u64::from(count));
            (10, access(region, offset, count, &data))
        }
        16 => (15, multi(1, &[(region, offset, count.min(8), [0; 8])])),
        17 => (13, vec![]),
        18 => (16, feature(noise)),
        19 => (10, access(CONFIG, 4, 2, &[noise.pick(&[0, 6, 6]), 4])),
        20 => (10, transfer(noise, page)),
        _ => {
            let command = noise.pick(&[17, 18, 17, 18, 19, 14, 11, 12]);
            (command, words(&[4096, 1024, 0, 0]))
        }
    }
}

/// A register of the DMA engine of an edu device. Now and then they add up to a transfer.
fn transfer(noise: &mut Noise, page: u64) -> Vec<u8> {
    let register = noise.pick(&[0x80, 0x88, 0x90, 0x98, 0x98, 0xb0]);
    let value = match register {
        0x80 | 0x88 => noise.pick(&[page, page, 0x4_0000, 0x4_0800]),
        0x90 => noise.pick(&[1, 64, 0x800, 0x1000]),
        _ => noise.pick(&[1, 3, 5, 7]),
    };
    access(0, register, 8, &value.to_ne_bytes())
}

fn interrupts(noise: &mut Noise, index: u32) -> Vec<u8> {
    let data = noise.pick(&[1, 2, 4, 4]);
    let action = noise.pick(&[8, 16, 32, 32]);
    let count = noise.pick(&[0, 1, 1, 2, 4]);
    let mut set = words(&[20, data | action, index % 5, 0, count]);
    if data == 2 {
        set.extend(noise.bytes(u64::from(count)));
    }
    set
}

fn feature(noise: &mut Noise) -> Vec<u8> {
    let index = noise.pick(&[1, 2, 6, 7, 8, 3, 100]);
    let action = noise.pick(&[1 << 16, 1 << 17, 1 << 18, 3 << 17, 5 << 16]);
    let mut feature = words(&[4096, index | action]);
    match noise.below(3) {
        // A state, or nothing.
        0 => feature.extend(words(&[u32::try_from(noise.below(9)).unwrap_or(0), 0])),
        // A range to log or to report.
        1 => feature.extend(payload::longs(&[0, 0x10_0000, 0x1000])),
        _ => feature.extend(payload::longs(&[0x1000, 1, 0, 0x10_0000])),
    }
    feature
}

/// Makes some of it wrong, or leaves it alone.
fn mutate(noise: &mut Noise, payload: &mut Vec<u8>) {
    for _ in 0..noise.pick(&[0, 0, 1, 1, 2, 3]) {
        let len = u64::try_from(payload.len()).unwrap_or(0);
        match noise.below(12) {
            0 => payload.truncate(usize::try_from(noise.below(len + 1)).unwrap_or(0)),
            1 => {
                let more = noise.below(64);
                payload.extend(noise.bytes(more));
            }
            // A large one, rarely: they cost the most.
            2 if noise.one_in(500) => payload.resize(100_000, 0xee),
            _ if len >= 4 => {
                let at = usize::try_from(noise.below(len / 4) * 4).unwrap_or(0);
                let word = noise.word().to_ne_bytes();
                payload[at..at + 4].copy_from_slice(&word);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_whole_has_the_size_it_says() {
        let mut noise = Noise::new(7);
        let mut breaks = 0;
        for _ in 0..20_000 {
            let hostile = any(&mut noise);
            let bytes = hostile.piece.bytes;
            assert!(hostile.piece.fds <= 16);
            if hostile.ending == Ending::Breaks {
                breaks += 1;
                continue;
            }
            let size = u32::from_ne_bytes(bytes[4..8].try_into().unwrap());
            assert_eq!(usize::try_from(size), Ok(bytes.len()));
        }
        assert!((1..200).contains(&breaks), "{breaks} break the stream");
    }
}
