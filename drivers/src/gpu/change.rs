//! What a command has changed, as bytes: for the journal, and for saved states.

use mdev::state::{Fields, StateError};

use super::protocol::Rect;
use super::resources::{Entry, MAX_ENTRIES};

/// One change. It was found possible when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A resource, at a place in video memory.
    Create {
        id: u32,
        format: u32,
        width: u32,
        height: u32,
        at: u64,
    },
    /// It is gone.
    Unref { id: u32 },
    /// Guest memory backs it.
    Attach { id: u32, entries: Vec<Entry> },
    /// No longer.
    Detach { id: u32 },
    /// A head shows part of a resource, or, if that is 0, nothing.
    Scanout { head: u32, id: u32, rect: Rect },
}

/// Numbers of the changes.
const CREATE: u8 = 1;
const UNREF: u8 = 2;
const ATTACH: u8 = 3;
const DETACH: u8 = 4;
const SCANOUT: u8 = 5;

impl Change {
    /// Appends it.
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let mut words = |kind: u8, words: &[u32]| {
            out.push(kind);
            words.iter().for_each(|word| out.extend(word.to_le_bytes()));
        };
        match self {
            Self::Create {
                id,
                format,
                width,
                height,
                at,
            } => {
                words(CREATE, &[*id, *format, *width, *height]);
                out.extend(at.to_le_bytes());
            }
            Self::Unref { id } => words(UNREF, &[*id]),
            Self::Attach { id, entries } => {
                words(ATTACH, &[*id, entries.len() as u32]);
                for entry in entries {
                    out.extend(entry.at.to_le_bytes());
                    out.extend(entry.len.to_le_bytes());
                }
            }
            Self::Detach { id } => words(DETACH, &[*id]),
            Self::Scanout { head, id, rect } => {
                let Rect {
                    x,
                    y,
                    width,
                    height,
                } = *rect;
                words(SCANOUT, &[*head, *id, x, y, width, height]);
            }
        }
    }

    /// Takes one off the front.
    pub(super) fn parse(fields: &mut Fields<'_>) -> Result<Self, StateError> {
        Ok(match fields.u8()? {
            CREATE => Self::Create {
                id: fields.u32()?,
                format: fields.u32()?,
                width: fields.u32()?,
                height: fields.u32()?,
                at: fields.u64()?,
            },
            UNREF => Self::Unref { id: fields.u32()? },
            ATTACH => {
                let (id, count) = (fields.u32()?, fields.u32()?);
                if count > MAX_ENTRIES {
                    return Err(StateError::registers("a resource has too much behind it"));
                }
                let entry = |_| {
                    Ok(Entry {
                        at: fields.u64()?,
                        len: fields.u32()?,
                    })
                };
                let entries = (0..count).map(entry).collect::<Result<_, StateError>>()?;
                Self::Attach { id, entries }
            }
            DETACH => Self::Detach { id: fields.u32()? },
            SCANOUT => Self::Scanout {
                head: fields.u32()?,
                id: fields.u32()?,
                rect: Rect {
                    x: fields.u32()?,
                    y: fields.u32()?,
                    width: fields.u32()?,
                    height: fields.u32()?,
                },
            },
            _ => return Err(StateError::registers("nothing changes like that")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_emitted_is_parsed_and_what_is_cut_off_is_refused() {
        let entry = |at| Entry { at, len: 4096 };
        for change in [
            Change::Create {
                id: 7,
                format: 1,
                width: 640,
                height: 480,
                at: 1 << 33,
            },
            Change::Unref { id: 7 },
            Change::Attach {
                id: 7,
                entries: vec![entry(0), entry(u64::MAX)],
            },
            Change::Detach { id: u32::MAX },
            Change::Scanout {
                head: 1,
                id: 7,
                rect: Rect {
                    x: 1,
                    y: 2,
                    width: 3,
                    height: 4,
                },
            },
        ] {
            let mut bytes = Vec::new();
            change.emit(&mut bytes);
            let mut fields = Fields::of_registers(&bytes);
            assert_eq!(Change::parse(&mut fields).unwrap(), change);
            assert!(fields.is_empty());
            for len in 0..bytes.len() {
                let mut fields = Fields::of_registers(&bytes[..len]);
                assert!(Change::parse(&mut fields).is_err(), "{change:?} {len}");
            }
        }
    }
}
