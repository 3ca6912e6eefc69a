//! Owners, groups and modes, as they are configured.

use std::path::Path;

use nix::unistd::{Group, User};
use rustix::fs::{AtFlags, CWD, Mode, chmod, chownat};
use rustix::process::{Gid, Uid};

use crate::api::SocketAccess;
use crate::error::Error;

/// Longest name of a user or group. It is kept, and told to whoever lists instances.
const MAX_NAME: usize = 64;

/// Who may connect to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    owner: Option<u32>,
    group: Option<u32>,
    mode: u32,
}

impl Access {
    /// Looks the names up. What is left out is as in `usual`; the mode is 0600 without either.
    pub(crate) fn resolve(access: &SocketAccess, usual: &SocketAccess) -> Result<Self, Error> {
        let owner = access.owner.as_deref().or(usual.owner.as_deref());
        let group = access.group.as_deref().or(usual.group.as_deref());
        let mode = access.mode.as_deref().or(usual.mode.as_deref());
        if let Some(long) = owner
            .into_iter()
            .chain(group)
            .find(|text| text.len() > MAX_NAME)
        {
            let long = long.escape_debug();
            return Err(Error::Invalid(format!("'{long}' is too long for a name")));
        }
        Ok(Self {
            owner: owner.map(user_id).transpose()?,
            group: group.map(group_id).transpose()?,
            mode: mode.map_or(Ok(0o600), parse_mode)?,
        })
    }

    /// Gives a file away. The mode comes last: until then it is as its folder protects it.
    pub(crate) fn apply(self, path: &Path) -> Result<(), Error> {
        let shown = path.display();
        if self.owner.is_some() || self.group.is_some() {
            let owner = self.owner.map(Uid::from_raw);
            let group = self.group.map(Gid::from_raw);
            chownat(CWD, path, owner, group, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(Error::os(format!("change the owner of {shown}")))?;
        }
        chmod(path, Mode::from_raw_mode(self.mode))
            .map_err(Error::os(format!("change the mode of {shown}")))
    }
}

/// An octal mode of at most 0777: others than read and write bits are harmless on a socket.
fn parse_mode(text: &str) -> Result<u32, Error> {
    let digits = text.strip_prefix('0').unwrap_or(text);
    let is_octal = digits.len() == 3 && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    is_octal
        .then(|| u32::from_str_radix(digits, 8).ok())
        .flatten()
        .ok_or_else(|| Error::Invalid(format!("'{text}' is no mode: three octal digits, say 0660")))
}

fn user_id(text: &str) -> Result<u32, Error> {
    if let Ok(id) = text.parse() {
        return known(id, text);
    }
    let user = User::from_name(text).ok().flatten();
    let user = user.ok_or_else(|| Error::Invalid(format!("there is no user '{text}'")))?;
    Ok(user.uid.as_raw())
}

fn group_id(text: &str) -> Result<u32, Error> {
    if let Ok(id) = text.parse() {
        return known(id, text);
    }
    let group = Group::from_name(text).ok().flatten();
    let group = group.ok_or_else(|| Error::Invalid(format!("there is no group '{text}'")))?;
    Ok(group.gid.as_raw())
}

/// The highest number means "leave it" to the kernel.
fn known(id: u32, text: &str) -> Result<u32, Error> {
    (id != u32::MAX)
        .then_some(id)
        .ok_or_else(|| Error::Invalid(format!("'{text}' is nobody's number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_looked_up_once_and_the_creator_wins() {
        let access = |owner: Option<&str>, group: Option<&str>, mode: Option<&str>| SocketAccess {
            owner: owner.map(str::to_owned),
            group: group.map(str::to_owned),
            mode: mode.map(str::to_owned),
        };
        let usual = access(Some("root"), Some("7"), None);
        for (given, expected) in [
            (access(None, None, None), Some((Some(0), Some(7), 0o600))),
            (
                access(Some("5"), None, Some("0666")),
                Some((Some(5), Some(7), 0o666)),
            ),
            (
                access(None, Some("root"), Some("660")),
                Some((Some(0), Some(0), 0o660)),
            ),
            (access(Some("no such user"), None, None), None),
            (access(None, Some("no such group"), None), None),
            (access(Some("4294967295"), None, None), None),
            (access(Some("-1"), None, None), None),
            (access(Some(&"0".repeat(65)), None, None), None),
            (access(None, None, Some("rw")), None),
            (access(None, None, Some("4755")), None),
            (access(None, None, Some("888")), None),
            (access(None, None, Some("")), None),
        ] {
            let resolved = Access::resolve(&given, &usual).ok();
            let resolved = resolved.map(|a| (a.owner, a.group, a.mode));
            assert_eq!(resolved, expected, "{given:?}");
        }
    }
}
