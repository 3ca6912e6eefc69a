//! `vgpu-console`: shows the display of one vGPU to VNC viewers.
//!
//! It is two processes: [`console::outer`] and [`console::inner`].

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use console::arguments::Arguments;
use console::inner::{self, ERRANDS_FD, SOCKET_FD};
use console::outer;
use console::source::End;
use tracing_subscriber::EnvFilter;
use worker::{inherited, panics, sandbox};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ours = arguments.inside.then_some([SOCKET_FD, ERRANDS_FD]);
    let given = [
        arguments.fd,
        arguments.tcp_fd,
        arguments.password_fd,
        arguments.keyboard_fd,
        arguments.tablet_fd,
    ];
    inherited::close_others(
        ours.into_iter()
            .flatten()
            .chain(given.into_iter().flatten()),
    );
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    panics::end_the_process("vgpu-console");
    let served = if arguments.inside {
        sandbox::environment::clear();
        inner::serve(&arguments).and_then(say)
    } else {
        outer::serve(&arguments)
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vgpu-console: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Why it ended, of its own accord or not.
fn say(end: End) -> anyhow::Result<()> {
    match end {
        End::Stopped(_) | End::Orphaned => {
            tracing::info!("{end}");
            Ok(())
        }
        End::Io(_) => Err(end.into()),
    }
}
