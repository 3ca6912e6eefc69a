//! What travels over a worker's control socket: one JSON document in each packet, and a file
//! descriptor beside the answers to [`Request::Scanout`], [`Request::Cursor`], [`Request::Watch`] and
//! [`Request::Save`], and beside [`Request::Restore`], [`Request::Adopt`], [`Request::Lend`] and
//! [`Request::Serve`].
//!
//! A worker that has a physical device has a control socket of its own, which takes
//! [`Request::Serve`], [`Request::Status`], [`Request::Adopt`] and [`Request::Stop`]; each of its seats has one that takes
//! what others take, but for [`Request::HandOver`], [`Request::GoOn`] and [`Request::Leave`].

mod seat;
mod status;

use mdev::input::Report;
use mdev::scanout::{Geometry, Rect};
use serde::{Deserialize, Serialize};

pub use seat::SeatRequest;
pub use status::{Attribute, Counters, Landlock, Sandbox, Status};

/// The version that this crate speaks. A request of another one is refused with words.
pub const VERSION: u32 = 1;

/// Most bytes of one document. Whoever may open the socket could else choose our buffer.
pub const MAX_DOCUMENT: usize = 64 << 10;

/// A request in its envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`] of the sender.
    pub version: u32,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

/// What a worker can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How it is. Answered by [`Answer::Status`].
    Status,
    /// What a head shows. Answered by [`Answer::Scanout`] and the memory file.
    Scanout {
        /// Which head, from 0.
        #[serde(default, skip_serializing_if = "is_first")]
        head: u32,
    },
    /// What the cursor of a head is. Answered by [`Answer::Cursor`], and the memory file if it has an
    /// image.
    Cursor {
        /// Which head, from 0.
        #[serde(default, skip_serializing_if = "is_first")]
        head: u32,
    },
    /// Tells whenever something else is shown, or drawn by a device that says so, or the cursor
    /// changes. Answered by [`Answer::Done`] and an eventfd, which can be read from then on. The
    /// connection serves [`Self::Scanout`], [`Self::Cursor`] and [`Self::Resize`] of this head alone
    /// from here on: it may be handed to whoever is to see the picture, and may do nothing else.
    Watch {
        /// Which head, from 0.
        #[serde(default, skip_serializing_if = "is_first")]
        head: u32,
    },
    /// Has a head ask its guest for a picture of this size, as someone who looks at it wishes; no
    /// attribute changes. Answered by [`Answer::Done`]; whether and when the guest does it shows in
    /// the picture.
    Resize {
        /// Which head, from 0.
        #[serde(default, skip_serializing_if = "is_first")]
        head: u32,
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// Gives the device input. Answered by [`Answer::Done`]. From here on the connection takes
    /// [`InputRecord`]s alone, each answered by [`Answer::Done`] or, if it makes no sense, by
    /// [`Answer::Error`] and the end: it may be handed to whoever is to type, and may do nothing else.
    /// What was pressed over it is let go when it ends.
    Input {
        /// Whose records these are, a number made up at random: whoever comes back after a worker was
        /// replaced holds what it held, and nothing is typed twice.
        stream: u64,
    },
    /// Changes an attribute. Answered by [`Answer::Done`].
    SetAttribute {
        /// Which.
        name: String,
        /// To what.
        value: String,
    },
    /// Saves the state of the device. Answered by [`Answer::State`] and a memory file.
    Save,
    /// Puts a state into the device, from the memory file beside it. Answered by [`Answer::Done`].
    Restore,
    /// Parks every descriptor anew, over the socket beside it: a daemon that was started after
    /// the worker asks for that. Answered by [`Answer::Done`]. See [`crate::parking`].
    Adopt,
    /// Grants time on the engine that the device shares, over the socket beside it, from now on.
    /// Answered by [`Answer::Done`]. See [`crate::lending`].
    Lend,
    /// Resets the device, as its machine's reset would. Answered by [`Answer::Done`].
    Reset,
    /// Stops serving between two requests of the client, until [`Self::GoOn`] or [`Self::Leave`]
    /// comes: another worker is to take over. Answered by [`Answer::Done`].
    HandOver,
    /// Serves again, after [`Self::HandOver`]. Answered by [`Answer::Done`].
    GoOn,
    /// Ends the worker after [`Self::HandOver`], and leaves its client to the other one. Answered
    /// by [`Answer::Done`], before it ends.
    Leave,
    /// Serves one more vGPU on the physical device that this worker has: a seat. Beside it is a socket
    /// over which the seat's descriptors came, and which stays open for as long as the seat lives:
    /// [`crate::seat`]. Answered by [`Answer::Done`] once clients can connect; or, where it is to go on
    /// from another, once it is ready to be told so ([`crate::resume`]).
    Serve(SeatRequest),
    /// Ends the worker, or the seat whose socket this is: its device is reset, and what it had of the
    /// physical one is given back. Answered by [`Answer::Done`], before it ends.
    Stop,
}

