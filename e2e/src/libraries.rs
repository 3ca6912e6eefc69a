//! What a program is linked with, for a guest that has none of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Result};

/// The libraries of a program, and what loads them: where each is to be in a guest, without the
/// leading slash, and where it is here.
pub fn of(program: &Path) -> Result<Vec<(String, PathBuf)>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .map_err(Error::io("run", Path::new("ldd")))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Malformed(format!(
            "ldd {}: {words}",
            program.display()
        )));
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads what ldd prints: `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)` for what loads the others.
fn parse(printed: &str) -> Vec<(String, PathBuf)> {
    let lines = printed.lines().filter_map(|line| {
        let (line, _) = line.trim().rsplit_once(" (")?;
        match line.split_once(" => ") {
            Some((name, path)) => Some((format!("lib/{name}"), PathBuf::from(path))),
            // The kernel's own is no file.
            None => Some((line.strip_prefix('/')?.to_owned(), PathBuf::from(line))),
        }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_keeps_its_place_and_libraries_lie_side_by_side() {
        let printed = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                       \tlibc.so.6 => /usr/lib/libc.so.6 (0x00007f00)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x00007f01)\n";
        let expected = [
            ("lib/libc.so.6", "/usr/lib/libc.so.6"),
            ("lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2"),
        ];
        let expected = expected.map(|(place, path)| (place.to_owned(), PathBuf::from(path)));
        assert_eq!(parse(printed), expected);
    }
}
