//! `vgpu-worker`: serves one vGPU, or all those of one physical device.
//!
//! Its threads: this one waits for signals. Then there are, for each vGPU (`serving`): `device`, which
//! owns the device and its client; `accept`, which hands new clients to it; `control`, which takes
//! requests, one thread for each who asks (`attendants`). Before it starts them it has given up all
//! that a worker does not need ([`worker::sandbox`]). That of a physical device (`parent`) has a
//! `control` of its own besides, over which vGPUs are asked for.

mod accept;
mod attendants;
mod listener;
mod parent;
mod requests;
mod serving;
mod showing;
mod taking_over;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use mdev::device::BuildError;
use mdev::host::{HostError, PciAddress};
use mdev::mailbox::Mail;
use mdev::{Driver, TypeSpec};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;

use parent::Device;
use serving::{Ground, Maker, Plan};
use worker::arguments::{Arguments, BAD_ARGUMENTS};
use worker::claimed::ClaimedPath;
use worker::{inherited, panics, sandbox};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    inherited::close_others(
        [
            arguments.fd,
            arguments.keeper,
            arguments.resume,
            arguments.parent.parent_files,
        ]
        .into_iter()
        .flatten(),
    );
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    sandbox::environment::clear();
    panics::end_the_process("vgpu-worker");
    match serve(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut causes = error.chain();
            let remedy = causes.find_map(|cause| cause.downcast_ref::<HostError>()?.remedy());
            let remedy = remedy.map(|words| format!("; {words}"));
            eprintln!("vgpu-worker: {error:#}{}", remedy.unwrap_or_default());
            exit_code(&error)
        }
    }
}

/// Tells what was wrong with the arguments from what went wrong later.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref() {
        Some(BuildError::Attribute(_) | BuildError::UnknownType(_)) => BAD_ARGUMENTS.into(),
        _ => ExitCode::FAILURE,
    }
}

/// Serves until a signal, a request or the end of the only client.
fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    // Before any thread: from here on a signal waits until it is looked for.
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot take signals")?;
    mdev::dma::sigbus::install().context("cannot take SIGBUS")?;
    match arguments.parent.address {
        Some(address) if arguments.parent.parent_files.is_some() => {
            parent::serve(arguments, address, &mut signals)
        }
        address => serve_one(arguments, address, &mut signals),
    }
}

/// Serves the vGPU that the arguments name.
fn serve_one(
    arguments: &Arguments,
    parent: Option<PciAddress>,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let type_name = arguments.type_name.as_deref().context("no type")?;
    let device = parent.map(|address| Device::open(address, &arguments.parent));
    let device = device.transpose()?;
    let (driver, spec) = match &device {
        Some(device) => (None, device.find_type(type_name)?),
        None => find_type(type_name).map(|(driver, spec)| (Some(driver), spec))?,
    };
    let ground = Ground::of_arguments(arguments)?;
    let folders = ground.paths().into_iter().flatten();
    let folders = folders.map(ClaimedPath::folder).collect();
    let confined = sandbox::confine("vgpu-worker", &arguments.confinement, folders)?;
    let list = match &device {
        Some(device) => device.list(&confined)?,
        None => confined.list()?,
    };
    let maker = match (device, driver) {
        (Some(device), _) => Maker::Parent(device.drive()?),
        (None, Some(driver)) => Maker::Driver(driver),
        (None, None) => bail!("nothing to build it with"),
    };
    let built = ground.build(&maker, spec, &Plan::of_arguments(arguments))?;
    let sandbox = confined.filter_by(list)?;
    let signals_handle = signals.handle();
    let served = built.start(ground, sandbox, move || signals_handle.close())?;
    wait_for_signal(signals);
    // If the thread is gone already, there is nothing to stop.
    let _ = served.mail.send(Mail::Stop);
    served
        .thread
        .join()
        .map_err(|_| anyhow!("the device's thread panicked"))?
}

fn find_type(name: &str) -> anyhow::Result<(&'static dyn Driver, TypeSpec)> {
    #[cfg(feature = "forbidden")]
    if name == worker::forbidden::TYPE {
        let driver = &worker::forbidden::ForbiddenDriver;
        return Ok((driver, driver.types().remove(0)));
    }
    drivers::find_type(name)
        .ok_or_else(|| BuildError::UnknownType(name.to_owned()))
        .with_context(|| format!("there is no type '{name}'; 'vgpu types' lists them"))
}

/// Waits for the first signal, as the order to stop; or until somebody has closed them, since it is
/// over. A second signal does what it does to any program.
fn wait_for_signal(signals: &mut Signals) {
    if let Some(signal) = signals.forever().next() {
        tracing::info!("stopping on signal {signal}");
    }
}

/// Starts a thread that `top -H` and core files show by name.
fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<thread::JoinHandle<T>> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .with_context(|| format!("cannot start the thread '{name}'"))
}
