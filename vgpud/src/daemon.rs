//! The daemon as a whole: from its command line to its end.

use std::fs::File;
use std::io::IsTerminal;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::catalogue;
use crate::config::{ApiConfig, Config};
use crate::files;
use crate::manager::Manager;
use crate::paths::Paths;
use crate::programs;
use crate::server;
use crate::server::listen::{self, Token, UnixSocket};
use crate::server::passed;
use crate::service;
use crate::worker_process::users;

/// Most threads for work that blocks. Each waits for a worker or a disk, and goes when there is no
/// more to do.
const BLOCKING_THREADS: usize = 128;

/// How the daemon is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration, if it is not where it usually is.
    pub config: Option<PathBuf>,
    /// What all paths start at.
    pub root: PathBuf,
    /// `vgpu-worker`, if it does not lie where [`programs::find`] looks.
    pub worker: Option<PathBuf>,
}

/// Logs to standard error, as `RUST_LOG` says.
pub fn start_log() {
    start_log_with(EnvFilter::new("info"));
}

/// The same; `usual` is what is logged if it says nothing.
pub fn start_log_with(usual: EnvFilter) {
    let filter = EnvFilter::try_from_default_env().unwrap_or(usual);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// Runs until SIGTERM or SIGINT. Workers live on, unless the configuration says otherwise. The
/// process has no other thread yet.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let passed = passed::take()?;
    let usual = Paths::new(&options.root);
    let config_path = options.config.clone().unwrap_or_else(|| usual.config());
    let mut config = Config::read(&config_path, options.config.is_some())?;
    config.workers.users = users::decide(config.workers.users);
    let places = &config.paths;
    let paths = usual.moved(
        places.run.as_deref(),
        places.state.as_deref(),
        places.definitions.as_deref(),
    );
    paths.check().map_err(|words| anyhow!(words))?;
    let program = find_worker(options.worker.as_deref().or(places.worker.as_deref()))?;
    let parents = catalogue::find_parents(&config, &paths)
        .with_context(|| config_path.display().to_string())?;
    files::make_folder(paths.run(), 0o755)
        .with_context(|| format!("cannot make {}", paths.run().display()))?;
    files::make_folder(&paths.records(), 0o700)
        .with_context(|| format!("cannot make {}", paths.records().display()))?;
    let _lock = lock(&paths)?;
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let manager = Manager::new(config.clone(), paths, parents, program)
        .context("cannot tell this boot from others")?;
    runtime.block_on(serve(&config, &manager, passed))
}

async fn serve(
    config: &Config,
    manager: &Manager,
    passed: Option<UnixListener>,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot take signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot take signals")?;
    let adoptions = manager.recover().await?;
    let (router, _) = server::router(manager.clone());
    let socket = open_socket(manager.paths(), &config.api, passed)?;
    if let Some(tcp) = &config.api.tcp {
        let token = Token::read(&tcp.token_file)?;
        let (address, router) = (tcp.listen, router.clone());
        tokio::spawn(async move {
            if let Err(error) = listen::serve_tcp(address, token, router).await {
                tracing::error!("the API is not on tcp {address}: {error}");
            }
        });
    }
    let starter = manager.clone();
    let autostart = tokio::spawn(async move { starter.autostart().await });
    tokio::spawn(service::follow(manager.clone(), adoptions, autostart));
    let trimmer = manager.clone();
    tokio::spawn(async move { trimmer.trim_logs().await });
    let place = socket.path().map(Path::display);
    tracing::info!(
        place = place.map(tracing::field::display),
        "the API is served"
    );
    let ended = tokio::select! {
        served = socket.serve(router, std::future::pending()) => served.context("the API ended"),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    service::stopping();
    manager.farewell().await;
    ended
}

/// The socket that was passed, or one that is made.
fn open_socket(
    paths: &Paths,
    config: &ApiConfig,
    passed: Option<UnixListener>,
) -> Result<UnixSocket, crate::Error> {
    let Some(listener) = passed else {
        return UnixSocket::bind(paths, config);
    };
    let is_said = [&config.owner, &config.group, &config.mode];
    if is_said.iter().any(|said| said.is_some()) {
        tracing::warn!(
            "the API's socket was made by whoever started this: they say whose it is, and not \
             api.owner, api.group and api.mode (systemctl edit vgpud.socket)"
        );
    }
    UnixSocket::passed(listener)
}

/// The program that serves a vGPU.
fn find_worker(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => programs::find(programs::WORKER).context("cannot tell where vgpud itself is")?,
    };
    std::path::absolute(&path).with_context(|| format!("there is no {}", path.display()))
}

/// Two daemons at one place would each take the other's instances for dead.
fn lock(paths: &Paths) -> anyhow::Result<File> {
    let path = paths.lock();
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot make {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("another vgpud runs: it holds {}", path.display());
    }
    Ok(file)
}

/// Each instance keeps a descriptor here, and each request has one.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
}
