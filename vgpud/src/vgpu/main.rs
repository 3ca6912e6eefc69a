//! `vgpu`: the command line.
//!
//! - `run` starts a worker for one vGPU, without a daemon ([`run`]),
//! - `types` lists what can be run ([`types`]),
//! - `status`, `set`, `stop`, `screenshot`, `save` and `restore` speak to a running worker
//!   ([`ask`], [`screenshot`], [`state`]).

mod ask;
mod run;
mod screenshot;
mod state;
mod types;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Shares graphics between virtual machines.
#[derive(Parser)]
#[command(version)]
struct Vgpu {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve one vGPU until SIGTERM, without a daemon
    Run(worker::arguments::Arguments),
    /// List the types of vGPU that there are
    Types(types::Arguments),
    /// Show how a running vGPU is
    Status(ask::StatusArguments),
    /// Change an attribute of a running vGPU
    Set(ask::SetArguments),
    /// End a running vGPU
    Stop(ask::ControlArguments),
    /// Save what a running vGPU shows as a PNG file
    Screenshot(screenshot::Arguments),
    /// Save the state of a running vGPU to a file
    Save(state::SaveArguments),
    /// Put a saved state into a running vGPU of the same type
    Restore(state::RestoreArguments),
}

fn main() -> ExitCode {
    let result = match Vgpu::parse().command {
        Command::Run(_) => run::run(),
        Command::Types(arguments) => types::list(&arguments),
        Command::Status(arguments) => ask::status(&arguments),
        Command::Set(arguments) => ask::set(&arguments),
        Command::Stop(arguments) => ask::stop(&arguments),
        Command::Screenshot(arguments) => screenshot::save(&arguments),
        Command::Save(arguments) => state::save(&arguments),
        Command::Restore(arguments) => state::restore(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vgpu: {error:#}");
            ExitCode::FAILURE
        }
    }
}
