//! The stream in whatever pieces it comes, checked before anything is believed.

use super::{Fields, MAGIC, MAX_SECTION, StateError, Tag};
use crate::region_memory::RegionMemory;

/// Bytes before a section's own: tag, version, length.
const HEAD_LEN: usize = 12;
/// Bytes after them.
const CRC_LEN: usize = 4;
/// Name of the files that hold memory until the state is complete.
const STAGING: &str = "vgpud-state";

/// A stream that is read. It holds no more than one section, the small sections, and files as
/// large as the device's memories.
#[derive(Debug)]
pub struct Decoder {
    kind: String,
    registers_version: u32,
    buffer: Vec<u8>,
    sections: u32,
    memories: Vec<RegionMemory>,
    config: Option<Vec<u8>>,
    registers: Option<(u32, Vec<u8>)>,
    is_ended: bool,
    is_bad: bool,
}

/// A whole state that was found sound, apart from what only the device can judge.
#[derive(Debug)]
pub struct Decoded {
    /// What the device's memories hold, in their order.
    pub(crate) memories: Vec<RegionMemory>,
    /// Configuration space.
    pub(crate) config: Vec<u8>,
    registers_version: u32,
    registers: Vec<u8>,
}

impl Decoded {
    /// The version of the device's own section, and what it says.
    pub fn registers(&self) -> (u32, Fields<'_>) {
        let fields = Fields::new(Tag::Registers, &self.registers);
        (self.registers_version, fields)
    }
}

impl Decoder {
    /// For a device of type `kind`, which knows its own section up to a version, and has memories
    /// of these sizes.
    pub fn new(
        kind: &str,
        registers_version: u32,
        memories: impl IntoIterator<Item = u64>,
    ) -> Result<Self, StateError> {
        let memories = memories
            .into_iter()
            .map(|len| RegionMemory::new(STAGING, len))
            .collect::<Result<_, _>>()
            .map_err(StateError::Memory)?;
        Ok(Self {
            kind: kind.to_owned(),
            registers_version,
            buffer: Vec::new(),
            sections: 0,
            memories,
            config: None,
            registers: None,
            is_ended: false,
            is_bad: false,
        })
    }

