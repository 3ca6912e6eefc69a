//! A control group for workers.

use std::fs;
use std::path::{Path, PathBuf};

use vgpud::api::Instance;

/// Where control groups of version 2 are mounted, alone or beside those of version 1, and one of
/// version 1. Where both are, each is tried by one test.
pub const NEW_OR_OLD: [&str; 3] = ["", "unified", "pids"];
pub const OLD_OR_NEW: [&str; 3] = ["pids", "unified", ""];

/// A control group for workers. Dropping it removes it, and what a failed test left in it.
pub struct Group(pub PathBuf);

impl Group {
    /// In the first of these hierarchies that lets us.
    pub fn make(name: &str, tried: &[&str]) -> Option<Self> {
        let made = tried.iter().find_map(|hierarchy| {
            let parent = Path::new("/sys/fs/cgroup").join(hierarchy);
            // Else it is a file system of another kind that hierarchies are mounted in.
            if !parent.join("cgroup.procs").exists() {
                return None;
            }
            let path = parent.join(format!("vgpud-{name}-{}", std::process::id()));
            fs::create_dir(&path).ok().map(|()| Self(path))
        });
        if made.is_none() {
            eprintln!("NOT RUN: control groups: none of {tried:?} in /sys/fs/cgroup can be used");
        }
        made
    }

    /// Bounds the memory of all in it, counted for each, if the hierarchy can do that.
    pub fn limit_memory(&self, bytes: u64) -> bool {
        // Version 2 counts for each only where it is told to.
        let _ = fs::write(self.0.join("cgroup.subtree_control"), "+memory");
        let limits = ["memory.max", "memory.limit_in_bytes"].map(|name| self.0.join(name));
        let mut there = limits.iter().filter(|limit| limit.exists());
        let is_limited = there.any(|limit| fs::write(limit, bytes.to_string()).is_ok());
        if !is_limited {
            eprintln!("NOT RUN: {} cannot limit memory", self.0.display());
        }
        is_limited
    }

    pub fn members(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap().map(Result::unwrap);
        let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        folders
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }

    pub fn processes_of(&self, instance: &Instance) -> String {
        let path = self.0.join(instance.uuid.to_string()).join("cgroup.procs");
        fs::read_to_string(path).unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for member in self.members() {
            let _ = fs::remove_dir(self.0.join(member));
        }
        let _ = fs::remove_dir(&self.0);
    }
}
