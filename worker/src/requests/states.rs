//! Saved states, out of the device and into it.

use std::io::Seek;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use mdev::migration::snapshot::{self, SnapshotError};
use worker::protocol::Answer;
use worker::state_file;

use super::{Responder, refuse};

impl Responder {
    /// The state of the device, in a memory file: the device waits for no other.
    pub(super) fn save(&self) -> (Answer, Option<Arc<OwnedFd>>) {
        let saved = self.mail.call(|device| {
            let mut file = state_file::create().map_err(SnapshotError::File)?;
            snapshot::save(device, &mut file)?;
            let bytes = file.stream_position().map_err(SnapshotError::File)?;
            Ok((file, bytes))
        });
        match saved {
            Err(gone) => (refuse("ENODEV", gone.to_string()), None),
            Ok(Err(error)) => (refuse_state(&error), None),
            Ok(Ok((file, bytes))) => (Answer::State { bytes }, Some(Arc::new(file.into()))),
        }
    }

    /// Puts a state into the device, from the memory file that came with the request.
    pub(super) fn restore(&self, fd: Option<OwnedFd>) -> Answer {
        let Some(fd) = fd else {
            return refuse("EINVAL", "no state came with the request".to_owned());
        };
        let mut file = match state_file::open(fd) {
            Ok(file) => file,
            Err(error) => return refuse("EINVAL", format!("the state cannot be read: {error}")),
        };
        match self
            .mail
            .call(move |device| snapshot::restore(device, &mut file))
        {
            Err(gone) => refuse("ENODEV", gone.to_string()),
            Ok(Err(error)) => refuse_state(&error),
            Ok(Ok(())) => Answer::Done,
        }
    }
}

fn refuse_state(error: &SnapshotError) -> Answer {
    let errno = match error {
        SnapshotError::Unsupported => "ENOTSUP",
        SnapshotError::Migrating => "EBUSY",
        SnapshotError::State(_) => "EINVAL",
        SnapshotError::Torn(_) | SnapshotError::File(_) => "EIO",
    };
    refuse(errno, error.to_string())
}
