//! Where the programs of a build lie.

use std::io;
use std::path::{Path, PathBuf};

/// The program that serves a vGPU.
const WORKER: &str = "vgpu-worker";

/// Where packages put what only programs start, from the folder of those that people start.
const LIBEXEC: &str = "libexec";

/// The program that serves a vGPU: beside this program, where a build leaves all of them, or where
/// a package installs it, `/usr/libexec` for a program in `/usr/bin` or `/usr/sbin`. If it is in
/// neither, the first is told.
pub fn worker() -> io::Result<PathBuf> {
    std::env::current_exe().map(|own| worker_of(&own))
}

fn worker_of(own: &Path) -> PathBuf {
    let beside = own.with_file_name(WORKER);
    let prefix = own.parent().and_then(Path::parent);
    let installed = prefix.map(|prefix| prefix.join(LIBEXEC).join(WORKER));
    match installed {
        Some(installed) if !beside.exists() && installed.exists() => installed,
        _ => beside,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_worker_is_beside_or_in_libexec() {
        let prefix = tempfile::tempdir().unwrap();
        let place = |path: &str| prefix.path().join(path);
        for folder in ["sbin", "libexec"] {
            fs::create_dir(place(folder)).unwrap();
        }
        let own = place("sbin/vgpud");
        assert_eq!(worker_of(&own), place("sbin/vgpu-worker"));
        fs::write(place("libexec/vgpu-worker"), "").unwrap();
        assert_eq!(worker_of(&own), place("libexec/vgpu-worker"));
        fs::write(place("sbin/vgpu-worker"), "").unwrap();
        assert_eq!(worker_of(&own), place("sbin/vgpu-worker"));
        assert_eq!(worker_of(Path::new("/vgpud")), Path::new("/vgpu-worker"));
    }
}
