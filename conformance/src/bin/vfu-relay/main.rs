//! `vfu-relay`: stands between a VMM and its vfio-user server, and takes the place of a VMM that
//! migrates, until one does.
//!
//! - `relay.rs`: every message goes on, with its descriptors, both ways.
//! - `end.rs`: one of the two connections, for whole messages.
//! - `journal.rs`: what another server has to be told to take the place of this one.
//! - `migrate.rs`: the state of the device, from one server to another.
//!
//! `--control` takes one line from each who connects, and answers with one line of JSON:
//!
//! - `copy PATH`: puts the state into the server at PATH, and reads it again there to compare. The
//!   VMM stays with its server.
//! - `move PATH`: the same, and the VMM is served by that server from then on, unless it has mapped
//!   memory of the first.

mod end;
mod journal;
mod migrate;
mod relay;

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use end::End;
use relay::Relay;

/// Stand between a VMM and its vfio-user server.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where the VMM connects.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The server's socket.
    #[arg(long, value_name = "PATH")]
    server: PathBuf,
    /// Where orders are taken.
    #[arg(long, value_name = "PATH")]
    control: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vfu-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Serves one VMM until it is gone.
fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let listen = |path: &PathBuf| {
        UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))
    };
    let control = listen(&arguments.control)?;
    let listener = listen(&arguments.socket)?;
    let (vmm, _) = listener.accept().context("no VMM came")?;
    let server = UnixStream::connect(&arguments.server)
        .with_context(|| format!("no server is at {}", arguments.server.display()))?;
    Relay::new(End::new(vmm), End::new(server)).run(&control)
}
