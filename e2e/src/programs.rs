//! Where the environment says that everything is. `./x` exports it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The programs and files that a guest is made of.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `VGPUD_QEMU`: starts like `qemu-system-x86_64`.
    pub qemu: PathBuf,
    /// `VGPUD_GUEST_KERNEL`: a bzImage.
    pub kernel: PathBuf,
    /// `VGPUD_GUEST_MODULES`: that kernel's `lib/modules/VERSION`.
    pub modules: PathBuf,
    /// `VGPUD_BUSYBOX`: static.
    pub busybox: PathBuf,
    /// `VGPUD_BIN`: the folder of our programs.
    pub bin: PathBuf,
    /// `VGPUD_GUEST_BIN`: the folder of the static programs that run in guests.
    pub guest_bin: PathBuf,
    /// `VGPUD_ACCEL`: QEMU's accelerator; `tcg` where unset.
    pub accel: String,
}

impl Programs {
    /// Reads the environment.
    pub fn from_env() -> Result<Self> {
        let path = |name| match env::var_os(name) {
            Some(value) if !value.is_empty() => Ok(PathBuf::from(value)),
            _ => Err(Error::Environment(name)),
        };
        Ok(Self {
            qemu: path("VGPUD_QEMU")?,
            kernel: path("VGPUD_GUEST_KERNEL")?,
            modules: path("VGPUD_GUEST_MODULES")?,
            busybox: path("VGPUD_BUSYBOX")?,
            bin: path("VGPUD_BIN")?,
            guest_bin: path("VGPUD_GUEST_BIN")?,
            accel: env::var("VGPUD_ACCEL").unwrap_or_else(|_| "tcg".to_owned()),
        })
    }

    /// The same with the newer kernel that `VGPUD_NEWER_KERNEL` has.
    pub fn with_newer_kernel(mut self) -> Result<Self> {
        const FOLDER: &str = "VGPUD_NEWER_KERNEL";
        let folder = env::var_os(FOLDER).map(PathBuf::from);
        let folder = folder.ok_or(Error::Environment(FOLDER))?;
        let trees = folder.join("modules");
        let mut found = fs::read_dir(&trees).map_err(Error::io("read", &trees))?;
        let tree = found.next().ok_or(Error::Environment(FOLDER))?;
        self.modules = tree.map_err(Error::io("read", &trees))?.path();
        self.kernel = folder.join("vmlinuz");
        Ok(self)
    }

    /// One of our own programs, such as `vgpu`.
    pub fn ours(&self, name: impl AsRef<Path>) -> PathBuf {
        self.bin.join(name)
    }
}
