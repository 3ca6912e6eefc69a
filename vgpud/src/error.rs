//! Why a request is refused: the one place that turns it into an errno, a status and a remedy.

use std::io;

use mdev::host::HostError;
use uuid::Uuid;

use crate::api::Problem;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Nothing of that UUID is there.
    #[error("there is no vGPU {0}")]
    NoInstance(Uuid),
    /// No definition of that UUID is there.
    #[error("{1} is not defined on {0}")]
    NoDefinition(String, Uuid),
    /// The parent is not there.
    #[error("there is no parent '{0}'")]
    NoParent(String),
    /// The parent has no engine that is shared.
    #[error("the vGPUs of {0} share no engine")]
    NoEngine(String),
    /// The parent offers no such type.
    #[error("{parent} offers no type '{type_name}'")]
    NoType {
        /// Which parent.
        parent: String,
        /// What was asked for.
        type_name: String,
    },
    /// The UUID is taken by another vGPU.
    #[error("{0} is there already, and is not what is asked for: {1}")]
    Exists(Uuid, String),
    /// The parent's places are taken, or those of the type.
    #[error("no place is free on {parent} for '{type_name}'")]
    NoPlace {
        /// Which parent.
        parent: String,
        /// What was asked for.
        type_name: String,
    },
    /// The parent's video memory is taken.
    #[error("{parent} has too little video memory left for '{type_name}'")]
    NoVideoMemory {
        /// Which parent.
        parent: String,
        /// What was asked for.
        type_name: String,
    },
    /// Every user of the configured range has a worker.
    #[error("no user is free for its worker")]
    NoUser,
    /// A VMM is connected.
    #[error("a VMM is connected to {0}")]
    Busy(Uuid),
    /// It does not run.
    #[error("{0} does not run")]
    NotRunning(Uuid),
    /// The worker refused, with an errno of its own.
    #[error("{message}")]
    Refused {
        /// By name.
        errno: String,
        /// Why.
        message: String,
    },
    /// The worker could not be asked.
    #[error("the worker of {0} does not answer: {1}")]
    Mute(Uuid, String),
    /// The worker ended before it was ready.
    #[error("the worker of {0} ended before it was ready: {1}")]
    Stillborn(Uuid, String),
    /// No other worker could take over; the one that serves goes on.
    #[error("no other worker takes over from that of {0}: {1}")]
    NotTakenOver(Uuid, String),
    /// Its worker has parked nothing that another could go on from.
    #[error("the worker of {0} cannot be replaced while it serves: it is of an older build")]
    NotKept(Uuid),
    /// A physical device is not to be had.
    #[error("{0} is not to be had: {1}")]
    Device(String, HostError),
    /// The worker of a physical device ended before it was ready.
    #[error("the worker of {0} ended before it was ready: {1}")]
    DeviceStillborn(String, String),
    /// Memory that a physical device reaches cannot be locked.
    #[error("{message}")]
    Locked {
        /// Which parent.
        parent: String,
        /// What was tried, and that.
        message: String,
    },
    /// A seat cannot be handed over by itself.
    #[error("{0} shares the worker of its parent, which is not replaced while it serves")]
    Seated(Uuid),
    /// A console runs, and is not reached as is asked for.
    #[error("a console of {0} runs, and takes no viewers at that address")]
    ConsoleElsewhere(Uuid),
    /// A console ended before it was ready.
    #[error("the console of {0} does not start: {1}")]
    ConsoleStillborn(Uuid, String),
    /// The operating system refused.
    #[error("cannot {what}: {source}")]
    Os {
        /// What was tried.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: what was tried.
    pub fn os<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self::Os {
            what: what.into(),
            source: source.into(),
        }
    }

    /// The errno by name.
    pub fn errno(&self) -> &str {
        match self {
            Self::Invalid(_) => "EINVAL",
            Self::NoInstance(_) | Self::NoParent(_) => "ENODEV",
            Self::NoDefinition(..) | Self::NoType { .. } | Self::NoEngine(_) => "ENOENT",
            Self::Exists(..) => "EEXIST",
            Self::NoPlace { .. } | Self::NoUser => "EUSERS",
            Self::NoVideoMemory { .. } => "ENOSPC",
            Self::Busy(_) | Self::ConsoleElsewhere(_) => "EBUSY",
            Self::NotRunning(_) => "ENXIO",
            Self::Refused { errno, .. } => errno,
            Self::Mute(..) | Self::Stillborn(..) | Self::ConsoleStillborn(..) => "EIO",
            Self::NotTakenOver(..) => "EPROTO",
            Self::NotKept(_) | Self::Seated(_) => "ENOTSUP",
            Self::DeviceStillborn(..) => "EIO",
            Self::Locked { .. } => "ENOMEM",
            Self::Device(_, error) => errno_name(&error.errno().into()),
            Self::Os { source, .. } => errno_name(source),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Invalid(_) => 422,
            Self::NoInstance(_) | Self::NoDefinition(..) => 404,
            Self::NoParent(_) | Self::NoType { .. } | Self::NoEngine(_) => 404,
            Self::Exists(..) | Self::Busy(_) | Self::NotRunning(_) => 409,
            Self::ConsoleElsewhere(_) => 409,
            Self::NoPlace { .. } | Self::NoUser | Self::NoVideoMemory { .. } => 409,
            Self::Refused { errno, .. } => match errno.as_str() {
                "EINVAL" => 422,
                "ENODEV" | "EIO" => 502,
                _ => 409,
            },
            Self::Mute(..) => 504,
            Self::Stillborn(..) | Self::ConsoleStillborn(..) => 500,
            Self::NotTakenOver(..) => 502,
            Self::NotKept(_) | Self::Seated(_) => 409,
            Self::Device(..) | Self::Locked { .. } => 409,
            Self::DeviceStillborn(..) => 500,
            Self::Os { source, .. } if source.kind() == io::ErrorKind::StorageFull => 507,
            Self::Os { .. } => 500,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<String> {
        let words = match self {
            Self::Invalid(_) | Self::Refused { .. } => return None,
            Self::NoInstance(_) => "list what there is: GET /v1/instances".to_owned(),
            Self::NoDefinition(..) => "list what is defined: GET /v1/definitions".to_owned(),
            Self::NoParent(_) => "list what there is: GET /v1/parents".to_owned(),
            Self::NoEngine(_) => "list those that there are: GET /v1/engines".to_owned(),
            Self::NoType { parent, .. } => {
                format!("list what it offers: GET /v1/parents/{parent}")
            }
            Self::Exists(..) => "take another UUID, or remove that one first".to_owned(),
            Self::NoPlace { parent, .. } => {
                format!("remove a vGPU, or raise parents.{parent}.instances or its limits")
            }
            Self::NoVideoMemory { parent, .. } => {
                format!(
                    "remove a vGPU, take a smaller type, or raise parents.{parent}.video-memory"
                )
            }
            Self::NoUser => "remove a vGPU, or raise workers.users.count".to_owned(),
            Self::Busy(_) => "end its virtual machine first, or force it: the machine will read \
                              all-ones from the device from then on"
                .to_owned(),
            Self::NotRunning(uuid) => format!("start it: POST /v1/instances/{uuid}/start"),
            Self::Mute(uuid, _) => {
                format!("stop it by force: POST /v1/instances/{uuid}/stop?force=true")
            }
            Self::Stillborn(..) | Self::ConsoleStillborn(..) => {
                "look into the daemon's log".to_owned()
            }
            Self::ConsoleElsewhere(uuid) => {
                format!("end it first: DELETE /v1/instances/{uuid}/console")
            }
            Self::NotTakenOver(..) => "nothing is lost: the worker that served goes on; install a \
                                       vgpu-worker that can take over, or start the vGPU anew \
                                       when its virtual machine has ended"
                .to_owned(),
            Self::NotKept(_) => {
                "stop it when its virtual machine has ended, and start it".to_owned()
            }
            Self::Device(_, error) => return error.remedy().map(str::to_owned),
            Self::Locked { parent, .. } => format!(
                "raise parents.\"{parent}\".lock-limit, or LimitMEMLOCK of the daemon's service"
            ),
            Self::DeviceStillborn(..) => "look into the daemon's log".to_owned(),
            Self::Seated(_) => "stop all vGPUs of that parent when their virtual machines have \
                                ended: the next one has the installed program"
                .to_owned(),
            Self::Os { source, .. } => return os_remedy(source),
        };
        Some(words)
    }

    /// What a client is told.
    pub fn problem(&self) -> Problem {
        let status = self.status();
        Problem {
            kind: "about:blank".to_owned(),
            title: title_of(status),
            status,
            detail: self.to_string(),
            errno: self.errno().to_owned(),
            remedy: self.remedy(),
        }
    }
}

/// The words of an HTTP status.
pub(crate) fn title_of(status: u16) -> String {
    let status = axum::http::StatusCode::from_u16(status).ok();
    let words = status.and_then(|status| status.canonical_reason());
    words.unwrap_or("Error").to_owned()
}

fn os_remedy(error: &io::Error) -> Option<String> {
    let words = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free room on that disk",
        io::ErrorKind::PermissionDenied => "run the daemon as a user who may do that",
        io::ErrorKind::ReadOnlyFilesystem => "mount that file system for writing",
        _ => return None,
    };
    Some(words.to_owned())
}

