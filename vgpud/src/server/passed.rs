//! The socket of whoever started the daemon, as systemd passes one: `sd_listen_fds(3)`.

#![expect(
    unsafe_code,
    reason = "only the environment knows that the descriptor is ours"
)]

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use anyhow::{Context, bail, ensure};
use rustix::net::{AddressFamily, SocketType, sockopt};

/// What a socket unit is to say.
const REMEDY: &str = "let the socket unit have one ListenStream= with a path, and Accept=no";

/// Takes the socket that was passed, if one was: the API is to be served there. Called before the
/// process has a second thread; another call finds none.
pub(crate) fn take() -> anyhow::Result<Option<UnixListener>> {
    // SAFETY: no other thread exists yet, so nobody reads the environment meanwhile.
    let passed = unsafe { sd_notify::listen_fds_and_unset_env() };
    let passed = passed.context("LISTEN_PID and LISTEN_FDS promise sockets that are not there")?;
    let sockets: Vec<_> = passed
        // SAFETY: whoever started this process left it open for it, which it says with its number
        // in LISTEN_PID, and sd-notify has seen that it is open; nothing here opened one under that
        // number since. It is taken once: what told of it is gone.
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) })
        .collect();
    let count = sockets.len();
    ensure!(
        count <= 1,
        "{count} sockets were passed, and the API has one: {REMEDY}"
    );
    let socket = sockets.into_iter().next();
    socket.map(check).transpose()
}

fn check(socket: OwnedFd) -> anyhow::Result<UnixListener> {
    let asked = socket.as_fd();
    let Ok(family) = sockopt::socket_domain(asked) else {
        bail!("what was passed is no socket: {REMEDY}");
    };
    ensure!(
        family == AddressFamily::UNIX,
        "the socket that was passed is no UNIX socket: {REMEDY}; for TCP, set api.tcp"
    );
    let kind = sockopt::socket_type(asked);
    ensure!(
        kind == Ok(SocketType::STREAM),
        "the socket that was passed is no stream socket: {REMEDY}"
    );
    ensure!(
        sockopt::socket_acceptconn(asked) == Ok(true),
        "the socket that was passed does not listen: {REMEDY}"
    );
    Ok(socket.into())
}
