//! What a worker is told to become, and the control group that is made for it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

use uuid::Uuid;

use crate::api::Exit;
use crate::config::{Bytes, WorkersConfig};
use crate::error::Error;
use crate::functions::Name;

/// What is said where there is too little memory: by Rust's library when an allocation fails; for
/// ENOMEM; and for EAGAIN, of a thread whose stack finds no room.
const TOO_LITTLE: [&str; 3] = [
    "memory allocation of ",
    "Cannot allocate memory",
    "Resource temporarily unavailable",
];

/// Where a control group counts whom the kernel ended for memory: of version 2, and of version 1.
const COUNTS: [&str; 2] = ["memory.events", "memory.oom_control"];

/// How one worker is confined from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Confinement {
    user: Option<u32>,
    cgroup: Option<PathBuf>,
    memory_limit: Option<u64>,
}

impl Confinement {
    pub(crate) fn new(config: &WorkersConfig, name: impl Into<Name>, user: Option<u32>) -> Self {
        let name = name.into();
        let parent = config.cgroup.as_ref();
        Self {
            user,
            cgroup: parent.map(|parent| parent.join(name.to_string())),
            memory_limit: config.memory_limit.map(|Bytes(bytes)| bytes),
        }
    }

    /// That of a physical device's worker, in which there may be so many vGPUs: each may have as much
    /// memory as one alone.
    pub(crate) fn of_device(
        config: &WorkersConfig,
        parent: &str,
        user: Option<u32>,
        places: u64,
    ) -> Self {
        let group = config.cgroup.as_ref();
        let memory_limit = config.memory_limit;
        Self {
            user,
            cgroup: group.map(|group| group.join(parent)),
            memory_limit: memory_limit.map(|Bytes(bytes)| bytes.saturating_mul(places.max(1))),
        }
    }

    /// What the worker is started with.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        if let Some(user) = self.user {
            arguments.push(format!("--user={user}").into());
        }
        if let Some(cgroup) = &self.cgroup {
            let mut argument = OsString::from("--cgroup=");
            argument.push(cgroup);
            arguments.push(argument);
        }
        if let Some(bytes) = self.memory_limit {
            arguments.push(format!("--memory-limit={bytes}").into());
        }
        arguments
    }

    /// Adds to a worker's last words that its memory is limited, if that is why it ended.
    pub(crate) fn explain(&self, words: String) -> String {
        match self.memory_limit {
            Some(bytes) if TOO_LITTLE.iter().any(|said| words.contains(said)) => {
                format!("{words}; workers.memory-limit lets it have {bytes} bytes of its own")
            }
            _ => words,
        }
    }

    /// Adds to what is known of a worker's end what its limits have to do with it.
    pub(crate) fn explain_exit(&self, exit: Exit) -> Exit {
        let mut reason = exit.reason;
        if self.ran_out_of_memory() {
            reason.push_str(", its control group out of memory");
        }
        Exit {
            reason,
            last_words: exit.last_words.map(|words| self.explain(words)),
            ..exit
        }
    }

    /// Whether the kernel ended it because its control group, or one above, was out of memory. It
    /// is asked before the group is removed.
    fn ran_out_of_memory(&self) -> bool {
        let Some(cgroup) = &self.cgroup else {
            return false;
        };
        let counts = COUNTS.iter().filter_map(|name| {
            let text = fs::read_to_string(cgroup.join(name)).ok()?;
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix("oom_kill ")?.parse::<u64>().ok())
        });
        counts.sum::<u64>() > 0
    }

    /// Makes its control group.
    pub(crate) fn prepare(&self) -> Result<(), Error> {
        let Some(cgroup) = &self.cgroup else {
            return Ok(());
        };
        match fs::create_dir(cgroup) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                let what = format!("make the control group {}", cgroup.display());
                Err(Error::os(what)(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes its control group, which is empty once the worker is gone.
    pub(crate) fn clean_up(&self) {
        let Some(cgroup) = &self.cgroup else {
            return;
        };
        match fs::remove_dir(cgroup) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("the control group {} stays: {error}", cgroup.display());
            }
            _ => {}
        }
    }
}

/// The same, of a worker that was started by what the configuration says.
pub(crate) fn explain(config: &WorkersConfig, words: String) -> String {
    Confinement::new(config, Uuid::nil(), None).explain(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_told_what_the_configuration_says() {
        let group = tempfile::tempdir().unwrap();
        let shown = group.path().display();
        let config: WorkersConfig = toml::from_str(&format!(
            "cgroup = \"{shown}\"\nmemory-limit = \"64M\"\nusers = {{ first = 7, count = 1 }}"
        ))
        .unwrap();
        let uuid = Uuid::from_u128(1);
        let confinement = Confinement::new(&config, uuid, Some(7));
        let expected = [
            "--user=7".to_owned(),
            format!("--cgroup={shown}/{uuid}"),
            "--memory-limit=67108864".to_owned(),
        ];
        assert_eq!(confinement.arguments(), expected.map(OsString::from));
        for _ in 0..2 {
            confinement.prepare().unwrap();
        }
        assert!(group.path().join(uuid.to_string()).is_dir());
        for _ in 0..2 {
            confinement.clean_up();
        }
        assert_eq!(fs::read_dir(group.path()).unwrap().count(), 0);
        assert!(Confinement::default().arguments().is_empty());
    }

    #[test]
    fn an_end_for_lack_of_memory_is_told_with_its_limit() {
        let limited: WorkersConfig = toml::from_str("memory-limit = \"12M\"").unwrap();
        for (words, is_explained) in [
            ("memory allocation of 65536 bytes failed", true),
            (
                "cannot start the thread 'accept': Resource temporarily unavailable (os error 11)",
                true,
            ),
            ("cannot: Cannot allocate memory (os error 12)", true),
            ("'device' panicked", false),
        ] {
            let told = explain(&limited, words.to_owned());
            assert_eq!(told.contains("memory-limit"), is_explained, "{told}");
            assert!(told.starts_with(words));
            assert_eq!(explain(&WorkersConfig::default(), words.to_owned()), words);
        }
    }
}
