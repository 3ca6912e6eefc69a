//! `vgpud`: the daemon.

use std::process::ExitCode;

use clap::Parser;
use vgpud::arguments::Arguments;
use vgpud::daemon::{self, Options};

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
