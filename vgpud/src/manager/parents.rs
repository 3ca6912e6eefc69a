//! What there is to create vGPUs on. Physical devices come and go while the daemon runs: they are
//! looked for whenever someone asks what there is.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use mdev::host::PciAddress;

use crate::api::Parent;
use crate::blocking::blocking;
use crate::catalogue::{OfferedType, ParentSpec, physical};
use crate::error::Error;

use super::{Manager, engines};

impl Manager {
    /// Every parent, with its types and pools as they are now.
    pub async fn parents(&self) -> Vec<Parent> {
        let manager = self.clone();
        blocking(move || manager.parents_now()).await
    }

    /// The same. Blocks.
    pub(crate) fn parents_now(&self) -> Vec<Parent> {
        self.look_for_parents();
        let table = self.table();
        let parents = self.specs().into_iter();
        parents.map(|parent| table.describe(&parent)).collect()
    }

    /// One parent.
    pub async fn parent(&self, name: &str) -> Result<Parent, Error> {
        self.look_for(name).await;
        let parent = self.parent_spec(name)?;
        Ok(self.table().describe(&parent))
    }

    /// Looks for devices that have come or gone, if that is the name of one.
    pub(super) async fn look_for(&self, name: &str) {
        if name.parse::<PciAddress>().is_ok() {
            let manager = self.clone();
            blocking(move || manager.look_for_parents()).await;
        }
    }

    /// Looks for devices that have come or gone. Blocks.
    fn look_for_parents(&self) {
        let inner = &self.0;
        let _looking = inner.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let found = physical::find(&inner.config, &inner.paths.bus(), drivers::parent_driver);
        let found: Vec<_> = found.into_iter().map(|found| found.anyhow()).collect();
        let mut table = self.table();
        let mut parents = inner
            .parents
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let entries = table.entries();
        let used = entries.map(|entry| entry.record.request.parent.as_str());
        let next = merge(&parents, found, used.collect());
        if *parents == next {
            return;
        }
        let mut policies = None;
        for parent in next.iter().filter(|parent| !parents.contains(parent)) {
            tracing::info!("parent {}: {}", parent.name, parent.description);
            let policies =
                policies.get_or_insert_with(|| engines::read_policies(&inner.paths.policies()));
            let policy = policies.get(&parent.name).copied();
            if let Err(error) = inner.engines.add(parent, policy) {
                tracing::error!("the engine of {} cannot be shared: {error}", parent.name);
            }
        }
        *parents = next;
        table.set_parents(&parents);
    }

    /// What each parent is, as was seen last.
    pub(super) fn specs(&self) -> Vec<Arc<ParentSpec>> {
        let parents = self.0.parents.read();
        parents.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn parent_spec(&self, name: &str) -> Result<Arc<ParentSpec>, Error> {
        let mut parents = self.specs().into_iter();
        let parent = parents.find(|parent| parent.name == name);
        parent.ok_or_else(|| Error::NoParent(name.to_owned()))
    }

    pub(super) fn offered(&self, parent: &str, type_name: &str) -> Result<OfferedType, Error> {
        let spec = self.parent_spec(parent)?;
        let offered = spec.find_type(type_name).cloned();
        offered.ok_or_else(|| Error::NoType {
            parent: parent.to_owned(),
            type_name: type_name.to_owned(),
        })
    }
}

/// The parents after physical devices were `found`. One that is gone while vGPUs use it stays, and
/// offers nothing.
fn merge(
    before: &[Arc<ParentSpec>],
    found: Vec<ParentSpec>,
    used: BTreeSet<&str>,
) -> Vec<Arc<ParentSpec>> {
    let is_address = |name: &str| name.parse::<PciAddress>().is_ok();
    let names: BTreeSet<_> = found.iter().map(|parent| parent.name.clone()).collect();
    let gone = used.into_iter();
    let gone = gone.filter(|name| is_address(name) && !names.contains(*name));
    let gone: Vec<_> = gone.map(physical::gone).collect();
    let mut physical: Vec<_> = found.into_iter().chain(gone).map(Arc::new).collect();
    physical.sort_by(|one, other| one.name.cmp(&other.name));
    let others = before.iter().filter(|parent| !is_address(&parent.name));
    others.cloned().chain(physical).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(names: &[&str]) -> Vec<ParentSpec> {
        names.iter().map(|name| physical::gone(name)).collect()
    }

    #[test]
    fn devices_come_and_go_and_those_with_vgpus_stay() {
        let (one, two) = ("0000:00:01.0", "0000:00:02.0");
        let soft = || {
            specs(&["soft0"])
                .into_iter()
                .map(Arc::new)
                .collect::<Vec<_>>()
        };
        let names = |parents: &[Arc<ParentSpec>]| {
            let names = parents.iter().map(|parent| parent.name.clone());
            names.collect::<Vec<_>>()
        };
        let none = BTreeSet::new;
        let both = merge(&soft(), specs(&[two, one]), none());
        assert_eq!(names(&both), ["soft0", one, two]);
        let left = merge(&both, specs(&[two]), none());
        assert_eq!(names(&left), ["soft0", two]);
        let used = || BTreeSet::from(["soft0", one]);
        let kept = merge(&both, specs(&[two]), used());
        assert_eq!(names(&kept), ["soft0", one, two]);
        assert!(kept[1].description.contains("vgpu bind"));
        assert_eq!(names(&merge(&kept, specs(&[two]), none())), ["soft0", two]);
        let back = merge(&kept, specs(&[two, one]), used());
        assert_eq!(names(&back), ["soft0", one, two]);
    }
}
