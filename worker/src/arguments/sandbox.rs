//! The part of the command line that says how the process is confined.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How the process is confined.
#[derive(Clone, Debug, clap::Args)]
pub struct SandboxArguments {
    /// Confine the process; 'log' lets through what is not allowed and has the kernel log it
    #[arg(
        long,
        value_name = "on|log|off",
        default_value = "on",
        hide_possible_values = true
    )]
    pub sandbox: SandboxMode,

    /// Whose the process becomes, if it is started by root
    #[arg(long, value_name = "UID[:GID]", value_parser = owner)]
    pub user: Option<Owner>,

    /// The folder of a control group to join
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,

    /// Most memory of the process's own, in bytes or with K, M or G; that of the guest and of the
    /// device is not counted
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub memory_limit: Option<u64>,

    /// Let debuggers attach and core files be written
    #[arg(long)]
    pub debuggable: bool,
}

/// What becomes of a system call that is not allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxMode {
    /// It ends the process.
    On,
    /// It is made, and the kernel logs it.
    Log,
    /// All are allowed, and no right is given up.
    #[default]
    Off,
}

/// A user and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Never root's.
    pub uid: u32,
    /// Never root's.
    pub gid: u32,
}

fn owner(text: &str) -> Result<Owner, String> {
    /// What system calls take for "as it is".
    const UNCHANGED: u32 = u32::MAX;
    let id = |text: &str| match text.parse() {
        Ok(0 | UNCHANGED) | Err(_) => Err("UID or UID:GID, in numbers and not root's".to_owned()),
        Ok(id) => Ok(id),
    };
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    Ok(Owner {
        uid: id(uid)?,
        gid: id(gid)?,
    })
}

pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1_u64),
    };
    let number = digits.parse::<u64>().ok();
    number
        .and_then(|number| number.checked_mul(unit))
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| "a number of bytes, as 67108864 or 64M".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_becomes_anyone_but_root() {
        let some = |uid, gid| Some(Owner { uid, gid });
        for (text, expected) in [
            ("1000", some(1000, 1000)),
            ("1000:36", some(1000, 36)),
            ("0", None),
            ("1000:0", None),
            ("4294967295", None),
            ("1000:", None),
            ("nobody", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(owner(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_number_of_bytes_may_have_a_unit() {
        for (text, expected) in [
            ("4096", Some(4096)),
            ("64M", Some(64 << 20)),
            ("1G", Some(1 << 30)),
            ("8K", Some(8 << 10)),
            ("0", None),
            ("M", None),
            ("", None),
            ("1T", None),
            ("99999999999G", None),
            ("1é", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
    }
}
