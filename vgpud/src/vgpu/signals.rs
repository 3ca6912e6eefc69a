//! Signals that ask a command to end: it does so in its own way.

use std::io;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

/// Calls `end`, from a thread of its own, when the first of SIGINT, SIGTERM and SIGHUP has come. They
/// end the process no more.
pub(crate) fn on_end(end: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    let (mut interrupt, mut terminate, mut hang_up) = {
        let _guard = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        )
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        end();
    });
    Ok(())
}
