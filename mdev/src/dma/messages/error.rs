//! Why a message did not do it.

use vfu::Errno;

/// Why a message did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The client refused.
    #[error("the client refused: {0}")]
    Refused(Errno),
    /// No client is connected, or none that takes messages, or it went away meanwhile.
    #[error("there is no client that takes messages")]
    Gone,
    /// The memory is being unmapped.
    #[error("the transfer was cancelled")]
    Cancelled,
    /// Something was unmapped since the mapping was looked up: it is to be looked up again.
    #[error("the mappings have changed")]
    Changed,
    /// The client did not answer.
    #[error("the client did not answer in time")]
    TimedOut,
    /// The session's own thread would wait for itself.
    #[error("the session's own thread cannot wait for its client")]
    OnSessionThread,
    /// The reply is not one to this request.
    #[error("the client's answer makes no sense")]
    Garbled,
}

impl MessageError {
    /// The errno that fits.
    pub fn errno(self) -> Errno {
        match self {
            Self::Refused(errno) => errno,
            Self::Gone => Errno::NODEV,
            Self::Cancelled => Errno::CANCELED,
            Self::Changed => Errno::AGAIN,
            Self::TimedOut => Errno::TIMEDOUT,
            Self::OnSessionThread => Errno::DEADLK,
            Self::Garbled => Errno::PROTO,
        }
    }
}
