//! The text console, as the screen shows it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use crate::{Failure, tty};

/// The console in the foreground.
const CONSOLE: &str = "/dev/tty0";

/// Prints a line. The first one makes the kernel put its console on the frame buffer.
pub(crate) fn say(line: &str) -> Result<(), Failure> {
    let mut console = OpenOptions::new().write(true).open(CONSOLE)?;
    console.write_all(format!("{line}\r\n").as_bytes())?;
    Ok(())
}

/// Writes `WIDTH HEIGHT COUNT` as a line and then the glyphs' rows, packed.
pub(crate) fn dump_font() -> Result<(), Failure> {
    let font = tty::font(File::open(CONSOLE)?)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{} {} {}", font.width, font.height, font.glyphs.len())?;
    for glyph in &font.glyphs {
        out.write_all(glyph)?;
    }
    out.flush()?;
    Ok(())
}
