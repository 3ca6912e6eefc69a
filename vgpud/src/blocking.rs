//! Work that blocks, off the threads that serve the API.

use std::future::Future;

/// Runs `work` on a thread where it may block. It runs to its end even if nobody waits any more.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    unwrap_panic(tokio::task::spawn_blocking(work).await)
}

/// Runs `work` to its end even if whoever asked is gone: a request that was cut off must not leave
/// half an instance.
pub(crate) async fn detached<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    unwrap_panic(tokio::spawn(work).await)
}

fn unwrap_panic<T>(result: Result<T, tokio::task::JoinError>) -> T {
    match result {
        Ok(value) => value,
        // Nothing aborts these tasks: they end by returning or by a panic, which goes on here.
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => panic!("{error}"),
        },
    }
}
