//! Terminals: opening one raw, and the two ioctls that no crate has.
#![expect(
    unsafe_code,
    reason = "TIOCMBIS and KDFONTOP are ioctls, and are called only here"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{Setter, Updater, ioctl};
use rustix::termios::{ControlModes, OptionalActions, tcgetattr, tcsetattr};

/// `asm-generic/ioctls.h`.
const TIOCMBIS: u32 = 0x5416;
/// `asm-generic/termios.h`: what the UART sends, it receives.
const TIOCM_LOOP: i32 = 0x8000;
/// `linux/kd.h`, as are the names below.
const KDFONTOP: u32 = 0x4b72;
const KD_FONT_OP_GET: u32 = 1;
/// `KD_FONT_OP_GET` lays every glyph out in this many bytes for each byte of width.
const GLYPH_STRIDE: usize = 32;
const MAX_GLYPHS: usize = 512;
const MAX_WIDTH_BYTES: usize = 4;

/// Whether a read waits for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocking {
    Yes,
    No,
}

/// Opens a terminal raw, 115200 8N1, without flow control.
pub(crate) fn open_raw(path: &Path, blocking: Blocking) -> io::Result<File> {
    let mut flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    flags.set(OFlags::NONBLOCK, blocking == Blocking::No);
    let tty = File::from(open(path, flags, Mode::empty())?);
    let mut termios = tcgetattr(&tty)?;
    termios.make_raw();
    termios.control_modes.remove(ControlModes::CRTSCTS);
    termios.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    termios.set_speed(115_200)?;
    tcsetattr(&tty, OptionalActions::Flush, &termios)?;
    Ok(tty)
}

/// Switches a UART's loop-back on.
pub(crate) fn loop_back(tty: impl AsFd) -> io::Result<()> {
    // SAFETY: TIOCMBIS reads one int, which the setter holds until the call is over.
    unsafe { ioctl(tty, Setter::<TIOCMBIS, i32>::new(TIOCM_LOOP)) }?;
    Ok(())
}

/// `struct console_font_op`.
#[repr(C)]
struct ConsoleFontOp {
    op: u32,
    flags: u32,
    width: u32,
    height: u32,
    charcount: u32,
    data: *mut u8,
}

/// The font of a text console, at most 32 pixels wide and high.
pub(crate) struct Font {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Each glyph's rows from the top, a row being whole bytes with the leftmost pixel in the
    /// highest bit.
    pub(crate) glyphs: Vec<Vec<u8>>,
}

/// Asks a console for its font.
pub(crate) fn font(console: impl AsFd) -> io::Result<Font> {
    let mut data = vec![0; MAX_GLYPHS * GLYPH_STRIDE * MAX_WIDTH_BYTES];
    let mut op = ConsoleFontOp {
        op: KD_FONT_OP_GET,
        flags: 0,
        width: 8 * MAX_WIDTH_BYTES as u32,
        height: GLYPH_STRIDE as u32,
        charcount: MAX_GLYPHS as u32,
        data: data.as_mut_ptr(),
    };
    // SAFETY: KDFONTOP updates a `console_font_op`, which this is. It writes glyphs of no more than
    // the width, height and number given, 32 rows for each byte of width, and `data` has that size.
    unsafe { ioctl(console, Updater::<KDFONTOP, _>::new(&mut op)) }?;
    let row_bytes = op.width.div_ceil(8) as usize;
    let height = op.height as usize;
    let glyphs = data
        .chunks_exact(GLYPH_STRIDE * row_bytes)
        .take(op.charcount as usize)
        .map(|glyph| glyph.iter().copied().take(height * row_bytes).collect())
        .collect();
    Ok(Font {
        width: op.width as usize,
        height,
        glyphs,
    })
}
