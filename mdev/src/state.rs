//! The state of a device as a stream of bytes, and back.
//!
//! - [`encode`]: sections, one after the other.
//! - [`decode`]: the stream in whatever pieces it comes, checked before anything is believed.
//! - [`fields`]: the numbers within a section.
//! - [`error`]: what can be wrong with it, in words.
//!
//! ```text
//! stream   = "vgpudst\n" section…
//! section  = u32 tag, u32 version, u32 length, length bytes, u32 CRC-32 of all before it
//! ```
//!
//! All numbers are little-endian. The sections are, in this order:
//!
//! | tag | holds |
//! |---|---|
//! | `HEAD` | the type that the state is of |
//! | `MEM ` | `u32` which of the device's memories, then runs of `u64 offset, u32 length, bytes`; any number of these sections, a later one wins; what none names is 0 |
//! | `CONF` | configuration space |
//! | `REGS` | the device's own; its version is the device's |
//! | `END ` | `u32` how many sections came before |
//!
//! A version is raised when a reader of the one before would get it wrong. Not here: which
//! device is asked when ([`crate::migration`]).

pub mod decode;
pub mod encode;
pub mod error;
pub mod fields;
#[cfg(test)]
mod tests;

pub use decode::Decoder;
pub use encode::Encoder;
pub use error::StateError;
pub use fields::Fields;

/// What every stream begins with.
const MAGIC: [u8; 8] = *b"vgpudst\n";

/// Most bytes of one section. A section is held whole before it is believed.
const MAX_SECTION: usize = 1 << 20;

/// The sections that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// What the state is of.
    Head,
    /// Part of a memory.
    Memory,
    /// Configuration space.
    Config,
    /// The device's own.
    Registers,
    /// Nothing follows.
    End,
}

impl Tag {
    const ALL: [Self; 5] = [
        Self::Head,
        Self::Memory,
        Self::Config,
        Self::Registers,
        Self::End,
    ];

    /// The version of the sections whose form is the framework's.
    const VERSION: u32 = 1;

    fn bytes(self) -> [u8; 4] {
        *match self {
            Self::Head => b"HEAD",
            Self::Memory => b"MEM ",
            Self::Config => b"CONF",
            Self::Registers => b"REGS",
            Self::End => b"END ",
        }
    }

    fn find(bytes: [u8; 4]) -> Option<Self> {
        Self::ALL.into_iter().find(|tag| tag.bytes() == bytes)
    }
}

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Head => "head",
            Self::Memory => "memory",
            Self::Config => "configuration space",
            Self::Registers => "registers",
            Self::End => "end",
        })
    }
}
