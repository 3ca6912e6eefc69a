//! Files that are there whole or not at all, also after the power fails.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Ends the name of a file that is being written. Whatever is left of one is of no worth.
const PART: &str = ".part";

/// Ends the name of a file that could not be read, and was set aside.
const BROKEN: &str = ".broken";

/// Writes `content` to `path`: after a power loss the file is the old one or the new one.
pub(crate) fn write_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let part = beside(path, PART);
    let written = write_synced(&part, content, mode).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // What went wrong before is what is to be told.
        let _ = fs::remove_file(&part);
    }
    written.and_then(|()| sync_folder(path))
}

fn write_synced(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Removes `path`, for good. It is no error if it is not there.
pub(crate) fn remove_whole(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes what is left of an unfinished write, sets what cannot be read aside.
pub(crate) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let broken = beside(path, BROKEN);
    fs::rename(path, &broken)?;
    Ok(broken)
}

/// Makes a folder and those above it, which only its owner may enter if `mode` says so.
pub(crate) fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
}

/// The names of the files in a folder that end with `suffix`; none if the folder is not there.
pub(crate) fn names_with(folder: &Path, suffix: &str) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(suffix));
        names.extend(stem.map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A rename is only kept once the folder is written.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        for content in [&b"one"[..], b"two, longer", b""] {
            write_whole(&path, content, 0o600).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(names_with(dir.path(), ".json").unwrap(), ["a"]);
        remove_whole(&path).unwrap();
        remove_whole(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_full_disk_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write_whole(&path, b"old", 0o600).unwrap();
        // Whatever is written to it fails with ENOSPC.
        std::os::unix::fs::symlink("/dev/full", dir.path().join("a.part")).unwrap();
        let error = write_whole(&path, b"new", 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_files() {
        let dir = tempfile::tempdir().unwrap();
        assert!(names_with(&dir.path().join("x"), "").unwrap().is_empty());
    }
}
