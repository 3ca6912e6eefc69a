//! One instance: a device and its clients, one after the other, all in one thread.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use vfu::Errno;

use crate::device::MediatedDevice;
use crate::mailbox::{Mail, Mailbox};
use crate::session::{Ended, Session, Surroundings};

/// How many clients an instance serves before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// One after the other, until it is told to stop.
    Any,
    /// The first one only: what a program does that was given a connected socket.
    One,
}

/// Serves clients on `device` until the mailbox says to stop, or `clients` is reached.
///
/// A client that misbehaves ends its own session; the next one finds the device as new. Whoever
/// waits for a [`crate::mailbox::MailSender::call`] is told that the device is gone once the
/// mailbox is dropped, so drop it soon after this returns.
pub fn run(
    mut device: Box<dyn MediatedDevice>,
    mailbox: &Mailbox,
    around: &Surroundings,
    clients: Clients,
) -> Result<(), Errno> {
    let mut next_client = None;
    loop {
        let socket = match next_client.take() {
            Some(socket) => socket,
            None => match wait_for_client(device.as_mut(), mailbox)? {
                Some(socket) => socket,
                None => return Ok(()),
            },
        };
        around.log.info(format_args!("client connected"));
        let session = Session::new(socket, device.as_mut(), mailbox, around.clone());
        match session.and_then(Session::run) {
            Ok(Ended::ClientGone) => around.log.info(format_args!("client disconnected")),
            Ok(Ended::Replaced(socket)) => {
                around.log.info(format_args!(
                    "client disconnected, and another one is there"
                ));
                next_client = Some(socket);
            }
            Ok(Ended::Stopped) => return Ok(()),
            Err(error) => around
                .log
                .warn(format_args!("session ended: {}", with_causes(&error))),
        }
        if clients == Clients::One {
            return Ok(());
        }
    }
}

/// Does what the mailbox asks until a client comes; `None` means to stop.
fn wait_for_client(
    device: &mut dyn MediatedDevice,
    mailbox: &Mailbox,
) -> Result<Option<OwnedFd>, Errno> {
    loop {
        match mailbox.next_mail() {
            Some(Mail::Client(socket)) => return Ok(Some(socket)),
            Some(Mail::Call(call)) => {
                call(device);
                // It may have put a state into the device, which goes on from there.
                if let Some(migration) = device.migration() {
                    migration.resume();
                }
            }
            Some(Mail::Stop) => return Ok(None),
            None => {
                mailbox.rest();
                if mailbox.has_mail() {
                    continue;
                }
                match poll(&mut [PollFd::new(mailbox, PollFlags::IN)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

/// An error in one line, with what caused it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.ends_with(&cause_words) {
            words.push_str(": ");
            words.push_str(&cause_words);
        }
        source = cause.source();
    }
    words
}
