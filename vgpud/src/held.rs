//! Physical devices that vGPUs stand on, held for as long as one of those is served.
//!
//! The daemon has a device's three files, and so has one worker, in whose process each vGPU is a seat
//! ([`crate::worker_process::life::Seat`]). It starts with the first vGPU and ends with the last one.
//! If it ends by itself the device is quieted before anything else is done about that, and the next
//! seat that is taken starts another worker with the same device.
//!
//! - [`process`]: the worker's process.

pub(crate) mod process;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mdev::host::HostFiles;
use worker::control::Control;

use crate::api::Exit;
use crate::catalogue::HostParent;
use crate::error::Error;
use crate::worker_process::confinement::Confinement;
use crate::worker_process::launch::Launcher;
use crate::worker_process::life::DYING;

use process::DeviceProcess;

/// The devices that are held, or were, by the names of their parents.
#[derive(Debug, Default)]
pub(crate) struct HeldDevices(Mutex<BTreeMap<String, Arc<HeldDevice>>>);

impl HeldDevices {
    /// The device of a parent, held or not.
    pub(crate) fn of(&self, parent: &str) -> Arc<HeldDevice> {
        let mut devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let device = devices.entry(parent.to_owned());
        Arc::clone(device.or_insert_with(|| Arc::new(HeldDevice::new(parent))))
    }

    /// Whether a process is the worker of one of them.
    pub(crate) fn have_process(&self, pid: u32) -> bool {
        let devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut processes = devices.values().filter_map(|device| device.process());
        processes.any(|process| process.identity.pid == pid)
    }
}

/// How a device's worker is started.
#[derive(Clone, Debug)]
pub(crate) struct DevicePlan {
    pub(crate) host: HostParent,
    pub(crate) confinement: Confinement,
}

/// One device.
#[derive(Debug)]
pub(crate) struct HeldDevice {
    /// That of its parent.
    name: String,
    state: Mutex<State>,
    /// How often a worker did not start. Changed under the lock of the state alone.
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Why the last worker that did not start did not.
    failure: Option<String>,
    /// Open, while there is a process or was one that is to be followed by another.
    files: Option<HostFiles>,
    /// It may have ended.
    process: Option<Arc<DeviceProcess>>,
}

impl HeldDevice {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: Mutex::default(),
            failures: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its worker, which may have ended.
    pub(crate) fn process(&self) -> Option<Arc<DeviceProcess>> {
        self.state().process.clone()
    }

    /// The worker that seats are taken in: the one that lives, or one that is started now. If another
    /// seat's did not start while this one waited, nor does this: it may have taken long. Blocks.
    pub(crate) fn worker(
        &self,
        launcher: &Launcher,
        plan: &DevicePlan,
    ) -> Result<Arc<DeviceProcess>, Error> {
        self.worker_since(self.failures(), launcher, plan)
    }

    fn failures(&self) -> u64 {
        self.failures.load(Ordering::SeqCst)
    }

    /// The same, for who came after so many had not started.
    fn worker_since(
        &self,
        failures: u64,
        launcher: &Launcher,
        plan: &DevicePlan,
    ) -> Result<Arc<DeviceProcess>, Error> {
        let mut state = self.state();
        if let Some(words) = &state.failure
            && failures != self.failures()
        {
            return Err(Error::DeviceStillborn(self.name.clone(), words.clone()));
        }
        if let Some(process) = &state.process {
            // One that is being killed takes nobody in any more.
            if !process.is_dying(DYING) {
                return Ok(Arc::clone(process));
            }
            let process = Arc::clone(process);
            state.reap(&self.name, &process);
        }
        let refused = |error| Error::Device(self.name.clone(), error);
        let files = match state.files.take() {
            Some(files) => files,
            None => HostFiles::open(&launcher.paths.bus(), plan.host.address).map_err(refused)?,
        };
        let process = launcher.start_device(&self.name, plan, &files);
        if let Err(error) = &process {
            // Whatever it did before.
            quiet(&self.name, &files);
            if let Error::DeviceStillborn(_, words) = error {
                state.failure = Some(words.clone());
                self.failures.fetch_add(1, Ordering::SeqCst);
            }
        }
        // They are kept if it does not start: whoever tries again has the same device.
        state.files = Some(files);
        let process = Arc::new(process?);
        state.failure = None;
        state.process = Some(Arc::clone(&process));
        Ok(process)
    }

    /// Takes note of the end of a worker: why it ended. The device is quiet then. Blocks.
    pub(crate) fn reap(&self, process: &Arc<DeviceProcess>) -> Exit {
        // Whoever starts another one has seen to it, and may have the lock for long.
        let known = process.known_exit();
        known.unwrap_or_else(|| self.state().reap(&self.name, process))
    }

    /// Takes in a worker that an earlier daemon started, and the device's files from it. Blocks.
    pub(crate) fn adopt(&self, process: DeviceProcess) -> Arc<DeviceProcess> {
        let mut state = self.state();
        state.take_files(&self.name, &process);
        let process = Arc::new(process);
        state.process = Some(Arc::clone(&process));
        process
    }

    /// Gets the device's files from a worker that was too slow when it was taken in. Whether there was
    /// need of that. Blocks.
    pub(crate) fn take_files_again(&self, process: &Arc<DeviceProcess>) -> bool {
        let mut state = self.state();
        let current = state.process.as_ref();
        let is_current = current.is_some_and(|current| Arc::ptr_eq(current, process));
        let is_needed = is_current && state.files.is_none() && !process.has_ended();
        if is_needed {
            state.take_files(&self.name, process);
        }
        is_needed
    }

    /// Ends the worker and gives the device back, unless it `is_used`, which is asked while no seat can
    /// be taken. Blocks.
    pub(crate) fn give_back(&self, is_used: impl FnOnce() -> bool) {
        let mut state = self.state();
        if is_used() {
            return;
        }
        if let Some(process) = state.process.take() {
            if !process.end() {
                tracing::error!("the worker of {} outlives SIGKILL", self.name);
                state.process = Some(process);
                return;
            }
            state.reap(&self.name, &process);
            process.clean_up();
        }
        if state.files.take().is_some() {
            tracing::info!("{} is given back: no vGPU on it runs", self.name);
        }
    }
}

impl State {
    /// Gets the device's files from its worker.
    fn take_files(&mut self, name: &str, process: &DeviceProcess) {
        match process.give_files() {
            Ok(files) => self.files = Some(files),
            Err(error) => tracing::error!(
                "the worker of {name} goes on; if it ends, the kernel resets the device, where it can, \
                 before another has it: {error}"
            ),
        }
    }

    /// The end of a worker, and a device that is quiet.
    fn reap(&mut self, name: &str, process: &Arc<DeviceProcess>) -> Exit {
        process.exit(|| {
            let is_its = self.process.as_ref();
            let is_its = is_its.is_none_or(|current| Arc::ptr_eq(current, process));
            let Some(files) = self.files.as_ref().filter(|_| is_its) else {
                return;
            };
            // Nothing that the dead one had pinned is let go of before.
            quiet(name, files);
        })
    }
}

fn quiet(name: &str, files: &HostFiles) {
    if let Err(error) = files.quiet() {
        tracing::error!("{name} may not be quiet: {error}");
    }
}

/// Whether a worker answers.
fn answers(control: &std::path::Path) -> bool {
    Control::connect(control).is_ok_and(|control| control.status().is_ok())
}

#[cfg(test)]
pub(crate) mod played;
#[cfg(test)]
mod tests;
