//! Why a vGPU was not made, as who asked is told.

use mdev::device::BuildError;
use mdev::host::HostError;
use rustix::io::Errno;
use worker::protocol::Answer;

use crate::requests::refuse;
use crate::taking_over::Unusable;

/// An errno by name, and words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) &'static str, pub(super) String);

impl Refusal {
    pub(super) fn invalid(words: impl Into<String>) -> Self {
        Self("EINVAL", words.into())
    }
}

impl From<Refusal> for Answer {
    fn from(Refusal(errno, words): Refusal) -> Self {
        refuse(errno, words)
    }
}

impl From<anyhow::Error> for Refusal {
    /// The errno that fits, and all of its words.
    fn from(error: anyhow::Error) -> Self {
        Self(errno_of(&error), format!("{error:#}"))
    }
}

fn errno_of(error: &anyhow::Error) -> &'static str {
    match error.downcast_ref() {
        Some(BuildError::Attribute(_)) => "EINVAL",
        Some(BuildError::UnknownType(_)) => "ENOENT",
        Some(BuildError::Os { source, .. }) => name(HostError::errno_in(source)),
        None if error.is::<Unusable>() => "EPROTO",
        None => error
            .chain()
            .find_map(|cause| cause.downcast_ref::<std::io::Error>())
            .map_or("EINVAL", |error| name(HostError::errno_in(error))),
    }
}

/// The name of an errno, of those that come here.
fn name(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM => "EPERM",
        Errno::ACCESS => "EACCES",
        Errno::NOENT => "ENOENT",
        Errno::AGAIN => "EAGAIN",
        Errno::BUSY => "EBUSY",
        Errno::EXIST => "EEXIST",
        Errno::INVAL => "EINVAL",
        Errno::MFILE => "EMFILE",
        Errno::NFILE => "ENFILE",
        Errno::NODEV => "ENODEV",
        Errno::NOMEM => "ENOMEM",
        Errno::NOSPC => "ENOSPC",
        Errno::NOTSUP => "ENOTSUP",
        Errno::PROTO => "EPROTO",
        Errno::TIMEDOUT => "ETIMEDOUT",
        Errno::USERS => "EUSERS",
        _ => "EIO",
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context;
    use mdev::device::AttributeError;

    use super::*;

    #[test]
    fn an_error_is_told_by_its_errno_and_all_of_its_words() {
        let os = |source| BuildError::Os {
            what: "get memory",
            source,
        };
        let lock: io::Error = HostError::MemoryLock.into();
        for (error, errno, words) in [
            (
                BuildError::Attribute(AttributeError::Unknown("x".into())),
                "EINVAL",
                "here: there is no attribute 'x'",
            ),
            (
                BuildError::UnknownType("x".into()),
                "ENOENT",
                "here: no type is called 'x'",
            ),
            (
                os(lock),
                "ENOMEM",
                "here: cannot get memory: no more memory can be locked for the device",
            ),
            (
                os(io::Error::from_raw_os_error(28)),
                "ENOSPC",
                "here: cannot get memory: No space left on device (os error 28)",
            ),
            (
                os(io::Error::new(io::ErrorKind::StorageFull, "none is free")),
                "ENOSPC",
                "here: cannot get memory: none is free",
            ),
        ] {
            let error = Err::<(), _>(error).context("here").unwrap_err();
            assert_eq!(Refusal::from(error), Refusal(errno, words.to_owned()));
        }
        for (error, errno) in [
            (anyhow::anyhow!("no socket"), "EINVAL"),
            (Unusable.into(), "EPROTO"),
            (
                anyhow::Error::from(io::Error::from(io::ErrorKind::TimedOut)).context("here"),
                "EIO",
            ),
        ] {
            assert_eq!(Refusal::from(error).0, errno);
        }
    }
}
