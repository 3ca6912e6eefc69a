//! Who the process is, and what it may do by that.
//!
//! All of it belongs to a thread and passes to those that it starts: it is done while there is one.

use anyhow::Context;
use rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use crate::arguments::Owner;

/// Becomes another user, in no group but their own. Only root may.
pub(super) fn become_user(owner: Owner) -> anyhow::Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    set_thread_groups(&[])
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid))
        .with_context(|| format!("cannot become the user {}:{}", owner.uid, owner.gid))
}

/// Gives up to gain capabilities by starting a program. Only who has some may, and nobody else
/// needs to: [`give_up_capabilities`] sees to it as well.
pub(super) fn shrink_bounding_set() {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        // The kernel knows about forty, and refuses the others.
        if remove_capability_from_bounding_set(capability).is_err() {
            return;
        }
    }
}

/// Gives up every capability, and to gain any by starting a program.
pub(super) fn give_up_capabilities() -> anyhow::Result<()> {
    // Kernels before 4.3 have none.
    let _ = clear_ambient_capability_set();
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).context("cannot give up capabilities")?;
    set_no_new_privs(true).context("cannot give up new privileges")
}

/// What is left, a bit for each.
pub(super) fn capabilities_left() -> anyhow::Result<u64> {
    let sets = capabilities(None).context("cannot read the capabilities")?;
    let left = sets.effective | sets.permitted | sets.inheritable;
    Ok(left.bits())
}

/// Nobody of the same user may look into the process, or stop it and change it.
pub(super) fn forbid_debuggers() -> anyhow::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("cannot keep debuggers away")
}
