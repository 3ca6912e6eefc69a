//! What can be wrong with a state.

use vfu::Errno;

use super::{MAX_SECTION, Tag};

/// Why a state is not taken. The device is as it was.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It does not begin as one.
    #[error("this is no saved state of a vGPU")]
    NotAState,
    /// It is of another type of device.
    #[error("the state is of a '{found}', and this is a '{expected}'")]
    Foreign {
        /// Of what it is.
        found: String,
        /// What would be taken.
        expected: String,
    },
    /// A newer program wrote it.
    #[error("the {tag} of the state have version {found}, and at most {known} is known here")]
    Version {
        /// Of what.
        tag: Tag,
        /// The version that it has.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// It ends before its end.
    #[error("the state is cut off")]
    Truncated,
    /// More follows its end.
    #[error("something follows the end of the state")]
    Trailing,
    /// A checksum does not fit.
    #[error("the state is damaged in its {0}")]
    Damaged(Tag),
    /// A section of a kind that is not known.
    #[error("the state has a section '{0}' that is not known here")]
    UnknownSection(String),
    /// A section is larger than any is written.
    #[error("a section of {0} bytes is more than the {MAX_SECTION} that one may have")]
    SectionTooLong(u32),
    /// Sections are missing, doubled or not in order.
    #[error("the {0} of the state are not where they belong")]
    Order(Tag),
    /// What a section says cannot be.
    #[error("the {0} of the state make no sense: {1}")]
    Unsound(Tag, &'static str),
    /// The memory that holds it until it is complete, or the device's own, cannot be written.
    #[error("the state cannot be kept")]
    Memory(#[source] std::io::Error),
}

impl StateError {
    /// What a client is told.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Memory(_) => Errno::NOMEM,
            _ => Errno::INVAL,
        }
    }

    /// That the device's own section cannot be.
    pub fn registers(why: &'static str) -> Self {
        Self::Unsound(Tag::Registers, why)
    }
}