/// Input, on a connection that is for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputRecord {
    /// Higher than that of the record before.
    pub number: u64,
    /// What happened.
    pub report: Report,
}

/// What a worker answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// It was done.
    Done,
    /// How the worker is.
    Status(Status),
    /// The picture, whose memory came beside this document.
    Scanout {
        /// Where it lies in the memory.
        geometry: Geometry,
        /// Counts the pictures that were published.
        sequence: u64,
        /// Where all lies that was drawn since this connection, which watches, asked last; empty if
        /// nothing was. `None` if the device does not say so, or the connection does not watch: all
        /// of it may have changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drawn: Option<Rect>,
        /// Counts the changes of the cursor: who knows of as many need not ask for it.
        #[serde(default)]
        cursor: u64,
    },
    /// The cursor.
    Cursor {
        /// How it looks, and its memory came beside this document; `None` if it is not shown.
        image: Option<CursorImage>,
        /// Where the left edge of its image is, in pixels of the picture.
        x: i32,
        /// Where the upper edge is.
        y: i32,
        /// Counts its changes.
        sequence: u64,
    },
    /// The state, in the memory file that came beside this document.
    State {
        /// Its length in bytes.
        bytes: u64,
    },
    /// It was not done.
    Error {
        /// The errno that fits, by name.
        errno: String,
        /// Why, in words.
        message: String,
    },
}

/// The form of [`mdev::scanout::CursorImage`], which says what is what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they stand at mdev::scanout::CursorImage")]
pub struct CursorImage {
    pub geometry: Geometry,
    pub hot_x: u32,
    pub hot_y: u32,
    pub sequence: u64,
}

/// The errno of an attribute that can only be given when its device is created.
pub const FIXED: &str = "EPERM";

/// Requests about the first head have the form that they had when there was no other.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_first(head: &u32) -> bool {
    *head == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_keep_their_form() {
        for (request, json) in [
            (Request::Status, r#"{"version":1,"request":"status"}"#),
            (
                Request::Scanout { head: 0 },
                r#"{"version":1,"request":"scanout"}"#,
            ),
            (
                Request::Scanout { head: 2 },
                r#"{"version":1,"request":"scanout","head":2}"#,
            ),
            (
                Request::Cursor { head: 1 },
                r#"{"version":1,"request":"cursor","head":1}"#,
            ),
            (
                Request::Watch { head: 0 },
                r#"{"version":1,"request":"watch"}"#,
            ),
            (
                Request::Resize {
                    head: 0,
                    width: 800,
                    height: 600,
                },
                r#"{"version":1,"request":"resize","width":800,"height":600}"#,
            ),
            (
                Request::Input { stream: u64::MAX },
                r#"{"version":1,"request":"input","stream":18446744073709551615}"#,
            ),
            (
                Request::SetAttribute {
                    name: "mode".into(),
                    value: "800x600".into(),
                },
                r#"{"version":1,"request":"set-attribute","name":"mode","value":"800x600"}"#,
            ),
            (Request::Save, r#"{"version":1,"request":"save"}"#),
            (Request::Restore, r#"{"version":1,"request":"restore"}"#),
            (Request::Adopt, r#"{"version":1,"request":"adopt"}"#),
            (Request::Lend, r#"{"version":1,"request":"lend"}"#),
            (Request::Reset, r#"{"version":1,"request":"reset"}"#),
            (Request::HandOver, r#"{"version":1,"request":"hand-over"}"#),
            (Request::GoOn, r#"{"version":1,"request":"go-on"}"#),
            (Request::Leave, r#"{"version":1,"request":"leave"}"#),
            (Request::Stop, r#"{"version":1,"request":"stop"}"#),
        ] {
            let envelope = Envelope {
                version: VERSION,
                request,
            };
            assert_eq!(serde_json::to_string(&envelope).unwrap(), json);
            assert_eq!(serde_json::from_str::<Envelope>(json).unwrap(), envelope);
        }
    }
}
