//! Why the scheduler refused something. What is refused has changed nothing.

use rustix::io::Errno;

use super::units::PerMille;

/// Why an event or a setting was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchedError {
    /// Neither 0 nor more than the whole.
    #[error("a share of {0}/1000: it must be 1 to 1000 thousandths of an engine")]
    ShareOutOfRange(u32),
    /// Neither 0 nor more than the kernel's own.
    #[error("a weight of {0}: it must be 1 to 10000")]
    WeightOutOfRange(u32),
    /// A promise that the client's own ceiling would break.
    #[error("a cap of {cap} is below the reservation of {reservation}")]
    CapBelowReservation {
        /// The ceiling asked for.
        cap: PerMille,
        /// The reservation asked for.
        reservation: PerMille,
    },
    /// More promised than there is.
    #[error("a reservation of {asked}: the others have reserved all but {left}/1000")]
    Overcommitted {
        /// The reservation asked for.
        asked: PerMille,
        /// Thousandths of an engine that nobody has reserved.
        left: u32,
    },
    /// Under `fixed-share` the reservation is the share, so there must be one.
    #[error("under fixed-share every client needs a reservation, which is its share")]
    NoReservation,
    /// See [`EngineId`](super::EngineId).
    #[error("an engine with {0} places: it must have 1 to {max}", max = super::scheduler::MAX_DEPTH)]
    DepthOutOfRange(u32),
    /// More engines than a parent can have.
    #[error("a parent has at most {max} engines", max = super::scheduler::MAX_ENGINES)]
    TooManyEngines,
    /// More clients than a parent can have.
    #[error("a parent has at most {max} clients", max = super::clients::MAX_CLIENTS)]
    TooManyClients,
    /// The client is to wait until one of its jobs has been picked.
    #[error("the client has {max} jobs waiting", max = super::account::MAX_WAITING)]
    QueueFull,
    /// No such engine.
    #[error("no such engine")]
    UnknownEngine,
    /// No such client, or one that has left.
    #[error("no such client")]
    UnknownClient,
    /// No such job is running, or waiting; its client may have left.
    #[error("no such job")]
    UnknownJob,
}

impl SchedError {
    /// The errno that whoever asked is told.
    pub fn errno(self) -> Errno {
        match self {
            Self::ShareOutOfRange(_)
            | Self::WeightOutOfRange(_)
            | Self::CapBelowReservation { .. }
            | Self::NoReservation
            | Self::DepthOutOfRange(_) => Errno::INVAL,
            Self::Overcommitted { .. } | Self::TooManyEngines | Self::TooManyClients => {
                Errno::NOSPC
            }
            Self::QueueFull => Errno::AGAIN,
            Self::UnknownEngine | Self::UnknownClient | Self::UnknownJob => Errno::NOENT,
        }
    }
}
