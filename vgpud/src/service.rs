//! What a service manager is told: `sd_notify(3)`. Without one, nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::api::InstanceState;
use crate::manager::Manager;

/// How long what waits for the daemon may be kept waiting by a vGPU that does not start.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// Tells that the daemon is ready, once it has adopted its workers and started what is to run, and
/// from then on how many vGPUs there are. Until it is dropped.
pub(crate) async fn follow(
    manager: Manager,
    adoptions: Vec<JoinHandle<()>>,
    autostart: JoinHandle<()>,
) {
    let (_, mut events) = manager.listen(None);
    let begun = async {
        for task in adoptions.into_iter().chain([autostart]) {
            // One that panicked has told so, and is not waited for.
            let _ = task.await;
        }
    };
    if timeout(READY_PATIENCE, begun).await.is_err() {
        tracing::warn!("ready, though some vGPUs are still to be adopted or started");
    }
    let ready = status(&manager).await;
    tell(&[NotifyState::Ready, NotifyState::Status(&ready)]);
    let mut told = ready;
    loop {
        match events.recv().await {
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
        let now = status(&manager).await;
        if now != told {
            tell(&[NotifyState::Status(&now)]);
            told = now;
        }
    }
}

/// Tells that the daemon is about to end.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

async fn status(manager: &Manager) -> String {
    let instances = manager.instances().await;
    let running = instances
        .iter()
        .filter(|instance| instance.state == InstanceState::Running);
    let (all, running) = (instances.len(), running.count());
    let plural = if all == 1 { "" } else { "s" };
    format!("{all} vGPU{plural}, {running} running")
}

fn tell(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}
