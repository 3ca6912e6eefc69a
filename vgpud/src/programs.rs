//! Where the programs of a build lie.

use std::io;
use std::path::{Path, PathBuf};

/// The program that serves a vGPU.
pub const WORKER: &str = "vgpu-worker";

/// The program that shows a vGPU's display to viewers.
pub const CONSOLE: &str = "vgpu-console";

/// Where packages put what only programs start, from the folder of those that people start.
const LIBEXEC: &str = "libexec";

/// Where a program of this build is that other programs start: beside this program, where a build
/// leaves all of them, or where a package installs it, `/usr/libexec` for a program in `/usr/bin` or
/// `/usr/sbin`. If it is in neither, the first is told.
pub fn find(name: &str) -> io::Result<PathBuf> {
    std::env::current_exe().map(|own| find_from(&own, name))
}

fn find_from(own: &Path, name: &str) -> PathBuf {
    let beside = own.with_file_name(name);
    let prefix = own.parent().and_then(Path::parent);
    let installed = prefix.map(|prefix| prefix.join(LIBEXEC).join(name));
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
    fn what_others_start_is_beside_or_in_libexec() {
        let prefix = tempfile::tempdir().unwrap();
        let place = |path: &str| prefix.path().join(path);
        for folder in ["sbin", "libexec"] {
            fs::create_dir(place(folder)).unwrap();
        }
        let own = place("sbin/vgpud");
        assert_eq!(find_from(&own, WORKER), place("sbin/vgpu-worker"));
        fs::write(place("libexec/vgpu-worker"), "").unwrap();
        assert_eq!(find_from(&own, WORKER), place("libexec/vgpu-worker"));
        fs::write(place("sbin/vgpu-worker"), "").unwrap();
        assert_eq!(find_from(&own, WORKER), place("sbin/vgpu-worker"));
        assert_eq!(
            find_from(Path::new("/vgpud"), WORKER),
            Path::new("/vgpu-worker")
        );
    }
}
