//! Printing, and files that are there whole or not at all.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use vgpud::api::Attribute;

/// Prints to standard output. A reader that has gone is no reason to fail: see `failure`.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// Prints a value as JSON, over several lines.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(print(&text)?)
}

/// Words of another program's, on one line. What a worker logs may come from a guest, and a terminal
/// obeys control characters.
pub(crate) fn one_line(words: &str) -> String {
    let harmless = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    words.chars().map(harmless).collect()
}

/// Attributes as mdevctl lists them.
pub(crate) fn list_attributes(text: &mut String, attributes: &[Attribute]) {
    if attributes.is_empty() {
        return;
    }
    text.push_str("  Attrs:\n");
    for (index, attribute) in attributes.iter().enumerate() {
        let Attribute { name, value } = attribute;
        let pair = serde_json::json!({ name: value });
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    @{{{index}}}: {pair}");
    }
}

/// Has `write` fill a file that is there whole or not at all; `-` is standard output.
pub(crate) fn save(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if path == Path::new("-") {
        let mut output = io::stdout().lock();
        write(&mut output)?;
        return Ok(output.flush()?);
    }
    let what = || format!("cannot write {}", path.display());
    let mut beside = OsString::from(path);
    beside.push(format!(".{}.part", std::process::id()));
    let mut file = File::create_new(&beside).with_context(what)?;
    let written = write(&mut file)
        .and_then(|()| file.sync_all().with_context(what))
        .and_then(|()| fs::rename(&beside, path).with_context(what));
    if written.is_err() {
        // What went wrong before is what is to be told.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// A number of bytes in few characters.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| bytes >> shift > 0);
    let Some((name, shift)) = unit else {
        return format!("{bytes} B");
    };
    let tenths = ((bytes >> (shift - 10)) * 10) >> 10;
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        tenth => format!("{}.{tenth} {name}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_could_not_be_filled_is_not_there_and_an_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let write =
            |text: &'static str| move |to: &mut dyn Write| Ok(to.write_all(text.as_bytes())?);
        save(&path, write("one")).unwrap();
        let failed = save(&path, |to| {
            to.write_all(b"two")?;
            anyhow::bail!("no more")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        save(&path, write("three")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn attributes_are_listed_as_by_mdevctl() {
        let mut text = String::new();
        list_attributes(&mut text, &[]);
        assert_eq!(text, "");
        let attribute = Attribute {
            name: "mode".to_owned(),
            value: "a\"b".to_owned(),
        };
        list_attributes(&mut text, &[attribute]);
        assert_eq!(text, "  Attrs:\n    @{0}: {\"mode\":\"a\\\"b\"}\n");
    }

    #[test]
    fn no_word_of_anothers_moves_the_cursor() {
        assert_eq!(
            one_line("a\x1b[2J\nb\u{9b}é"),
            "a\u{fffd}[2J\u{fffd}b\u{fffd}é"
        );
    }

    #[test]
    fn sizes_have_a_tenth_at_most() {
        for (bytes, text) in [
            (0, "0 B"),
            (1 << 10, "1 KiB"),
            (16 << 20, "16 MiB"),
            (3 << 30, "3 GiB"),
            ((1 << 30) + 1, "1 GiB"),
            (1536 << 20, "1.5 GiB"),
            (1023, "1023 B"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
