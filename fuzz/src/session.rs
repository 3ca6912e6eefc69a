//! A client's whole life on a device: any messages, descriptors and behaviour, and what must be
//! true all the same.
//!
//! - [`script`]: the input as a choice of device and a list of steps.
//! - `client`: takes the steps in a thread of its own, and checks what comes back.
//! - `expected`: which answer each command has.
//! - `good_client`: comes after it.
//! - `memory`: answers the device's requests for memory, well or badly.
//! - `descriptors`: what a client may send besides bytes.

mod client;
mod descriptors;
mod expected;
mod good_client;
mod memory;
pub mod script;

use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use mdev::dma::DmaLimits;
use mdev::mailbox::Mailbox;
use mdev::polling::Polling;
use mdev::session::{Ended, Session, SessionError, Surroundings};
use mdev::{MediatedDevice, Services};

use crate::descriptors::OpenDescriptors;
use crate::device::{DeviceKind, look};
use crate::input::Input;
use client::{Client, Manners};
use script::Opening;

/// How long a client may owe the rest of a message. Longer than any script takes: what hangs on
/// time cannot be found again.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the device waits for memory that it asked for, and that the client may never bring.
const MESSAGE_PATIENCE: Duration = Duration::from_millis(5);

/// Serves a client that does what the input says.
///
/// # Panics
///
/// If a command has no answer, or a wrong one; if the session ends without a reason; if a
/// descriptor or a mapping is left; if the device is not as new afterwards.
pub fn session(data: &[u8]) {
    install_once();
    let descriptors = OpenDescriptors::count();
    serve(&mut Input::new(data));
    descriptors.check();
}

/// A client may truncate its memory while it is in use.
fn install_once() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| mdev::dma::sigbus::install().expect("a handler can be set"));
}

fn serve(input: &mut Input<'_>) {
    let opening = Opening::read(input);
    let kind = DeviceKind::choose(opening.device, opening.attributes);
    let services = Services::default();
    let mut device = kind.build(services.clone());
    let around = Surroundings {
        limits: DmaLimits {
            message: MESSAGE_PATIENCE,
            ..DmaLimits::default()
        },
        polling: Polling::Off,
        patience: PATIENCE,
        ..Surroundings::new(&services)
    };
    let (mailbox, mail) = Mailbox::new().expect("an eventfd");
    let descriptors = OpenDescriptors::count();
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let client = Client::new(ours.into(), opening, kind, mail);
    let has_written_state = attack(client, *input, theirs, (&mut *device, &mailbox, &around));
    // The last picture stays, in memory that the device has left to it.
    let pictures = services.scanout.current().is_some();
    descriptors.check_but_for(pictures.into());
    let left = around.memory.counts();
    assert_eq!(left, (0, 0), "mappings, and pinned pages");
    let (seen, as_new) = (look(&mut *device), kind.as_new());
    if has_written_state {
        assert!(seen.is_but_for_monitor(as_new), "{seen:?}");
    } else {
        assert_eq!(&seen, as_new, "the device is as new");
    }
    if opening.is_followed {
        assert!(
            !descriptors::is_any_mapped(),
            "a file of the client's is still mapped"
        );
        follow(&mut *device, &mailbox, &around);
    }
}

/// The client does what the script says. Whether it wrote a state, which may be that of a device
/// with another monitor.
fn attack(
    client: Client,
    script: Input<'_>,
    socket: UnixStream,
    served: (&mut dyn MediatedDevice, &Mailbox, &Surroundings),
) -> bool {
    let (device, mailbox, around) = served;
    let (ended, behaviour) = thread::scope(|scope| {
        let client = scope.spawn(move || client.run(script));
        let ended = run(socket, device, mailbox, around);
        let behaviour = client
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (ended, behaviour)
    });
    check_end(&ended, behaviour.manners);
    // Clients that came too late.
    while mailbox.next_mail().is_some() {}
    behaviour.has_written_state
}

fn run(
    socket: UnixStream,
    device: &mut dyn MediatedDevice,
    mailbox: &Mailbox,
    around: &Surroundings,
) -> Result<Ended, SessionError> {
    Session::new(socket.into(), device, mailbox, around.clone())?.run()
}

/// Only a client that misbehaved loses its connection.
fn check_end(ended: &Result<Ended, SessionError>, manners: Manners) {
    match (ended, manners) {
        (Ok(Ended::ClientGone | Ended::Replaced(_)), _) | (Err(_), Manners::Bad) => {}
        (Err(SessionError::Truncated) | Ok(Ended::Stopped), Manners::MayEnd) => {}
        (Ok(Ended::Stopped), Manners::Bad) => {}
        _ => panic!("{ended:?}, of a client with {manners:?} manners"),
    }
}

/// A client that behaves is served as if nothing had been.
fn follow(device: &mut dyn MediatedDevice, mailbox: &Mailbox, around: &Surroundings) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let ended = thread::scope(|scope| {
        let good = scope.spawn(move || good_client::behave(ours.into()));
        let ended = run(theirs, device, mailbox, around);
        good.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        ended
    });
    assert!(matches!(ended, Ok(Ended::ClientGone)), "{ended:?}");
}
