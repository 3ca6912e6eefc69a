//! What there is to create vGPUs on. Physical devices come and go while the daemon runs: they are
//! looked for whenever someone asks what there is.

use std::collections::{BTreeMap, BTreeSet};
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
        let before = self.specs();
        let is_new = |found: &ParentSpec| before.iter().all(|parent| **parent != *found);
        // What blocks is read before the table is locked, of which all wait.
        let policies = match found.iter().any(is_new) {
            true => engines::read_policies(&inner.paths.policies()),
            false => engines::Policies::new(),
        };
        let mut table = self.table();
        let mut parents = inner
            .parents
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let used = table.entries().map(|entry| {
            let parent = entry.record.request.parent.as_str();
            (parent, entry.is_served())
        });
        let mut uses = Uses::new();
        for (parent, is_served) in used {
            *uses.entry(parent).or_default() |= is_served;
        }
        let next = merge(&parents, found, &uses);
        if *parents == next {
            return;
        }
        for parent in next.iter().filter(|parent| !parents.contains(parent)) {
            tracing::info!("parent {}: {}", parent.name, parent.description);
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

/// The parents that have vGPUs, and whether one of those is served.
type Uses<'a> = BTreeMap<&'a str, bool>;

/// The parents after physical devices were `found`. One that is gone while vGPUs use it stays, and
/// offers nothing; but one that serves vGPUs is what it was, whatever becomes of its neighbours: the
/// daemon has it.
fn merge(
    before: &[Arc<ParentSpec>],
    found: Vec<ParentSpec>,
    uses: &Uses<'_>,
) -> Vec<Arc<ParentSpec>> {
    let is_address = |name: &str| name.parse::<PciAddress>().is_ok();
    let names: BTreeSet<_> = found.iter().map(|parent| parent.name.clone()).collect();
    let gone = uses.keys();
    let gone = gone.filter(|name| is_address(name) && !names.contains(**name));
    let gone: Vec<_> = gone.map(|name| physical::gone(name)).collect();
    let now = found.into_iter().chain(gone).map(|parent| {
        let is_served = uses.get(parent.name.as_str()).copied().unwrap_or(false);
        let mut former = before.iter().filter(|former| former.host.is_some());
        let former = former.find(|former| former.name == parent.name);
        match former.filter(|_| is_served && parent.host.is_none()) {
            Some(former) => Arc::clone(former),
            None => Arc::new(parent),
        }
    });
    let mut physical: Vec<_> = now.collect();
    physical.sort_by(|one, other| one.name.cmp(&other.name));
    let others = before.iter().filter(|parent| !is_address(&parent.name));
    others.cloned().chain(physical).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::HostParent;

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
        let none = &Uses::new();
        let both = merge(&soft(), specs(&[two, one]), none);
        assert_eq!(names(&both), ["soft0", one, two]);
        let left = merge(&both, specs(&[two]), none);
        assert_eq!(names(&left), ["soft0", two]);
        let used = &Uses::from([("soft0", true), (one, false)]);
        let kept = merge(&both, specs(&[two]), used);
        assert_eq!(names(&kept), ["soft0", one, two]);
        assert!(kept[1].description.contains("vgpu bind"));
        assert_eq!(names(&merge(&kept, specs(&[two]), none)), ["soft0", two]);
        let back = merge(&kept, specs(&[two, one]), used);
        assert_eq!(names(&back), ["soft0", one, two]);
    }

    #[test]
    fn a_device_that_serves_vgpus_is_what_it_was() {
        let name = "0000:00:01.0";
        let given = ParentSpec {
            host: Some(HostParent {
                address: name.parse().unwrap(),
                address_bits: 32,
                lock_limit: None,
                settings: Vec::new(),
            }),
            ..physical::gone(name)
        };
        let before = [Arc::new(given.clone())];
        let hosts = |found: Vec<ParentSpec>, is_served| {
            let now = merge(&before, found, &Uses::from([(name, is_served)]));
            now.iter()
                .map(|parent| parent.host.is_some())
                .collect::<Vec<_>>()
        };
        // A neighbour of it was given back, or nothing is to be seen at all.
        for found in [specs(&[name]), Vec::new()] {
            assert_eq!(hosts(found.clone(), true), [true]);
            assert_eq!(hosts(found, false), [false]);
        }
        // What else has become of it is believed.
        let mut other = given;
        other.description = "another".to_owned();
        let now = merge(&before, vec![other], &Uses::from([(name, true)]));
        assert_eq!(now[0].description, "another");
    }
}
