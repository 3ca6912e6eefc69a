//! The monitor behind a display, as a guest finds it; for every driver that has one.
//!
//! - [`mode`]: how many pixels it shows.
//! - [`edid`]: what it says of itself, with its modes timed by `timing`.

pub(crate) mod edid;
mod mode;
mod timing;

pub(crate) use mode::Mode;