    /// Takes the next piece. After an error no other is taken.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), StateError> {
        if self.is_bad {
            return Err(StateError::NotAState);
        }
        self.take(piece).inspect_err(|_| self.is_bad = true)
    }

    /// The whole state, if all of it has come.
    pub fn finish(self) -> Result<Decoded, StateError> {
        match (self.config, self.registers) {
            _ if self.is_bad => Err(StateError::NotAState),
            (Some(config), Some((registers_version, registers))) if self.is_ended => Ok(Decoded {
                memories: self.memories,
                config,
                registers_version,
                registers,
            }),
            _ => Err(StateError::Truncated),
        }
    }

    /// A piece may be larger than a section, and there may be many pieces to one.
    fn take(&mut self, mut piece: &[u8]) -> Result<(), StateError> {
        while !piece.is_empty() {
            if self.is_ended {
                return Err(StateError::Trailing);
            }
            let wanted = self.wanted()?;
            let missing = wanted.saturating_sub(self.buffer.len());
            let (now, later) = piece.split_at(missing.min(piece.len()));
            self.buffer.extend(now);
            piece = later;
            // With its head here, a section may ask for more.
            if self.buffer.len() == self.wanted()? {
                self.section()?;
                self.buffer.clear();
            }
        }
        Ok(())
    }

    /// How many bytes the buffer has to hold before there is something to do.
    fn wanted(&self) -> Result<usize, StateError> {
        if self.sections == 0 {
            let known = self.buffer.len().min(MAGIC.len());
            if self.buffer[..known] != MAGIC[..known] {
                return Err(StateError::NotAState);
            }
        }
        let Some(head) = self.at_section() else {
            return Ok(self.section_at() + HEAD_LEN);
        };
        let len = head.len as usize;
        self.check_order(head.tag()?)?;
        if len > MAX_SECTION {
            return Err(StateError::SectionTooLong(head.len));
        }
        Ok(self.section_at() + HEAD_LEN + len + CRC_LEN)
    }

    /// Where in the buffer the section begins: the magic stands before the first.
    fn section_at(&self) -> usize {
        if self.sections == 0 { MAGIC.len() } else { 0 }
    }

    fn at_section(&self) -> Option<SectionHead> {
        SectionHead::parse(self.buffer.get(self.section_at()..)?)
    }

    /// Whether a section may come now.
    fn check_order(&self, tag: Tag) -> Result<(), StateError> {
        let may = match tag {
            Tag::Head => self.sections == 0,
            Tag::Memory => self.sections > 0 && self.config.is_none(),
            Tag::Config => self.sections > 0 && self.config.is_none(),
            Tag::Registers => self.config.is_some() && self.registers.is_none(),
            Tag::End => self.registers.is_some(),
        };
        if may && !self.is_ended {
            Ok(())
        } else {
            Err(StateError::Order(tag))
        }
    }

    /// Takes the section in the buffer, which is whole.
    fn section(&mut self) -> Result<(), StateError> {
        let at = self.section_at();
        let buffer = std::mem::take(&mut self.buffer);
        let bytes = buffer.get(at..).unwrap_or_default();
        let head = SectionHead::parse(bytes).ok_or(StateError::Truncated)?;
        let tag = head.tag()?;
        let Some((checked, crc)) = bytes.split_last_chunk::<CRC_LEN>() else {
            return Err(StateError::Truncated);
        };
        if crc32fast::hash(checked) != u32::from_le_bytes(*crc) {
            return Err(StateError::Damaged(tag));
        }
        self.check_version(tag, head.version)?;
        let body = checked.get(HEAD_LEN..).unwrap_or_default();
        match tag {
            Tag::Head => self.check_kind(body)?,
            Tag::Memory => self.memory(Fields::new(tag, body))?,
            Tag::Config => self.config = Some(body.to_vec()),
            Tag::Registers => self.registers = Some((head.version, body.to_vec())),
            Tag::End => self.end(Fields::new(tag, body))?,
        }
        self.sections = self.sections.saturating_add(1);
        self.buffer = buffer;
        Ok(())
    }

    fn check_version(&self, tag: Tag, found: u32) -> Result<(), StateError> {
        let known = match tag {
            Tag::Registers => self.registers_version,
            _ => Tag::VERSION,
        };
        if (1..=known).contains(&found) {
            Ok(())
        } else {
            Err(StateError::Version { tag, found, known })
        }
    }

    fn check_kind(&self, body: &[u8]) -> Result<(), StateError> {
        if body == self.kind.as_bytes() {
            return Ok(());
        }
        let shown = body.get(..64).unwrap_or(body);
        Err(StateError::Foreign {
            found: shown.escape_ascii().to_string(),
            expected: self.kind.clone(),
        })
    }

    fn memory(&self, mut fields: Fields<'_>) -> Result<(), StateError> {
        let unsound = |why| StateError::Unsound(Tag::Memory, why);
        let memory = usize::try_from(fields.u32()?)
            .ok()
            .and_then(|index| self.memories.get(index))
            .ok_or(unsound("the device has no such memory"))?;
        while !fields.is_empty() {
            let offset = fields.u64()?;
            let len = fields.u32()?;
            let run = fields.bytes(len as usize)?;
            offset
                .checked_add(len.into())
                .filter(|end| *end <= memory.len())
                .ok_or(unsound("they reach past the end"))?;
            memory.write(offset, run).map_err(StateError::Memory)?;
        }
        Ok(())
    }

    fn end(&mut self, mut fields: Fields<'_>) -> Result<(), StateError> {
        let sections = fields.u32()?;
        fields.end()?;
        if sections != self.sections {
            return Err(StateError::Unsound(Tag::End, "sections are missing"));
        }
        self.is_ended = true;
        Ok(())
    }
}

/// What stands before a section's own bytes.
struct SectionHead {
    tag: [u8; 4],
    version: u32,
    len: u32,
}

impl SectionHead {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (len, _) = rest.split_first_chunk()?;
        Some(Self {
            tag: *tag,
            version: u32::from_le_bytes(*version),
            len: u32::from_le_bytes(*len),
        })
    }

    fn tag(&self) -> Result<Tag, StateError> {
        Tag::find(self.tag)
            .ok_or_else(|| StateError::UnknownSection(self.tag.escape_ascii().to_string()))
    }
}