/// The name of an error's errno, `EIO` for those that have none here.
fn errno_name(error: &io::Error) -> &'static str {
    use rustix::io::Errno;
    let Some(errno) = Errno::from_io_error(error) else {
        return "EIO";
    };
    match errno {
        Errno::PERM => "EPERM",
        Errno::NOENT => "ENOENT",
        Errno::NXIO => "ENXIO",
        Errno::AGAIN => "EAGAIN",
        Errno::NOMEM => "ENOMEM",
        Errno::ACCESS => "EACCES",
        Errno::BUSY => "EBUSY",
        Errno::EXIST => "EEXIST",
        Errno::NODEV => "ENODEV",
        Errno::NOTDIR => "ENOTDIR",
        Errno::ISDIR => "EISDIR",
        Errno::INVAL => "EINVAL",
        Errno::NFILE => "ENFILE",
        Errno::MFILE => "EMFILE",
        Errno::FBIG => "EFBIG",
        Errno::NOSPC => "ENOSPC",
        Errno::ROFS => "EROFS",
        Errno::NAMETOOLONG => "ENAMETOOLONG",
        Errno::DQUOT => "EDQUOT",
        Errno::ADDRINUSE => "EADDRINUSE",
        _ => "EIO",
    }
}

#[cfg(test)]
mod tests;
