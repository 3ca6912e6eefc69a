//! The command line of `vgpud`.

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
