//! What can go wrong between a test and its guest.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

/// The harness's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the harness could not do what a test asked for.
///
/// Tests unwrap it, so `Debug` is made for reading: the words, and those of the source.
#[derive(thiserror::Error)]
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
    /// A process went away while the test still needed it.
    #[error("it is gone: {0}")]
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

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        match self.source() {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
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
