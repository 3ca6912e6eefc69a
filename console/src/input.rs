//! Where a viewer's keys and pointer go.
//!
//! A vGPU has no keyboard and no pointer: they will be functions of their own (virtio-input). Until
//! then what viewers send is read, and dropped by [`Nowhere`].

/// What a viewer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A key was pressed or let go.
    Key {
        /// Which of the two.
        is_down: bool,
        /// X11's number of what is on it.
        symbol: u32,
        /// XT's number of the key itself, if the viewer knows.
        code: Option<u32>,
    },
    /// The pointer is there, with these buttons down: the left one in the lowest bit.
    Pointer {
        /// From the left, in pixels.
        x: u16,
        /// From above.
        y: u16,
        /// The buttons.
        buttons: u8,
    },
}

/// Takes what viewers do.
pub trait Sink: Send + Sync {
    /// Takes one thing, from whichever viewer. Called on a viewer's thread: it must not block.
    fn take(&self, input: Input);
}

/// Drops everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Sink for Nowhere {
    fn take(&self, _input: Input) {}
}
