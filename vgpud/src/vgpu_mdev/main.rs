//! `vgpu-mdev`: the kernel's mdev files for mdevctl, mounted. A program of its own, beside the
//! daemon: docs/decisions/0008-mdev-tree.md.

use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use vgpud::arguments::MdevArguments;
use vgpud::config::Config;
use vgpud::daemon;
use vgpud::mdev_tree::Tree;
use vgpud::mdev_tree::mount::Mounted;
use vgpud::paths::Paths;

fn main() -> ExitCode {
    // What fuser has no use for it would tell of each time.
    daemon::start_log_with(EnvFilter::new("info,fuser=error"));
    match run(&MdevArguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vgpu-mdev: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &MdevArguments) -> anyhow::Result<()> {
    let root = std::path::absolute(&arguments.root)?;
    let usual = Paths::new(&root);
    let config_path = arguments.config.clone().unwrap_or_else(|| usual.config());
    let config = Config::read(&config_path, arguments.config.is_some())?;
    let places = &config.paths;
    let paths = usual.moved(
        places.run.as_deref(),
        places.state.as_deref(),
        places.definitions.as_deref(),
    );
    let api = arguments.api.clone().unwrap_or_else(|| paths.api());
    let at = arguments.mount.clone().unwrap_or_else(|| paths.mdev());
    let tree = Tree::new(paths.definitions(), &paths.host("usr/lib/mdevctl"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot take signals")?;
    runtime.block_on(serve(tree, &at, &api))
}

/// Until it is told to end, or somebody unmounts the tree.
async fn serve(tree: Tree, at: &std::path::Path, api: &std::path::Path) -> anyhow::Result<()> {
    // From here on a signal does not end it before the tree is taken away.
    let mut terminate = signal(SignalKind::terminate()).context("cannot take signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot take signals")?;
    let mut mounted = Mounted::mount(tree, at, api)?;
    let end = mounted.take_end().context("it has ended")?;
    let ended = tokio::task::spawn_blocking(move || end.recv());
    tell(NotifyState::Ready);
    tracing::info!("the mdev tree is at {}", mounted.at().display());
    tokio::select! {
        ended = ended => match ended.map_err(|error| anyhow!(error))?? {
            Ok(()) => bail!("the tree was unmounted by somebody else"),
            Err(error) => Err(error).context("the kernel's requests cannot be read"),
        },
        _ = terminate.recv() => leave(mounted),
        _ = interrupt.recv() => leave(mounted),
    }
}

/// Takes the tree away and ends, whoever still has something of it open.
fn leave(mounted: Mounted) -> ! {
    tell(NotifyState::Stopping);
    let at = mounted.at().display().to_string();
    let code = match mounted.unmount() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("vgpu-mdev: cannot unmount {at}: {error}");
            1
        }
    };
    // Threads may still wait for an answer that nobody reads any more.
    std::process::exit(code)
}

/// Tells a service manager, if there is one.
fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}
