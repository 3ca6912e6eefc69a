//! A good state with any changes: its sections are taken apart, and put together again with the
//! right lengths and checksums, unless those are changed too.

use crate::input::Input;

/// Bytes of the magic that every stream begins with.
const MAGIC_LEN: usize = 8;
/// Bytes before a section's own: tag, version, length; and of the checksum after them.
const HEAD_LEN: usize = 12;
const CRC_LEN: usize = 4;

/// Most changes of one stream.
const MAX_EDITS: usize = 64;
/// Longer sections than are taken, by a little.
const MAX_BODY: u64 = (1 << 20) + 64;
/// Longer ones are not doubled: an input must not take seconds.
const MAX_COPIED: usize = 64 << 10;

/// Tags that there are, and one that there is not.
const TAGS: [[u8; 4]; 6] = [*b"HEAD", *b"MEM ", *b"CONF", *b"REGS", *b"END ", *b"head"];

#[derive(Clone, Debug)]
struct Section {
    tag: [u8; 4],
    version: u32,
    body: Vec<u8>,
    /// What is added to the length, and to the checksum.
    wrong_len: u32,
    wrong_crc: u32,
}

/// A stream that is taken apart.
struct Stream {
    sections: Vec<Section>,
    /// Whether the last section is to say how many there are.
    is_counted: bool,
    /// Changes of the whole, which come last.
    cut: Option<u64>,
    appended: Vec<u8>,
    flipped: Vec<(u64, u8)>,
}

/// `good` with the changes that the input asks for.
pub fn stream(good: &[u8], mut input: Input<'_>) -> Vec<u8> {
    let mut stream = Stream::parse(good);
    for _ in 0..MAX_EDITS {
        if input.is_empty() {
            break;
        }
        stream.edit(&mut input);
    }
    stream.emit(&good[..MAGIC_LEN])
}

impl Stream {
    fn parse(good: &[u8]) -> Self {
        let word =
            |at: usize| u32::from_le_bytes([good[at], good[at + 1], good[at + 2], good[at + 3]]);
        let mut sections = Vec::new();
        let mut at = MAGIC_LEN;
        while at < good.len() {
            let body = at + HEAD_LEN;
            let end = body + word(at + 8) as usize;
            sections.push(Section {
                tag: word(at).to_le_bytes(),
                version: word(at + 4),
                body: good[body..end].to_vec(),
                wrong_len: 0,
                wrong_crc: 0,
            });
            at = end + CRC_LEN;
        }
        Self {
            sections,
            is_counted: true,
            cut: None,
            appended: Vec::new(),
            flipped: Vec::new(),
        }
    }

    fn edit(&mut self, input: &mut Input<'_>) {
        let (kind, choice) = (input.u8() % 16, usize::from(input.u8()));
        match kind {
            10 => self.is_counted = false,
            11 => self.cut = Some(input.number()),
            12 => {
                let len = input.len();
                self.appended.extend(input.bytes(len));
            }
            13 => self.flipped.push((input.number(), input.u8())),
            14 => self.insert(choice, input),
            _ if self.sections.is_empty() => {}
            _ => self.edit_section(kind, choice % self.sections.len(), input),
        }
    }

    fn insert(&mut self, choice: usize, input: &mut Input<'_>) {
        let tag = TAGS[usize::from(input.u8()) % TAGS.len()];
        let len = input.len();
        let section = Section {
            tag,
            version: 1,
            body: input.bytes(len).to_vec(),
            wrong_len: 0,
            wrong_crc: 0,
        };
        self.sections
            .insert(choice % (self.sections.len() + 1), section);
    }

    fn edit_section(&mut self, kind: u8, place: usize, input: &mut Input<'_>) {
        let section = &mut self.sections[place];
        match kind {
            0..=2 => section.overwrite(input),
            3 => {
                let len = input.len();
                section.body = input.bytes(len).to_vec();
            }
            4 => section
                .body
                .resize((input.number() % MAX_BODY) as usize, input.u8()),
            5 => section.version = input.number() as u32,
            6 => section.wrong_crc = input.number() as u32,
            7 => section.wrong_len = input.number() as u32,
            8 => drop(self.sections.remove(place)),
            9 if section.body.len() < MAX_COPIED => {
                let copy = section.clone();
                self.sections.insert(place, copy);
            }
            9 => {}
            _ => {
                let other = usize::from(input.u8()) % self.sections.len();
                self.sections.swap(place, other);
            }
        }
    }

    fn emit(mut self, magic: &[u8]) -> Vec<u8> {
        let count = self.sections.len().saturating_sub(1) as u32;
        if let (true, Some(last)) = (self.is_counted, self.sections.last_mut()) {
            last.count(count);
        }
        let mut bytes = magic.to_vec();
        for section in &self.sections {
            section.emit(&mut bytes);
        }
        bytes.extend(&self.appended);
        for (at, flip) in &self.flipped {
            let place = *at as usize % bytes.len();
            bytes[place] ^= flip;
        }
        if let Some(len) = self.cut {
            bytes.truncate(len as usize % (bytes.len() + 1));
        }
        bytes
    }
}

impl Section {
    /// Changes some bytes somewhere.
    fn overwrite(&mut self, input: &mut Input<'_>) {
        let (at, len) = (input.number() as usize, input.len());
        let at = at % (self.body.len() + 1);
        for (byte, new) in self.body[at..].iter_mut().zip(input.bytes(len)) {
            *byte = *new;
        }
    }

    /// Says how many sections come before, if this is the end.
    fn count(&mut self, count: u32) {
        if self.tag == *b"END " && self.body.len() == 4 {
            self.body = count.to_le_bytes().to_vec();
        }
    }

    fn emit(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend(self.tag);
        out.extend(self.version.to_le_bytes());
        let len = (self.body.len() as u32).wrapping_add(self.wrong_len);
        out.extend(len.to_le_bytes());
        out.extend(&self.body);
        let crc = crc32fast::hash(&out[start..]).wrapping_add(self.wrong_crc);
        out.extend(crc.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceKind;

    #[test]
    fn without_changes_a_state_stays_as_it_is() {
        for device in 0..5 {
            let good = DeviceKind::choose(device, 0).saved();
            assert!(stream(good, Input::new(&[])) == good);
        }
    }
}
