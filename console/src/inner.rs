//! The process that viewers talk to. It is born with all that it needs, and gives up the rest.
//!
//! Its threads: this one looks at the picture; one for each way in takes viewers; each viewer has one
//! of its own.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use worker::arguments::SandboxArguments;
use worker::inherited;

use crate::confinement;
use crate::errand::Errands;
use crate::hub::Hub;
use crate::input::Nowhere;
use crate::password::Password;
use crate::source::{End, Source};
use crate::viewer::{self, House, Patience};

/// The number under which it finds where viewers connect.
pub const SOCKET_FD: RawFd = 3;
/// Under which it finds who runs errands.
pub const ERRANDS_FD: RawFd = 4;
/// Under which it finds where viewers connect by TCP, if they may.
pub const TCP_FD: RawFd = 5;

/// Serves viewers until the vGPU is gone.
pub fn serve(arguments: &SandboxArguments, with_tcp: bool) -> anyhow::Result<End> {
    let socket = inherited::take("the socket", SOCKET_FD)?;
    let errands = inherited::take("the errands", ERRANDS_FD)?;
    let tcp = with_tcp.then(|| inherited::take("the TCP socket", TCP_FD));
    let tcp = tcp.transpose()?;
    let (errands, instructions) = Errands::begin(errands).context("cannot begin")?;
    let password = instructions.password.as_deref().map(Password::new);
    let password = password.transpose().map_err(anyhow::Error::msg)?;
    confinement::confine(arguments)?;
    let (hub, bell) = Hub::new().context("cannot make the hub")?;
    let house = House {
        hub: Arc::clone(&hub),
        sink: Arc::new(Nowhere),
        password: None,
        name: instructions.name,
        patience: Patience::default(),
    };
    if let Some(tcp) = tcp {
        let password = password.context("TCP without a password")?;
        let house = House {
            password: Some(password),
            ..house.clone()
        };
        spawn("accept-tcp", move || accept(&tcp, &house))?;
    }
    let source = Source::new(&house.name, instructions.head, hub, bell, errands);
    spawn("accept", move || accept(&socket, &house))?;
    Ok(source.run(instructions.patience, instructions.apart))
}

fn accept(socket: &OwnedFd, house: &House) {
    loop {
        match accept_with(socket.as_fd(), SocketFlags::CLOEXEC) {
            Ok(viewer) => {
                let house = house.clone();
                // Without a thread the viewer sees the connection close.
                let _ = spawn("viewer", move || viewer::serve(viewer, &house));
            }
            // It was gone before it was taken.
            Err(Errno::CONNABORTED | Errno::INTR) => {}
            Err(error) => {
                tracing::warn!("{}: cannot take a viewer: {error}", house.name);
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Starts a thread that `top -H` and core files show by name.
fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // A compressor, of some 300 KiB, is made there before it goes to the heap.
    const STACK: usize = 1 << 20;
    let builder = thread::Builder::new().name(name.to_owned());
    builder.stack_size(STACK).spawn(body).map(drop)
}
