//! The command lines of `vgpud` and `vgpu-mdev`.

use std::path::PathBuf;

use clap::Parser;

/// Owns this host's vGPUs.
#[derive(Clone, Debug, Parser)]
#[command(name = "vgpud", version)]
pub struct Arguments {
    /// The configuration; without it /etc/vgpud/vgpud.toml, if that is there
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What all paths start at, but for those of programs
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// The program that serves a vGPU; without it the one beside this program, or in libexec
    #[arg(long, value_name = "FILE")]
    pub worker: Option<PathBuf>,
}

/// Mounts the kernel's mdev files for the vGPUs of vgpud
///
/// What mdevctl finds there with MDEVCTL_ENV_ROOT. Ends at SIGTERM, and takes the files away then.
/// The daemon may be started before or after, and again: while there is none, there are no vGPUs.
#[derive(Clone, Debug, Parser)]
#[command(name = "vgpu-mdev", version)]
pub struct MdevArguments {
    /// The daemon's configuration; without it /etc/vgpud/vgpud.toml, if that is there
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What all paths start at
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// The daemon's socket; without it where the daemon of this root listens
    #[arg(long, value_name = "PATH")]
    pub api: Option<PathBuf>,

    /// Where to mount; without it the folder 'mdev' beside the daemon's socket
    #[arg(long, value_name = "DIR")]
    pub mount: Option<PathBuf>,
}
