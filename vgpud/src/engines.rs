//! Engines that vGPUs share: who has one when.
//!
//! - `settings`: what a vGPU is given, as attributes,
//! - `parent`: one engine: what the scheduler decides becomes leases,
//! - `client`: one worker that shares it: its pages, its lease, what it has used,
//! - `measure`: what it has used as the kernel says; `leeway`: what it may leave unused,
//! - `thread`: the thread that does what is due. Nothing is while nobody uses an engine.
//!
//! Not here: how is decided (`mdev::sched`), what a worker does with a lease (`mdev::engine`), and
//! what policies mean to users (`docs/scheduling.md`).

mod client;
mod leeway;
mod measure;
mod parent;
pub(crate) mod settings;
#[cfg(test)]
mod tests;
mod thread;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mdev::engine::now;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::mpsc::UnboundedSender;
use uuid::Uuid;

use crate::api;
use crate::catalogue::ParentSpec;
use crate::error::Error;
use crate::worker_process::Worker;

pub(crate) use parent::Notice;
use parent::ParentEngine;
use settings::{Given, refused};

/// The engines of all parents. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Engines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    epoll: OwnedFd,
    /// Has the thread look again.
    wake: OwnedFd,
}

#[derive(Debug)]
struct State {
    engines: Vec<ParentEngine>,
    notices: Option<UnboundedSender<(String, Notice)>>,
    is_ending: bool,
}

impl Engines {
    /// The engines of `parents`, each with its policy, and the thread.
    pub(crate) fn new(
        parents: &[ParentSpec],
        policy: impl Fn(&str) -> Option<api::Policy>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(
            &epoll,
            &wake,
            EventData::new_u64(thread::WAKE),
            EventFlags::IN,
        )?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                engines: Vec::new(),
                notices: None,
                is_ending: false,
            }),
            epoll,
            wake,
        });
        thread::start(Arc::clone(&shared))?;
        let engines = Self(shared);
        for parent in parents {
            engines.add(parent, policy(&parent.name))?;
        }
        Ok(engines)
    }

    /// A parent has come: its engine, if it has one, is shared from now on. One that is there stays.
    pub(crate) fn add(&self, parent: &ParentSpec, policy: Option<api::Policy>) -> io::Result<()> {
        let mut state = self.0.state();
        let Some(spec) = parent.engine else {
            return Ok(());
        };
        if state.engine(&parent.name).is_none() {
            let policy = policy.unwrap_or(spec.policy);
            let engine = ParentEngine::new(&parent.name, spec, policy, now());
            state.engines.push(engine.map_err(io::Error::other)?);
        }
        Ok(())
    }

    /// Who is told of what is to be done about workers.
    pub(crate) fn tell(&self, notices: UnboundedSender<(String, Notice)>) {
        self.0.state().notices = Some(notices);
    }

    /// Whether a parent has an engine.
    pub(crate) fn has(&self, parent: &str) -> bool {
        self.0.state().engine(parent).is_some()
    }

    /// A worker shares the engine of its parent from now on: the socket that it is to get. `None` if
    /// the parent has none.
    pub(crate) fn join(
        &self,
        parent: &str,
        uuid: Uuid,
        given: Given,
        worker: &Arc<Worker>,
    ) -> io::Result<Option<OwnedFd>> {
        let mut state = self.0.state();
        let Some((index, engine)) = state.engine(parent) else {
            return Ok(None);
        };
        let (slot, theirs) = engine.join(now(), uuid, given, Arc::clone(worker))?;
        let added = engine.clients.get(&slot).map(|client| {
            let data = EventData::new_u64(thread::data(index, slot));
            epoll::add(&self.0.epoll, &client.socket, data, EventFlags::IN)
        });
        if let Some(Err(error)) = added {
            engine.leave(now(), slot);
            return Err(error.into());
        }
        Ok(Some(theirs))
    }

    /// A worker is gone, or another one takes over.
    pub(crate) fn leave(&self, uuid: Uuid, worker: &Arc<Worker>) {
        let mut state = self.0.state();
        for engine in &mut state.engines {
            if let Some(slot) = engine.slot_of(uuid, Some(worker)) {
                engine.leave(now(), slot);
            }
        }
        drop(state);
        self.0.wake();
    }

    /// Gives a vGPU other settings, if it shares an engine just now.
    pub(crate) fn set(&self, uuid: Uuid, given: Given) -> Result<(), Error> {
        let mut state = self.0.state();
        for engine in &mut state.engines {
            if let Some(slot) = engine.slot_of(uuid, None) {
                engine.set(now(), slot, given).map_err(refused)?;
            }
        }
        drop(state);
        self.0.wake();
        Ok(())
    }

    /// How a parent's engine is shared; `None` if it has none.
    pub(crate) fn policy(&self, parent: &str) -> Option<api::Policy> {
        let mut state = self.0.state();
        state.engine(parent).map(|(_, engine)| engine.policy)
    }

    /// Shares it in another way.
    pub(crate) fn set_policy(&self, parent: &str, policy: api::Policy) -> Result<(), Error> {
        let mut state = self.0.state();
        if let Some((_, engine)) = state.engine(parent) {
            engine.set_policy(now(), policy).map_err(refused)?;
        }
        drop(state);
        self.0.wake();
        Ok(())
    }

    /// Every engine, as it is now.
    pub(crate) fn told(&self) -> Vec<api::Engine> {
        let mut state = self.0.state();
        let engines = state.engines.iter_mut();
        engines.map(|engine| engine.told(now())).collect()
    }

    /// The decisions on a parent's engine after that one; `None` if it has none.
    pub(crate) fn slices_after(&self, parent: &str, id: u64) -> Option<Vec<api::EngineSlice>> {
        let mut state = self.0.state();
        state
            .engine(parent)
            .map(|(_, engine)| engine.slices_after(id))
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        self.0.state().is_ending = true;
        self.0.wake();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Full or not, it can be read.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl State {
    fn engine(&mut self, parent: &str) -> Option<(usize, &mut ParentEngine)> {
        let mut engines = self.engines.iter_mut().enumerate();
        engines.find(|(_, engine)| engine.parent == parent)
    }
}
