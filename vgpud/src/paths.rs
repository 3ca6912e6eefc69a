//! Where the daemon keeps and finds things. All hangs on one root, which tests move.

use std::path::{Path, PathBuf};

use mdev::host::PciBus;
use uuid::Uuid;

use crate::functions::Name;

/// Where the daemon keeps and finds things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
    run: PathBuf,
    state: PathBuf,
    definitions: PathBuf,
}

/// Longest path of a UNIX socket (`sun_path`, without its zero).
const MAX_SOCKET_PATH: usize = 107;

/// Longest name of a socket, in its folder: `.new/UUID.keyboard.sock`.
const MAX_SOCKET_NAME: usize = 55;

impl Paths {
    /// The usual places under `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            run: root.join("run/vgpud"),
            state: root.join("var/lib/vgpud"),
            definitions: root.join("etc/mdevctl.d"),
        }
    }

    /// Moves some of the places; each is under the root too.
    pub fn moved(
        mut self,
        run: Option<&Path>,
        state: Option<&Path>,
        definitions: Option<&Path>,
    ) -> Self {
        for (place, moved) in [
            (&mut self.run, run),
            (&mut self.state, state),
            (&mut self.definitions, definitions),
        ] {
            if let Some(path) = moved {
                *place = self.root.join(path.strip_prefix("/").unwrap_or(path));
            }
        }
        self
    }

    /// The configuration, if none is named.
    pub fn config(&self) -> PathBuf {
        self.root.join("etc/vgpud/vgpud.toml")
    }

    /// Sockets and logs; gone after a reboot.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Sockets that are not yet open to anyone.
    pub fn new_sockets(&self) -> PathBuf {
        self.run.join(".new")
    }

    /// The API's socket.
    pub fn api(&self) -> PathBuf {
        self.run.join("api.sock")
    }

    /// Where `vgpu-mdev` mounts its tree.
    pub fn mdev(&self) -> PathBuf {
        self.run.join("mdev")
    }

    /// Held by the daemon while it lives.
    pub fn lock(&self) -> PathBuf {
        self.run.join("lock")
    }

    /// Where a VMM connects to an instance, or to a function of it.
    pub fn socket(&self, name: impl Into<Name>) -> PathBuf {
        self.run.join(format!("{}.sock", name.into()))
    }

    /// Where a worker is asked.
    pub fn control(&self, name: impl Into<Name>) -> PathBuf {
        self.run.join(format!("{}.control", name.into()))
    }

    /// The same of a worker that another is to take over from.
    pub fn control_aside(&self, name: impl Into<Name>) -> PathBuf {
        self.run.join(format!("{}.aside", name.into()))
    }

    /// Where the worker of a physical device is asked, whose parent is called so.
    pub fn device_control(&self, parent: &str) -> PathBuf {
        self.run.join(format!("{parent}.control"))
    }

    /// What it says.
    pub fn device_log(&self, parent: &str) -> PathBuf {
        self.run.join(format!("{parent}.log"))
    }

    /// Where viewers of a head connect.
    pub fn console(&self, uuid: Uuid, head: u32) -> PathBuf {
        self.run.join(format!("{}.vnc", of_head(uuid, head)))
    }

    /// What is known of the process behind it.
    pub fn console_note(&self, uuid: Uuid, head: u32) -> PathBuf {
        self.run.join(format!("{}.console", of_head(uuid, head)))
    }

    /// What a worker says.
    pub fn log(&self, name: impl Into<Name>) -> PathBuf {
        self.run.join(format!("{}.log", name.into()))
    }

    /// One file for each instance.
    pub fn records(&self) -> PathBuf {
        self.state.join("instances")
    }

    /// How engines are shared, where that was set while a daemon ran.
    pub fn policies(&self) -> PathBuf {
        self.state.join("policies.json")
    }

    /// A folder for each parent, in it a file for each definition.
    pub fn definitions(&self) -> &Path {
        &self.definitions
    }

    /// The PCI devices of the host, under the root.
    pub fn bus(&self) -> PciBus {
        PciBus::new(&self.root)
    }

    /// A path of the host, under the root.
    pub fn host(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Whether sockets of UUIDs fit where they are to be.
    pub fn check(&self) -> Result<(), String> {
        let length = self.run.as_os_str().len() + 1 + MAX_SOCKET_NAME;
        if length > MAX_SOCKET_PATH {
            let most = MAX_SOCKET_PATH - 1 - MAX_SOCKET_NAME;
            return Err(format!(
                "{} is too long for sockets: at most {most} bytes",
                self.run.display()
            ));
        }
        Ok(())
    }
}

/// The first head is the vGPU itself.
fn of_head(uuid: Uuid, head: u32) -> String {
    match head {
        0 => uuid.to_string(),
        _ => format!("{uuid}.{head}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_hangs_on_the_root() {
        let paths = Paths::new(Path::new("/r")).moved(Some(Path::new("/x")), None, None);
        let uuid = Uuid::nil();
        for path in [
            paths.config(),
            paths.api(),
            paths.lock(),
            paths.socket(uuid),
            paths.records(),
            paths.policies(),
            paths.definitions().to_owned(),
            paths.host("/dev/dri"),
        ] {
            assert!(path.starts_with("/r"), "{}", path.display());
        }
        assert_eq!(paths.run(), Path::new("/r/x"));
    }

    #[test]
    fn a_run_folder_leaves_room_for_sockets() {
        for (length, fits) in [(50, true), (51, true), (52, false)] {
            let run = "/".to_owned() + &"x".repeat(length - 1);
            let paths = Paths::new(Path::new("/")).moved(Some(Path::new(&run)), None, None);
            assert_eq!(paths.check().is_ok(), fits, "{length}");
        }
        let longest = Name {
            uuid: Uuid::nil(),
            function: Some(crate::functions::Function::Keyboard),
        };
        let longest = Paths::new(Path::new("/")).socket(longest);
        let longest = Path::new(".new").join(longest.file_name().unwrap());
        assert_eq!(longest.as_os_str().len(), MAX_SOCKET_NAME);
    }
}
