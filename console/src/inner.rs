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
use worker::inherited;

use crate::arguments::Arguments;
use crate::confinement;
use crate::errand::{Errands, InputErrands};
use crate::hub::Hub;
use crate::input::{Nowhere, Sink};
use crate::password::Password;
use crate::source::{End, Source};
use crate::typing::{Lane, Typing};
use crate::viewer::{self, House, Patience};

/// The number under which it finds where viewers connect.
pub const SOCKET_FD: RawFd = 3;
/// Under which it finds who runs errands.
pub const ERRANDS_FD: RawFd = 4;
/// Under which it finds where viewers connect by TCP, if they may.
pub const TCP_FD: RawFd = 5;
/// Under which it finds who runs errands to the keyboard, if there is one.
pub const KEYBOARD_FD: RawFd = 6;
/// Under which it finds who runs errands to the tablet, if there is one.
pub const TABLET_FD: RawFd = 7;

/// Serves viewers until the vGPU is gone.
pub fn serve(arguments: &Arguments) -> anyhow::Result<End> {
    let socket = inherited::take("the socket", SOCKET_FD)?;
    let errands = inherited::take("the errands", ERRANDS_FD)?;
    let tcp = arguments.tcp_fd.is_some();
    let tcp = tcp.then(|| inherited::take("the TCP socket", TCP_FD));
    let tcp = tcp.transpose()?;
    let functions = Functions::take(arguments)?;
    let (errands, instructions) = Errands::begin(errands).context("cannot begin")?;
    let password = instructions.password.as_deref().map(Password::new);
    let password = password.transpose().map_err(anyhow::Error::msg)?;
    confinement::confine(&arguments.confinement)?;
    let (hub, bell) = Hub::new().context("cannot make the hub")?;
    let house = House {
        hub: Arc::clone(&hub),
        sink: functions.start().context("cannot take input")?,
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

/// Who runs errands to the functions that take input.
struct Functions {
    keyboard: Option<OwnedFd>,
    tablet: Option<OwnedFd>,
}

impl Functions {
    fn take(arguments: &Arguments) -> anyhow::Result<Self> {
        let take = |number: Option<RawFd>| {
            let taken = number.map(|number| inherited::take("the errands of a function", number));
            taken.transpose()
        };
        Ok(Self {
            keyboard: take(arguments.keyboard_fd)?,
            tablet: take(arguments.tablet_fd)?,
        })
    }

    /// Starts a thread for each, and gives back where input goes.
    fn start(self) -> io::Result<Arc<dyn Sink>> {
        if self.keyboard.is_none() && self.tablet.is_none() {
            return Ok(Arc::new(Nowhere));
        }
        let start = |name: &str, socket: Option<OwnedFd>| {
            let Some(socket) = socket else {
                return Ok(None);
            };
            let (lane, carrier) = Lane::new(InputErrands::new(socket))?;
            spawn(name, move || carrier.run())?;
            Ok::<_, io::Error>(Some(lane))
        };
        Ok(Arc::new(Typing {
            keyboard: start("keyboard", self.keyboard)?,
            tablet: start("tablet", self.tablet)?,
        }))
    }
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
