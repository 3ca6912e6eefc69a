//! What the daemon has, no older than the question: who asks while an answer is on its way shares
//! the next one with all others who wait.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use uuid::Uuid;

use crate::api::{Parent, Type};
use crate::client::{Client, ClientError};

use super::refusal::errno_of;

/// The daemon's parents, their types and their vGPUs at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    parents: Vec<Parent>,
}

impl Snapshot {
    /// Parents as mdev has them: those that offer something, or have offered it.
    pub(super) fn parents(&self) -> impl Iterator<Item = &Parent> {
        let parents = self.parents.iter();
        parents.filter(|parent| !parent.types.is_empty() || !parent.children.is_empty())
    }

    pub(super) fn parent(&self, name: &str) -> Option<&Parent> {
        self.parents().find(|parent| parent.name == name)
    }

    pub(super) fn type_of(&self, parent: &str, name: &str) -> Option<&Type> {
        let mut types = self.parent(parent)?.types.iter();
        types.find(|offered| offered.name == name)
    }

    /// The parent that a vGPU is on.
    pub(super) fn parent_of(&self, uuid: Uuid) -> Option<&Parent> {
        self.parents()
            .find(|parent| parent.children.contains(&uuid))
    }
}

type Answer = Result<Arc<Snapshot>, Errno>;

#[derive(Debug)]
pub(super) struct Snapshots {
    state: Mutex<State>,
    arrival: Condvar,
}

#[derive(Debug)]
struct State {
    /// How many questions were put to the daemon.
    asked: u64,
    /// The number of the last one that was answered.
    answered: u64,
    is_asking: bool,
    answer: Answer,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                asked: 0,
                answered: 0,
                is_asking: false,
                answer: Err(Errno::IO),
            }),
            arrival: Condvar::new(),
        }
    }
}

/// Takes note that a question has ended, however it did.
struct Asking<'a> {
    snapshots: &'a Snapshots,
    number: u64,
    answer: Answer,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut state = self.snapshots.lock();
        state.is_asking = false;
        state.answered = self.number;
        state.answer = self.answer.clone();
        self.snapshots.arrival.notify_all();
    }
}

impl Snapshots {
    /// What there is, asked of the daemon after this was called. Where no daemon is, nothing is
    /// there; EIO if one is, and does not answer.
    pub(super) fn take(&self, client: &Client) -> Answer {
        let mut state = self.lock();
        let enough = state.asked + 1;
        loop {
            if state.answered >= enough {
                return state.answer.clone();
            }
            if !state.is_asking {
                break;
            }
            state = self
                .arrival
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.is_asking = true;
        state.asked += 1;
        let mut asking = Asking {
            snapshots: self,
            number: state.asked,
            answer: Err(Errno::IO),
        };
        drop(state);
        asking.answer = ask(client);
        asking.answer.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ask(client: &Client) -> Answer {
    match ask_parents(client) {
        Ok(parents) => Ok(Arc::new(Snapshot { parents })),
        Err(ClientError::Unreachable { .. }) => Ok(Arc::default()),
        Err(error) => {
            tracing::warn!("the daemon does not say what it has: {error}");
            Err(errno_of(&error))
        }
    }
}

/// Every parent. A type that is offered no more, and of which there still are vGPUs, is among its
/// types: they would lead nowhere without, and mdevctl does not see such.
fn ask_parents(client: &Client) -> Result<Vec<Parent>, ClientError> {
    let mut parents = client.parents()?;
    if !parents
        .iter()
        .any(|parent| orphans(parent).next().is_some())
    {
        return Ok(parents);
    }
    let instances = client.instances()?;
    for parent in &mut parents {
        for uuid in orphans(parent).collect::<Vec<_>>() {
            let Some(instance) = instances.iter().find(|instance| instance.uuid == uuid) else {
                continue;
            };
            let name = &instance.type_name;
            let known = parent.types.iter_mut().find(|kept| kept.name == *name);
            match known {
                Some(kept) => kept.children.push(uuid),
                None => parent.types.push(withdrawn(&parent.name, name, uuid)),
            }
        }
    }
    Ok(parents)
}

/// Those of a parent that are of none of its types.
fn orphans(parent: &Parent) -> impl Iterator<Item = Uuid> {
    let is_known = |uuid: &Uuid| parent.types.iter().any(|of| of.children.contains(uuid));
    parent
        .children
        .iter()
        .copied()
        .filter(move |uuid| !is_known(uuid))
}

fn withdrawn(parent: &str, name: &str, child: Uuid) -> Type {
    Type {
        parent: parent.to_owned(),
        name: name.to_owned(),
        base: name.to_owned(),
        title: name.to_owned(),
        description: "It is offered no more".to_owned(),
        device_api: "vfio-pci".to_owned(),
        attributes: Vec::new(),
        video_memory: 0,
        available_instances: 0,
        children: vec![child],
    }
}
