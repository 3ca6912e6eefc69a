//! What a command has changed, as bytes: for the journal, and for saved states.

use mdev::scanout::Rect;
use mdev::state::{Fields, StateError};

use super::cursors::Look;
use super::resources::{Entry, Framebuffer, MAX_ENTRIES};

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
    /// A resource of so many bytes in guest memory, all of which back it if any do.
    CreateBlob {
        id: u32,
        size: u64,
        entries: Vec<Entry>,
    },
    /// A head shows part of a picture in a blob, by a copy at a place in video memory.
    ScanoutBlob {
        head: u32,
        id: u32,
        rect: Rect,
        framebuffer: Framebuffer,
        at: u64,
    },
    /// A resource has a name for others.
    AssignUuid { id: u32, uuid: [u8; 16] },
    /// The cursor of a head has another look, or none, and is at a place.
    Cursor {
        head: u32,
        look: Option<Look>,
        x: u32,
        y: u32,
    },
    /// It is elsewhere.
    MoveCursor { head: u32, x: u32, y: u32 },
}

/// Numbers of the changes.
const CREATE: u8 = 1;
const UNREF: u8 = 2;
const ATTACH: u8 = 3;
const DETACH: u8 = 4;
const SCANOUT: u8 = 5;
const CREATE_BLOB: u8 = 6;
const SCANOUT_BLOB: u8 = 7;
const ASSIGN_UUID: u8 = 8;
const CURSOR: u8 = 9;
const HIDE_CURSOR: u8 = 10;
const MOVE_CURSOR: u8 = 11;

impl Change {
    /// Appends it.
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Create {
                id,
                format,
                width,
                height,
                at,
            } => {
                words(out, CREATE, &[*id, *format, *width, *height]);
                out.extend(at.to_le_bytes());
            }
            Self::Unref { id } => words(out, UNREF, &[*id]),
            Self::Attach { id, entries } => {
                words(out, ATTACH, &[*id]);
                emit_entries(out, entries);
            }
            Self::Detach { id } => words(out, DETACH, &[*id]),
            Self::Scanout { head, id, rect } => {
                words(out, SCANOUT, &[*head, *id]);
                emit_rect(out, rect);
            }
            Self::CreateBlob { id, size, entries } => {
                words(out, CREATE_BLOB, &[*id]);
                out.extend(size.to_le_bytes());
                emit_entries(out, entries);
            }
            Self::ScanoutBlob {
                head,
                id,
                rect,
                framebuffer: it,
                at,
            } => {
                words(out, SCANOUT_BLOB, &[*head, *id]);
                emit_rect(out, rect);
                for word in [it.format, it.width, it.height, it.stride, it.offset] {
                    out.extend(word.to_le_bytes());
                }
                out.extend(at.to_le_bytes());
            }
            Self::AssignUuid { id, uuid } => {
                words(out, ASSIGN_UUID, &[*id]);
                out.extend(uuid);
            }
            Self::Cursor { head, look, x, y } => match look {
                Some(look) => {
                    words(out, CURSOR, &[*head, *x, *y]);
                    look.emit(out);
                }
                None => words(out, HIDE_CURSOR, &[*head, *x, *y]),
            },
            Self::MoveCursor { head, x, y } => words(out, MOVE_CURSOR, &[*head, *x, *y]),
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
            ATTACH => Self::Attach {
                id: fields.u32()?,
                entries: parse_entries(fields)?,
            },
            DETACH => Self::Detach { id: fields.u32()? },
            SCANOUT => Self::Scanout {
                head: fields.u32()?,
                id: fields.u32()?,
                rect: parse_rect(fields)?,
            },
            CREATE_BLOB => Self::CreateBlob {
                id: fields.u32()?,
                size: fields.u64()?,
                entries: parse_entries(fields)?,
            },
            SCANOUT_BLOB => Self::ScanoutBlob {
                head: fields.u32()?,
                id: fields.u32()?,
                rect: parse_rect(fields)?,
                framebuffer: Framebuffer {
                    format: fields.u32()?,
                    width: fields.u32()?,
                    height: fields.u32()?,
                    stride: fields.u32()?,
                    offset: fields.u32()?,
                },
                at: fields.u64()?,
            },
            ASSIGN_UUID => Self::AssignUuid {
                id: fields.u32()?,
                uuid: fields.array()?,
            },
            kind => Self::parse_cursor(kind, fields)?,
        })
    }

    fn parse_cursor(kind: u8, fields: &mut Fields<'_>) -> Result<Self, StateError> {
        if !(CURSOR..=MOVE_CURSOR).contains(&kind) {
            return Err(StateError::registers("nothing changes like that"));
        }
        let (head, x, y) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let look = match kind {
            CURSOR => Some(Look::parse(fields)?),
            HIDE_CURSOR => None,
            _ => return Ok(Self::MoveCursor { head, x, y }),
        };
        Ok(Self::Cursor { head, look, x, y })
    }
}

fn words(out: &mut Vec<u8>, kind: u8, words: &[u32]) {
    out.push(kind);
    words.iter().for_each(|word| out.extend(word.to_le_bytes()));
}

fn emit_rect(out: &mut Vec<u8>, rect: &Rect) {
    for word in [rect.x, rect.y, rect.width, rect.height] {
        out.extend(word.to_le_bytes());
    }
}

fn parse_rect(fields: &mut Fields<'_>) -> Result<Rect, StateError> {
    Ok(Rect {
        x: fields.u32()?,
        y: fields.u32()?,
        width: fields.u32()?,
        height: fields.u32()?,
    })
}

fn emit_entries(out: &mut Vec<u8>, entries: &[Entry]) {
    out.extend((entries.len() as u32).to_le_bytes());
    for entry in entries {
        out.extend(entry.at.to_le_bytes());
        out.extend(entry.len.to_le_bytes());
    }
}

fn parse_entries(fields: &mut Fields<'_>) -> Result<Vec<Entry>, StateError> {
    let count = fields.u32()?;
    if count > MAX_ENTRIES {
        return Err(StateError::registers("a resource has too much behind it"));
    }
    let entry = |_| {
        Ok(Entry {
            at: fields.u64()?,
            len: fields.u32()?,
        })
    };
    (0..count).map(entry).collect()
}

#[cfg(test)]
mod tests;
