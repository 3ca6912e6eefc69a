//! The command line of `vgpu-worker`, and of `vgpu run`.
//!
//! `--socket-path` and `--fd` are the specification's: every vfio-user server takes them.

mod parent;
mod sandbox;

use std::path::PathBuf;
use std::time::Duration;

use mdev::dma::DmaLimits;
use mdev::dma::files::FilePolicy;
use mdev::polling::Polling;

pub use parent::ParentArguments;
pub use sandbox::{Owner, SandboxArguments, SandboxMode};

/// What a worker ends with whose arguments make no sense, its attributes' values included. The
/// parser of arguments ends with the same.
pub const BAD_ARGUMENTS: u8 = 2;

/// Serves one vGPU over vfio-user.
#[derive(Clone, Debug, clap::Parser)]
#[command(version)]
pub struct Arguments {
    /// What to serve: a type that `vgpu types` lists, or one that the physical device has
    #[arg(
        long = "type",
        value_name = "TYPE",
        required_unless_present = "parent_files"
    )]
    pub type_name: Option<String>,

    /// Where a VMM connects: a UNIX socket that is made here
    #[arg(long, value_name = "PATH", required_unless_present_any = ["fd", "parent_files"])]
    pub socket_path: Option<PathBuf>,

    /// An open socket to use instead: one that listens, or one that a VMM is connected to
    #[arg(long, value_name = "FDNUM", conflicts_with = "socket_path")]
    pub fd: Option<i32>,

    /// Where to take control requests: a UNIX socket that is made here
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,

    /// An open socket to whoever keeps this process's descriptors, should it die
    #[arg(long, value_name = "FDNUM", requires = "fd")]
    pub keeper: Option<i32>,

    /// An open socket from which to take over what another worker has left
    #[arg(long, value_name = "FDNUM", requires = "keeper")]
    pub resume: Option<i32>,

    /// Wait before each job until whoever has the control socket grants time on the parent's engine
    #[arg(long, requires = "control")]
    pub leased: bool,

    /// An attribute of the device; may be given several times
    #[arg(short = 'o', long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    pub attributes: Vec<(String, String)>,

    /// Before sleeping, look for the next message: as long as pays, never, or this many
    /// microseconds
    #[arg(long, value_name = "auto|off|MICROSECONDS", default_value = "auto", value_parser = polling)]
    pub poll: Polling,

    /// Most mappings of guest memory that a VMM may make
    #[arg(long, value_name = "NUMBER", default_value_t = DmaLimits::default().max_mappings)]
    pub max_dma_maps: usize,

    /// Which files are taken as guest memory: any; those that lie in memory; or of these only the
    /// ones that are sealed against shrinking
    #[arg(long, value_name = "any|memory|sealed", default_value = "memory", value_parser = file_policy)]
    pub memory_files: FilePolicy,

    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would take them for the program's")]
    pub parent: ParentArguments,

    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would take them for the program's")]
    pub confinement: SandboxArguments,
}

impl Arguments {
    /// What a VMM may make the worker keep.
    pub fn dma_limits(&self) -> DmaLimits {
        DmaLimits {
            max_mappings: self.max_dma_maps,
            files: self.memory_files,
            ..DmaLimits::default()
        }
    }
}

/// What `--memory-files` takes.
pub fn file_policy(text: &str) -> Result<FilePolicy, String> {
    match text {
        "any" => Ok(FilePolicy::Any),
        "memory" => Ok(FilePolicy::Memory),
        "sealed" => Ok(FilePolicy::Sealed),
        _ => Err("'any', 'memory' or 'sealed'".to_owned()),
    }
}

fn attribute(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("what is wanted is NAME=VALUE".to_owned()),
    }
}

/// What `--poll` takes.
pub fn polling(text: &str) -> Result<Polling, String> {
    /// Longer than this, a VMM that has nothing to say would cost a whole CPU.
    const LONGEST_US: u64 = 10_000;
    match text {
        "auto" => Ok(Polling::Adaptive),
        "off" => Ok(Polling::Off),
        number => match number.parse() {
            Ok(us @ 1..=LONGEST_US) => Ok(Polling::Fixed(Duration::from_micros(us))),
            _ => Err(format!("'auto', 'off' or 1 to {LONGEST_US} microseconds")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn a_worker_listens_on_a_path_or_uses_a_descriptor() {
        for (arguments, good) in [
            (&["--type", "t", "--socket-path", "p"][..], true),
            (&["--type", "t", "--fd", "3"], true),
            (&["--type", "t"], false),
            (&["--type", "t", "--fd", "3", "--socket-path", "p"], false),
            (&["--socket-path", "p"], false),
            (
                &["--type", "t", "--socket-path", "p", "-o", "mode=1x1"],
                true,
            ),
            (&["--type", "t", "--socket-path", "p", "-o", "mode"], false),
            (&["--type", "t", "--socket-path", "p", "-o", "=1"], false),
            (
                &["--type", "t", "--socket-path", "p", "--parent", "0"],
                false,
            ),
            (
                &["--type", "t", "--socket-path", "p", "--parent", "01:00.0"],
                true,
            ),
            (&["--parent", "01:00.0", "--socket-path", "p"], false),
        ] {
            let all = std::iter::once(&"vgpu-worker").chain(arguments);
            assert_eq!(
                Arguments::try_parse_from(all).is_ok(),
                good,
                "{arguments:?}"
            );
        }
    }

    #[test]
    fn polling_is_a_word_or_a_bounded_number() {
        for (text, expected) in [
            ("auto", Some(Polling::Adaptive)),
            ("off", Some(Polling::Off)),
            ("50", Some(Polling::Fixed(Duration::from_micros(50)))),
            ("0", None),
            ("10001", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(polling(text).ok(), expected, "{text}");
        }
    }
}
