//! Whole guests in QEMU, driven from tests: real QEMU, stock kernels, built programs.
//!
//! A test walks through these modules, in this order:
//!
//! - [`programs`]: where `./x` put QEMU, the kernel and everything built.
//! - [`process`]: a program of ours is started, and ends with the test.
//! - [`vgpu`]: one of those is a vGPU; [`relay`] stands before one, as a VMM that migrates.
//! - [`daemon`]: another is the daemon, which has vGPUs of its own.
//! - [`debian`]: a root of Debian's programs and ours, for what an administrator types there;
//!   [`document`] is what a page of docs/ has him type.
//! - [`mdevctl`]: Debian's own, on the files that `vgpu-mdev` mounts for that daemon.
//! - [`machine`]: a machine is described, then booted.
//! - [`system`]: it may be a whole Debian with systemd; [`firmware`], and no kernel; or a
//!   [`desktop`].
//! - [`qemu`]: what comes out is a [`Vm`], a running QEMU.
//! - [`initramfs`], from [`modules`] and [`cpio`]: what the guest boots into, kept between runs.
//! - [`libraries`]: what a program of ours needs to run in there.
//! - [`guest`]: commands run in the guest, through the agent of the program `guest`; [`inner`] is a
//!   guest that runs in there; [`hardware`] are devices that our programs in there share.
//! - [`qmp`]: QEMU's own control socket: hotplug, reset, events, screenshots.
//! - [`screen`]: a picture, compared pixel by pixel or read as text.
//! - [`vnc`]: what a viewer of a console sees.
//! - [`steps`]: progress lines for programs that people watch.
//!
//! Not here: our crates. These tests know vgpud by its programs and sockets alone. And no test here
//! measures time; every wait has a limit, and reaching it is a failure with a name.

pub mod cpio;
pub mod daemon;
pub mod debian;
pub mod desktop;
pub mod document;
pub mod error;
pub mod firmware;
pub mod guest;
pub mod hardware;
pub mod initramfs;
pub mod inner;
pub mod libraries;
pub mod machine;
pub mod mdevctl;
pub mod modules;
pub mod process;
pub mod programs;
pub mod qemu;
pub mod qmp;
pub mod relay;
pub mod screen;
pub mod steps;
mod stream;
pub mod system;
pub mod vgpu;
pub mod vnc;

pub use daemon::Daemon;
pub use debian::DebianRoot;
pub use error::{Error, Result};
pub use firmware::Firmware;
pub use machine::{Machine, Memory};
pub use mdevctl::Mdevctl;
pub use process::Process;
pub use programs::Programs;
pub use qemu::Vm;
pub use screen::Screen;
pub use vgpu::Vgpu;
