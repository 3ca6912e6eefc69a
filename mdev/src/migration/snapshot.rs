//! The whole state at once: for who asks the worker, not the VMM.

use std::io::{self, Read, Write};

use super::loading::{self, LoadError};
use super::saving::Saving;
use crate::device::{MediatedDevice, Reset};
use crate::state::StateError;

/// Bytes that are read or written at a time.
const PIECE: usize = 256 << 10;

/// Why a state was not saved or restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The device cannot do so.
    #[error("this type of vGPU has no state that can be saved")]
    Unsupported,
    /// Its VMM has stopped it, and takes its state itself.
    #[error("the VMM is migrating this vGPU")]
    Migrating,
    /// What was given is not a state of this device, which is as it was.
    #[error(transparent)]
    State(#[from] StateError),
    /// The device took half of it, and was reset.
    #[error("the state could not be put into the device, which was reset")]
    Torn(#[source] StateError),
    /// The file cannot be read or written.
    #[error("the file with the state cannot be used: {0}")]
    File(#[source] io::Error),
}

/// Writes the state of a device that runs: it stands still meanwhile.
pub fn save(device: &mut dyn MediatedDevice, to: &mut dyn Write) -> Result<(), SnapshotError> {
    stop(device)?;
    let saved = save_stopped(device, to);
    resume(device);
    saved
}

fn save_stopped(device: &mut dyn MediatedDevice, to: &mut dyn Write) -> Result<(), SnapshotError> {
    let mut saving = Saving::new(device, true).ok_or(SnapshotError::Unsupported)?;
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        piece.clear();
        saving.read(device, PIECE, &mut piece)?;
        to.write_all(&piece).map_err(SnapshotError::File)?;
        if piece.len() < PIECE {
            return Ok(());
        }
    }
}

/// Puts a saved state into a device that runs, and leaves it stopped: the session lets it go on
/// once it has seen what the command register, which is another now, allows.
pub fn restore(device: &mut dyn MediatedDevice, from: &mut dyn Read) -> Result<(), SnapshotError> {
    stop(device)?;
    let restored = restore_stopped(device, from);
    if matches!(restored, Err(SnapshotError::Torn(_))) {
        device.reset(Reset::Device);
    }
    restored
}

fn restore_stopped(
    device: &mut dyn MediatedDevice,
    from: &mut dyn Read,
) -> Result<(), SnapshotError> {
    let mut decoder = loading::begin(device).ok_or(SnapshotError::Unsupported)??;
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(len) => decoder.feed(&piece[..len])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SnapshotError::File(error)),
        }
    }
    loading::commit(device, decoder).map_err(|error| match error {
        LoadError::Refused(error) => error.into(),
        LoadError::Torn(error) => SnapshotError::Torn(error),
    })
}

fn stop(device: &mut dyn MediatedDevice) -> Result<(), SnapshotError> {
    let migration = device.migration().ok_or(SnapshotError::Unsupported)?;
    if migration.is_stopped() {
        return Err(SnapshotError::Migrating);
    }
    migration.stop();
    Ok(())
}

fn resume(device: &mut dyn MediatedDevice) {
    if let Some(migration) = device.migration() {
        migration.resume();
    }
}
