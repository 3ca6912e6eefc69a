//! The stream that is written to a device, until it is complete.

use crate::device::MediatedDevice;
use crate::state::{Decoder, StateError, Tag};

/// A decoder of what this device takes. `None` if it has no migration.
pub(super) fn begin(device: &mut dyn MediatedDevice) -> Option<Result<Decoder, StateError>> {
    let migration = device.migration()?;
    let lens: Vec<_> = migration.memories().iter().map(|it| it.len()).collect();
    Some(Decoder::new(migration.kind(), migration.version(), lens))
}

/// Why a state was not put into a device.
#[derive(Debug)]
pub(super) enum LoadError {
    /// The state was found wanting. The device is as it was.
    Refused(StateError),
    /// The device took its registers, and not all of its memory. It has to be reset.
    Torn(StateError),
}

/// Puts a state that has come whole into a device that is stopped.
pub(super) fn commit(device: &mut dyn MediatedDevice, decoder: Decoder) -> Result<(), LoadError> {
    let decoded = decoder.finish().map_err(LoadError::Refused)?;
    let foreign = StateError::Unsound(Tag::Config, "they are those of another device");
    let config = device
        .config()
        .restored(&decoded.config)
        .ok_or(LoadError::Refused(foreign))?;
    let Some(migration) = device.migration() else {
        return Err(LoadError::Refused(StateError::NotAState));
    };
    let (version, fields) = decoded.registers();
    migration
        .restore(version, fields)
        .map_err(LoadError::Refused)?;
    for (memory, staged) in migration.memories().into_iter().zip(&decoded.memories) {
        let copied = memory.copy_from(staged);
        copied.map_err(|error| LoadError::Torn(StateError::Memory(error)))?;
    }
    *device.config() = config;
    if let Some(migration) = device.migration() {
        migration.restored();
    }
    Ok(())
}
