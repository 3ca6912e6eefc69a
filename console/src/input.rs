//! Where a viewer's keys and pointer go: to the functions of the vGPU that take them ([`crate::typing`]),
//! if it has any.

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
        /// How large the picture is in which it is there: width and height.
        size: (u16, u16),
    },
}

/// Takes what viewers do.
pub trait Sink: Send + Sync {
    /// Has a viewer sit down.
    fn sit(&self) -> Box<dyn Seat>;
}

/// One viewer's. Dropping it lets go of what it has pressed.
pub trait Seat {
    /// Takes one thing. Called on the viewer's thread: it must not block.
    fn take(&mut self, input: Input);
}

/// Drops everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Sink for Nowhere {
    fn sit(&self) -> Box<dyn Seat> {
        Box::new(Self)
    }
}

impl Seat for Nowhere {
    fn take(&mut self, _input: Input) {}
}
