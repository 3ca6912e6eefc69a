//! What a guest boots into: busybox, our guest programs, and the modules it is to load.
//!
//! An image is kept beside the guest programs, under a name that stands for everything in it, so
//! that the next guest of the same kind starts at once. Delete the folder to be rid of them.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cpio::Archive;
use crate::modules::ModuleTree;
use crate::{Error, Programs, Result};

/// What is to go into an image.
#[derive(Clone, Debug, Default, Hash)]
pub struct Initramfs {
    /// Modules to load, by name; what they need comes along.
    pub modules: Vec<String>,
    /// Programs from `VGPUD_GUEST_BIN`, apart from `guest`, which is always there.
    pub programs: Vec<String>,
    /// Further files: path without its leading slash, content.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Initramfs {
    /// Returns the image, made now unless it was made before.
    pub fn build(&self, programs: &Programs) -> Result<PathBuf> {
        let cache = programs.guest_bin.join("initramfs");
        fs::create_dir_all(&cache).map_err(Error::io("create", &cache))?;
        let path = cache.join(format!("{:016x}.cpio", self.digest(programs)?));
        if !path.exists() {
            let image = self.pack(programs)?;
            // Written aside and moved, since another test may want the same image.
            let mut file =
                tempfile::NamedTempFile::new_in(&cache).map_err(Error::io("write in", &cache))?;
            file.write_all(&image).map_err(Error::io("write", &path))?;
            file.persist(&path)
                .map_err(|error| error.error)
                .map_err(Error::io("write", &path))?;
        }
        Ok(path)
    }

    /// A number that changes with anything that [`Self::pack`] reads.
    fn digest(&self, programs: &Programs) -> Result<u64> {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        for name in self.guest_programs() {
            read(&programs.guest_bin.join(name))?.hash(&mut hasher);
        }
        for path in [&programs.busybox, &programs.kernel, &programs.modules] {
            let metadata = fs::metadata(path).map_err(Error::io("read", path))?;
            let changed = metadata.modified().map_err(Error::io("read", path))?;
            (path, metadata.len(), changed).hash(&mut hasher);
        }
        Ok(hasher.finish())
    }

    fn pack(&self, programs: &Programs) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        for directory in [
            "bin",
            "dev",
            "etc",
            "lib",
            "lib/modules",
            "lib64",
            "proc",
            "sys",
            "tmp",
        ] {
            archive.directory(directory);
        }
        archive.file("bin/busybox", &read(&programs.busybox)?);
        for applet in applets(&programs.busybox)? {
            archive.symlink(&format!("bin/{applet}"), "busybox");
        }
        for name in self.guest_programs() {
            let content = read(&programs.guest_bin.join(name))?;
            archive.file(&format!("bin/{name}"), &content);
        }
        archive.symlink("init", "bin/guest");

        let mut list = String::new();
        if !self.modules.is_empty() {
            let tree = ModuleTree::open(&programs.modules)?;
            for module in tree.load_order(&self.modules)? {
                let path = format!("lib/modules/{}.ko", module.name);
                archive.file(&path, &module.image);
                list += &format!("/{path}\n");
            }
        }
        archive.file("etc/modules", list.as_bytes());
        for (path, content) in &self.files {
            archive.file(path, content);
        }
        Ok(archive.finish())
    }

    fn guest_programs(&self) -> impl Iterator<Item = &str> {
        let further = self.programs.iter().map(String::as_str);
        std::iter::once("guest").chain(further)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::io("read", path))
}

/// Asks busybox what it can do, apart from being itself.
fn applets(busybox: &Path) -> Result<Vec<String>> {
    let output = Command::new(busybox)
        .arg("--list")
        .output()
        .map_err(Error::io("run", busybox))?;
    let names = String::from_utf8_lossy(&output.stdout);
    let names = names.lines().filter(|&name| name != "busybox");
    Ok(names.map(str::to_owned).collect())
}
