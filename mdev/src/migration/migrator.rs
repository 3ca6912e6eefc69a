//! The migration of one device under its client: in which state it is, and what each step does.

use vfu::Errno;
use vfu::wire::migration::{MigState, MigrationFlags};

use super::loading::{self, LoadError};
use super::machine::{self, is_saving};
use super::saving::Saving;
use crate::device::{MediatedDevice, Reset};
use crate::state::{Decoder, StateError};

/// Why a request of a client that migrates was refused.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The device cannot be migrated.
    #[error("the device has no migration")]
    Unsupported,
    /// No way leads there.
    #[error("no way leads from {from:?} to {to:?}")]
    NoWay {
        /// Where the device is.
        from: MigState,
        /// Where it was to go.
        to: MigState,
    },
    /// The state is read or written in other states than this.
    #[error("the state of the device is not to be had in {0:?}")]
    NotNow(MigState),
    /// What was written is not a state of this device.
    #[error(transparent)]
    State(#[from] StateError),
}

impl MigrationError {
    /// What the client is told.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Unsupported => Errno::NOTTY,
            Self::NoWay { .. } | Self::NotNow(_) => Errno::INVAL,
            Self::State(error) => error.errno(),
        }
    }
}

/// The migration of one device under one client.
#[derive(Debug)]
pub(crate) struct Migrator {
    state: MigState,
    /// In PRE_COPY and STOP_COPY.
    saving: Option<Saving>,
    /// In RESUMING.
    loading: Option<Decoder>,
}

impl Default for Migrator {
    fn default() -> Self {
        Self {
            state: MigState::Running,
            saving: None,
            loading: None,
        }
    }
}

/// Which states a device knows; `None` if it has no migration.
pub(crate) fn flags(device: &mut dyn MediatedDevice) -> Option<MigrationFlags> {
    let migration = device.migration()?;
    let mut flags = MigrationFlags::STOP_COPY;
    // A state without memory is so small that there is nothing to gain.
    flags.set(MigrationFlags::PRE_COPY, !migration.memories().is_empty());
    Some(flags)
}

impl Migrator {
    /// Another process was in the middle of it: what it knew is lost.
    pub(crate) fn fail(&mut self) {
        *self = Self {
            state: MigState::Error,
            ..Self::default()
        };
    }

    /// The state now.
    pub(crate) fn state(&self) -> MigState {
        self.state
    }

    /// Whether the device does nothing now, and its state is not to be changed by accesses.
    pub(crate) fn is_stopped(&self) -> bool {
        machine::is_stopped(self.state)
    }

    /// The steps that take the device to another state.
    pub(crate) fn way(
        &self,
        device: &mut dyn MediatedDevice,
        to: MigState,
    ) -> Result<Vec<MigState>, MigrationError> {
        let flags = flags(device).ok_or(MigrationError::Unsupported)?;
        let from = self.state;
        machine::way(from, to, flags.contains(MigrationFlags::PRE_COPY))
            .ok_or(MigrationError::NoWay { from, to })
    }

    /// Takes one step of a [`Self::way`]. On error the state is as it was, or ERROR if the device
    /// could not be saved from it.
    pub(crate) fn step(
        &mut self,
        device: &mut dyn MediatedDevice,
        next: MigState,
    ) -> Result<(), MigrationError> {
        self.act(device, next)?;
        self.state = next;
        Ok(())
    }

    fn act(
        &mut self,
        device: &mut dyn MediatedDevice,
        next: MigState,
    ) -> Result<(), MigrationError> {
        match (self.state, next) {
            (MigState::Resuming, _) => self.load(device)?,
            (MigState::PreCopy, MigState::StopCopy) => {
                stop(device);
                self.saving.iter_mut().for_each(Saving::device_stopped);
            }
            (_, MigState::PreCopy | MigState::StopCopy) => {
                self.saving = Saving::new(device, next == MigState::StopCopy);
            }
            (from, _) if is_saving(from) => self.saving = None,
            (_, MigState::Resuming) => {
                self.loading = loading::begin(device).transpose()?;
            }
            (_, MigState::Running) => resume(device),
            (_, _) => stop(device),
        }
        Ok(())
    }

    /// Puts what was written into the device. What is refused is forgotten, so that it can be
    /// written again.
    fn load(&mut self, device: &mut dyn MediatedDevice) -> Result<(), MigrationError> {
        let Some(decoder) = self.loading.take() else {
            return Err(MigrationError::NotNow(self.state));
        };
        match loading::commit(device, decoder) {
            Ok(()) => Ok(()),
            Err(LoadError::Refused(error)) => {
                self.loading = loading::begin(device).transpose()?;
                Err(error.into())
            }
            Err(LoadError::Torn(error)) => {
                device.reset(Reset::Device);
                self.state = MigState::Error;
                Err(error.into())
            }
        }
    }

    /// Appends the next `max` bytes of the device's state; fewer are all that there are.
    pub(crate) fn read(
        &mut self,
        device: &mut dyn MediatedDevice,
        max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), MigrationError> {
        let saving = self
            .saving
            .as_mut()
            .ok_or(MigrationError::NotNow(self.state))?;
        Ok(saving.read(device, max, out)?)
    }

    /// Takes the next bytes of another device's state.
    pub(crate) fn write(&mut self, data: &[u8]) -> Result<(), MigrationError> {
        let loading = self
            .loading
            .as_mut()
            .ok_or(MigrationError::NotNow(self.state))?;
        Ok(loading.feed(data)?)
    }
}

fn stop(device: &mut dyn MediatedDevice) {
    if let Some(migration) = device.migration() {
        migration.stop();
    }
}

fn resume(device: &mut dyn MediatedDevice) {
    if let Some(migration) = device.migration() {
        migration.resume();
    }
}
