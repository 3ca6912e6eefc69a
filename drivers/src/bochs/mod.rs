//! The bochs display: a linear frame buffer with a handful of mode-setting registers.
//!
//! The counterpart in user space of the kernel's `mbochs` sample, and of QEMU's `bochs-display`,
//! so stock guests drive it (Linux: `bochs-drm`). The guest maps the video memory and draws with
//! the CPU; only mode changes and page flips reach the device. Its parts, in the order in which
//! an access meets them:
//!
//! - `driver`: builds a device of one of the types, with its attributes.
//! - `model`: what the types differ in, and which modes their memory holds.
//! - `display`: its monitor and its registers, as one value.
//! - `device`: the PCI device. Routes an access to its memory or its registers, then publishes the
//!   picture that the registers describe. BAR0, the pixels, is a memory file of the framework's.
//! - `mmio`: BAR2, the register page: which byte belongs to which of the next four.
//! - `dispi`: the VBE DISPI registers, which set a mode and a place in memory.
//! - `vga`: what is left of a VGA: ports that are ignored, save blanking.
//! - `extended`: the byte order of pixels.
//! - `state`: what is saved of a display.
//!
//! The monitor that the guest finds is `crate::monitor`'s. `crate::bochs_host` has the same registers, for
//! displays that share a physical one.
//!
//! Left out: interrupts (the hardware has none), a VGA BIOS and text modes, pixels of other than
//! 32 bits, DISPI banking and `GETCAPS`, and hot-plug of the monitor: a change of the `mode`
//! attribute is seen when the guest next reads the EDID.

mod device;
mod dispi;
pub(crate) mod display;
mod driver;
mod extended;
pub(crate) mod mmio;
pub(crate) mod model;
mod state;
#[cfg(test)]
mod tests;
mod vga;

pub use driver::BochsDriver;
