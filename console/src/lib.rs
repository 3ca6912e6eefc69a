//! The library behind `vgpu-console`, which shows the display of one vGPU to VNC viewers.
//!
//! Pixels go this way:
//!
//! - [`source`]: where the picture lies, asked of the worker; its tiles, compared with those that
//!   were seen before, while a viewer waits.
//! - [`frame`]: the picture as it was seen last, and when each tile of it changed.
//! - [`cursor`]: what lies over it.
//! - [`hub`]: where the source and the viewers meet.
//! - [`viewer`]: one viewer, its thread, what is sent to it and what it sends.
//! - [`rfb`]: the bytes of that: the Remote Framebuffer protocol, 3.3 to 3.8.
//!
//! Around them:
//!
//! - [`arguments`]: the command line.
//! - [`outer`], [`errand`]: the process that is started. It opens what is needed, starts the one
//!   that viewers talk to, and runs errands for it: to connect to the worker anew.
//! - [`inner`], [`confinement`]: the one that viewers talk to, and what it gives up before.
//! - [`password`]: what TCP asks for.
//! - [`input`], [`typing`], `keys`: where keys and pointers go: to functions of the vGPU, if it has
//!   them.
//!
//! Not here: devices. A console never asks one for anything; it reads the memory file that the
//! worker hands it. No HTTP, no TLS, no clipboard, no sound.

pub mod arguments;
pub mod confinement;
pub mod cursor;
pub mod errand;
pub mod frame;
pub mod hub;
pub mod inner;
pub mod input;
mod keys;
pub mod outer;
pub mod password;
pub mod rfb;
pub mod source;
pub mod typing;
pub mod viewer;
mod wake;
