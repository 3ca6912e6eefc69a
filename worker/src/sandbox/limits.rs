//! Limits on what the process takes from the machine, and the control group it counts to.
//!
//! Not here: RLIMIT_AS. Guest memory is mapped into the process, as much as a VMM wants to share.

use std::fs;
use std::path::Path;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::arguments::SandboxArguments;

/// What a program may take, where nothing else is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most open descriptors.
    pub descriptors: u64,
    /// Most threads of a user who has no process but this one, or few.
    pub threads: u64,
}

impl Bounds {
    /// Of one vGPU. A device's eventfds, at most 2,048 for MSI-X, one message's 253 and a few of each
    /// asker fit in; a client that leaves descriptors here without end meets the first. Of threads a
    /// worker has 30 at most.
    pub const ONE: Self = Self {
        descriptors: 4096,
        threads: 256,
    };

    /// Of all vGPUs of a physical device.
    pub const MANY: Self = Self {
        descriptors: 1 << 16,
        threads: 8192,
    };
}

/// Sets the limits. None can be raised again without privileges.
pub(super) fn set(arguments: &SandboxArguments, bounds: &Bounds) -> anyhow::Result<()> {
    at_most(Resource::Nofile, bounds.descriptors)?;
    if !arguments.debuggable {
        // A core file has the guest's memory in it.
        at_most(Resource::Core, 0)?;
    }
    if arguments.user.is_some() {
        at_most(Resource::Nproc, bounds.threads)?;
    }
    if let Some(bytes) = arguments.memory_limit {
        // Heap and stacks, and neither shared mappings nor memory files.
        at_most(Resource::Data, bytes)?;
    }
    Ok(())
}

/// Lets memory be locked for a device, so many bytes of it and no more.
pub fn lock(bytes: u64) -> anyhow::Result<()> {
    let both = Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    setrlimit(Resource::Memlock, both)
        .with_context(|| format!("cannot have the limit on locked memory be {bytes} bytes"))
}

/// Joins a control group, which no thread is in by another way.
pub(super) fn join(cgroup: &Path) -> anyhow::Result<()> {
    let members = cgroup.join("cgroup.procs");
    // 0 is whoever writes it: cgroups(7).
    fs::write(&members, "0").with_context(|| format!("cannot join {}", cgroup.display()))
}

/// Limits a resource of this process, for good; a limit that is lower already stays.
pub fn at_most(resource: Resource, limit: u64) -> anyhow::Result<()> {
    let limit = getrlimit(resource)
        .maximum
        .map_or(limit, |there| there.min(limit));
    let both = Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    setrlimit(resource, both).with_context(|| format!("cannot limit {resource:?} to {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_joins_a_control_group_by_its_own_number() {
        let group = tempfile::tempdir().unwrap();
        join(group.path()).unwrap();
        let members = fs::read_to_string(group.path().join("cgroup.procs"));
        assert_eq!(members.unwrap(), "0");
        let error = join(&group.path().join("none")).unwrap_err();
        assert!(error.to_string().starts_with("cannot join "), "{error}");
    }
}
