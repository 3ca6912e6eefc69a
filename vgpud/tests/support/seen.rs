//! The mdev tree without mounting it.

use std::path::Path;

use rustix::io::Errno;
use vgpud::client::Client;
use vgpud::mdev_tree::{Kind, Tree};

use super::mdev::{device_path, type_path};
use super::{Daemon, uuid};

/// A daemon, and the tree as it is seen by its client.
pub struct Seen {
    pub daemon: Daemon,
    pub tree: Tree,
}

impl Seen {
    pub fn new(config: &str) -> Self {
        Self {
            daemon: Daemon::start_with(config),
            tree: Tree::new(Path::new("/etc/mdevctl.d"), Path::new("/usr/lib/mdevctl")),
        }
    }

    pub fn client(&self) -> &Client {
        &self.daemon.client
    }

    pub fn find(&self, path: &str) -> Result<(Kind, u16), Errno> {
        let found = self.tree.find(self.client(), &names(path));
        found.map(|meta| (meta.kind, meta.mode))
    }

    pub fn list(&self, path: &str) -> Result<Vec<String>, Errno> {
        let listed = self.tree.list(self.client(), &names(path))?;
        for (name, kind) in &listed {
            let found = self.find(&format!("{path}/{name}"));
            assert_eq!(found.unwrap().0, *kind, "{path}/{name}");
        }
        Ok(listed.into_iter().map(|(name, _)| name).collect())
    }

    pub fn link(&self, path: &str) -> Result<String, Errno> {
        let target = self.tree.target(self.client(), &names(path));
        target.map(|target| target.display().to_string())
    }

    pub fn read(&self, path: &str) -> Result<String, Errno> {
        let content = self.tree.read(self.client(), &names(path));
        content.map(|content| String::from_utf8(content).unwrap())
    }

    pub fn write(&self, path: &str, data: impl AsRef<[u8]>) -> Result<(), Errno> {
        self.tree
            .write(self.client(), &names(path), 0, data.as_ref())
    }

    pub fn create(&self, type_name: &str, text: impl AsRef<[u8]>) -> Result<(), Errno> {
        self.write(&format!("{}/create", type_path(type_name)), text)
    }

    pub fn remove(&self, number: u128, text: &str) -> Result<(), Errno> {
        self.write(&device_path(uuid(number), "remove"), text)
    }
}

pub fn names(path: &str) -> Vec<String> {
    let names = path.split('/').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

pub fn text(number: u128) -> String {
    uuid(number).to_string()
}
