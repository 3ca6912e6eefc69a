//! The errno of each refusal: the only place that decides it. Its words, which no errno holds, go to
//! the log.

use rustix::io::Errno;

use crate::client::ClientError;

/// Names that problems have for the kernel's numbers.
const NAMES: &[(&str, Errno)] = &[
    ("EACCES", Errno::ACCESS),
    ("EADDRINUSE", Errno::ADDRINUSE),
    ("EAGAIN", Errno::AGAIN),
    ("EBUSY", Errno::BUSY),
    ("EDQUOT", Errno::DQUOT),
    ("EEXIST", Errno::EXIST),
    ("EFBIG", Errno::FBIG),
    ("EINVAL", Errno::INVAL),
    ("EISDIR", Errno::ISDIR),
    ("EMFILE", Errno::MFILE),
    ("EMSGSIZE", Errno::MSGSIZE),
    ("ENAMETOOLONG", Errno::NAMETOOLONG),
    ("ENFILE", Errno::NFILE),
    ("ENODATA", Errno::NODATA),
    ("ENODEV", Errno::NODEV),
    ("ENOENT", Errno::NOENT),
    ("ENOMEM", Errno::NOMEM),
    ("ENOSPC", Errno::NOSPC),
    ("ENOTDIR", Errno::NOTDIR),
    ("ENOTSUP", Errno::NOTSUP),
    ("ENXIO", Errno::NXIO),
    ("EOPNOTSUPP", Errno::OPNOTSUPP),
    ("EPERM", Errno::PERM),
    ("EPROTO", Errno::PROTO),
    ("EROFS", Errno::ROFS),
    ("EUSERS", Errno::USERS),
];

/// The errno of what the daemon said. ENODEV if there is none; EIO for what has no errno.
pub(super) fn errno_of(error: &ClientError) -> Errno {
    match error {
        ClientError::Refused(problem) => by_name(&problem.errno),
        ClientError::Unreachable { .. } => Errno::NODEV,
        ClientError::Broken(_)
        | ClientError::Garbled(_)
        | ClientError::Late(_)
        | ClientError::Io(_) => Errno::IO,
    }
}

/// The same for what somebody wanted to have done, which the log tells.
pub(super) fn refuse(what: &str, error: &ClientError) -> Errno {
    let errno = errno_of(error);
    let remedy = error
        .problem()
        .and_then(|problem| problem.remedy.as_deref());
    match remedy {
        Some(remedy) => tracing::warn!("{what} is refused: {error} (remedy: {remedy})"),
        None => tracing::warn!("{what} is refused: {error}"),
    }
    errno
}

fn by_name(name: &str) -> Errno {
    let mut names = NAMES.iter();
    let found = names.find(|(known, _)| *known == name);
    found.map_or(Errno::IO, |(_, errno)| *errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_that_of_its_number() {
        assert!(NAMES.is_sorted_by_key(|(name, _)| *name));
        for (name, errno) in NAMES {
            let named = nix::errno::Errno::from_raw(errno.raw_os_error());
            // Two names of one number.
            let named = match named {
                nix::errno::Errno::EOPNOTSUPP if *name == "ENOTSUP" => "ENOTSUP".to_owned(),
                named => format!("{named:?}"),
            };
            assert_eq!(&named, name);
            assert_eq!(by_name(name), *errno);
        }
        for unknown in ["", "EWHATEVER", "einval", "EIO"] {
            assert_eq!(by_name(unknown), Errno::IO, "{unknown}");
        }
    }
}
