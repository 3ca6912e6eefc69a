//! `vgpu-worker`: serves one vGPU.
//!
//! Its threads: this one waits for signals; `device` owns the device and its client; `accept`
//! hands new clients to it; `control` takes requests, one thread for each who asks. Before it starts
//! them it has given up all that a worker does not need ([`worker::sandbox`]).

mod accept;
mod listener;
mod requests;
mod showing;
mod taking_over;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, anyhow};
use clap::Parser;
use mdev::device::BuildError;
use mdev::engine::EngineLease;
use mdev::input::InputPort;
use mdev::instance::{self, Clients, Resumption};
use mdev::keep::Keep;
use mdev::mailbox::{Mail, MailSender, Mailbox};
use mdev::metrics::Metrics;
use mdev::session::Surroundings;
use mdev::{Attributes, Driver, MediatedDevice, Services, TypeSpec};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;

use listener::ClientSource;
use requests::Responder;
use taking_over::{Pause, Predecessor};
use worker::arguments::{Arguments, BAD_ARGUMENTS};
use worker::claimed::ClaimedPath;
use worker::{inherited, panics, sandbox};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    inherited::close_others(
        [arguments.fd, arguments.keeper, arguments.resume]
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
            eprintln!("vgpu-worker: {error:#}");
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
    anyhow::ensure!(arguments.parent.address.is_none(), "not yet");
    let type_name = arguments.type_name.as_deref();
    let (driver, spec) = find_type(type_name.context("no type")?)?;
    let (mailbox, mail) = Mailbox::new().context("cannot make the mailbox")?;
    let source = ClientSource::open(arguments)?;
    let control = arguments
        .control
        .as_deref()
        .map(|path| listener::claim_control(path).context("cannot take control requests"))
        .transpose()?;
    let paths = source.path().into_iter();
    let paths = paths.chain(control.as_ref().map(|(_, path)| path));
    let folders = paths.map(ClaimedPath::folder).collect();
    let (keep, predecessor) = taking_over::keep(arguments)?;
    let _listener = taking_over::hold_listener(&keep, &source);
    let confined = sandbox::confine("vgpu-worker", &arguments.confinement, folders)?;
    let (device, services) = build(driver, &spec, arguments, keep)?;
    let sandbox = confined.filter()?;
    let metrics = Arc::new(Metrics::default());
    let responder = Responder {
        type_name: spec.name,
        mail: mail.clone(),
        services: services.clone(),
        metrics: Arc::clone(&metrics),
        sandbox,
        pause: Arc::new(Pause::new(services.input.clone())),
    };
    let around = Surroundings {
        metrics,
        polling: arguments.poll,
        limits: arguments.dma_limits(),
        ..Surroundings::new(&services)
    };
    let signals_handle = signals.handle();
    let (clients, client_path, resumption) = match predecessor {
        None => {
            let (clients, path) = source.start(&mail)?;
            (clients, path, None)
        }
        Some(predecessor) => {
            let resumption = resume(predecessor, source, mail.clone(), &services.input)?;
            (Clients::Any, None, Some(resumption))
        }
    };
    let device_thread = spawn("device", move || {
        let end = run_device(device, &mailbox, &around, clients, resumption);
        signals_handle.close();
        end
    })?;
    let control_path = control
        .map(|(socket, path)| requests::start(socket, responder).map(|()| path))
        .transpose()?;
    announce(arguments, client_path.as_ref(), control_path.as_ref());
    wait_for_signal(&mut signals, &mail);
    device_thread
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

/// What goes on from another worker takes clients and input once that one has left.
fn resume(
    predecessor: Predecessor,
    source: ClientSource,
    mail: MailSender,
    input: &InputPort,
) -> anyhow::Result<Resumption> {
    let input = input.clone();
    input.hold();
    predecessor.resumption(move || {
        taking_over::take_input(&input);
        source.start(&mail).map(drop)
    })
}

fn build(
    driver: &dyn Driver,
    spec: &TypeSpec,
    arguments: &Arguments,
    keep: Keep,
) -> anyhow::Result<(Box<dyn MediatedDevice>, Services)> {
    let mut services = Services::default();
    services.polling = arguments.poll;
    services.keep = keep;
    if arguments.leased {
        services.engine = EngineLease::awaited().context("cannot make an eventfd")?;
    }
    let attributes = Attributes(arguments.attributes.clone());
    let device = driver
        .build(spec, &attributes, services.clone())
        .with_context(|| format!("cannot build a {}", spec.name))?;
    Ok((device, services))
}

/// The body of the device's thread.
fn run_device(
    device: Box<dyn MediatedDevice>,
    mailbox: &Mailbox,
    around: &Surroundings,
    clients: Clients,
    resumption: Option<Resumption>,
) -> anyhow::Result<()> {
    instance::run(device, mailbox, around, clients, resumption)
        .context("the device cannot be served")
}

fn announce(arguments: &Arguments, client: Option<&ClaimedPath>, control: Option<&ClaimedPath>) {
    let at = |path: Option<&ClaimedPath>| path.map(|path| path.as_path().display().to_string());
    tracing::info!(
        socket = at(client),
        control = at(control),
        "serving {}",
        arguments.type_name.as_deref().unwrap_or_default()
    );
}

/// Waits for the first signal and passes it on as the order to stop. Returns as well when the
/// device's thread ends by itself. A second signal does what it does to any program.
fn wait_for_signal(signals: &mut Signals, mail: &MailSender) {
    if let Some(signal) = signals.forever().next() {
        tracing::info!("stopping on signal {signal}");
        // If the thread is gone already, there is nothing to stop.
        let _ = mail.send(Mail::Stop);
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
