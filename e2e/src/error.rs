//! What can go wrong between a test and its guest.

use std::io;
use std::path::Path;
use std::time::Duration;

/// The harness's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the harness could not do what a test asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The test was not started by the script that exports this variable.
    #[error("{0} is not set: run ./x test")]
    Environment(&'static str),
    /// A file, socket or process on this machine.
    #[error("{what}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A wait that reached its limit.
    #[error("no {what} within {limit:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// QEMU went away while the test still needed it.
    #[error("QEMU is gone: {0}")]
    Gone(String),
    /// QEMU refused a command.
    #[error("QMP {command}: {answer}")]
    Qmp {
        /// The command.
        command: String,
        /// `class: desc`, as QEMU words it.
        answer: String,
    },
    /// A command in the guest failed, or the guest did not come up as it should.
    #[error("guest: {0}")]
    Guest(String),
    /// A kernel module, picture or font that is not what it should be.
    #[error("{0}")]
    Malformed(String),
}

impl Error {
    /// For `map_err`: an I/O error, and what was being done to `path`.
    pub(crate) fn io(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("cannot {what} {}", path.display());
        move |source| Self::Io { what, source }
    }

    /// For `map_err` where there is no path: an I/O error, and what was being done.
    pub(crate) fn doing(what: &str) -> impl FnOnce(io::Error) -> Self {
        let what = format!("cannot {what}");
        move |source| Self::Io { what, source }
    }
}
