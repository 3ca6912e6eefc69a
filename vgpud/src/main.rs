//! `vgpud`: the daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use vgpud::daemon::{self, Options};

/// Owns this host's vGPUs.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration; without it /etc/vgpud/vgpud.toml, if that is there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// What all paths start at, but for those of programs
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,

    /// The program that serves a vGPU; without it the one beside this program
    #[arg(long, value_name = "FILE")]
    worker: Option<PathBuf>,
}

fn main() -> ExitCode {
    daemon::start_log();
    let arguments = Arguments::parse();
    // A worker has another folder of its own, and finds the daemon's files all the same.
    let ended = std::path::absolute(&arguments.root)
        .map_err(Into::into)
        .and_then(|root| {
            daemon::run(&Options {
                config: arguments.config,
                root,
                worker: arguments.worker,
            })
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vgpud: {error:#}");
            ExitCode::FAILURE
        }
    }
}
