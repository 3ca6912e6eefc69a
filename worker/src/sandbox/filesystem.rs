//! The file system, by Landlock: nothing of it, save that the files of our own sockets can be
//! removed.
//!
//! The filter of system calls lets none open a file. This is the second lock on the same door, and
//! stands where the filter only logs. It also keeps signals inside, and TCP out.

use std::os::fd::BorrowedFd;

use anyhow::Context;
use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::protocol::Landlock;

/// What is forbidden, as of Linux 6.12. Older kernels forbid what they know.
const KNOWN: ABI = ABI::V6;

/// Forbids everything but to remove files in these folders.
pub(super) fn close(folders: &[BorrowedFd<'_>]) -> anyhow::Result<Landlock> {
    let status = restrict(folders).context("cannot enter Landlock")?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Full,
        RulesetStatus::PartiallyEnforced => Landlock::Partial,
        RulesetStatus::NotEnforced => Landlock::None,
    })
}

fn restrict(folders: &[BorrowedFd<'_>]) -> Result<RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    for folder in folders {
        rules = rules.add_rule(PathBeneath::new(folder, AccessFs::RemoveFile))?;
    }
    rules.restrict_self()
}
