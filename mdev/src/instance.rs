//! One instance: a device and its clients, one after the other, all in one thread.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use vfu::Errno;

use crate::device::MediatedDevice;
use crate::keep::journal::Stream;
use crate::mailbox::{Mail, Mailbox};
use crate::session::recorder::Recorder;
use crate::session::resume::{Left, Outlook, ResumeError};
use crate::session::{Ended, Session, SessionError, Surroundings, able};

/// How many clients an instance serves before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// One after the other, until it is told to stop.
    Any,
    /// The first one only: what a program does that was given a connected socket.
    One,
}

/// What another process has left, and who is told how the device will go on: the answer says
/// whether it may.
pub struct Resumption {
    /// What was left.
    pub left: Left,
    /// Asked on the device's thread, once everything is prepared, and nothing done.
    pub may_go_on: Box<dyn FnOnce(Result<Outlook, ResumeError>) -> bool + Send>,
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
    resumption: Option<Resumption>,
) -> Result<(), Errno> {
    let mut next_client = None;
    let mut record = None;
    if let Some(resumption) = resumption {
        match go_on(resumption, device.as_mut(), mailbox, around) {
            Resumed::Idle(idle) => record = Some(*idle),
            Resumed::Served(Served::Next(next)) => next_client = next,
            Resumed::Served(Served::Stopped) | Resumed::Not => return Ok(()),
        }
    }
    loop {
        let mut current = record.take().or_else(|| begin(device.as_mut(), around));
        let socket = match next_client.take() {
            Some(socket) => socket,
            None => {
                let recorder = current.as_mut().map(|(recorder, _)| recorder);
                match wait_for_client(device.as_mut(), mailbox, recorder)? {
                    Some(socket) => socket,
                    None => return Ok(()),
                }
            }
        };
        around.log.info(format_args!("client connected"));
        let session = Session::recorded(socket, device.as_mut(), mailbox, around.clone(), current);
        match serve(session, around) {
            Served::Next(next) => next_client = next,
            Served::Stopped => return Ok(()),
        }
        if clients == Clients::One {
            return Ok(());
        }
    }
}

/// How a session ended.
enum Served {
    /// The next client can come, or is here.
    Next(Option<OwnedFd>),
    Stopped,
}

/// What came of what was left.
enum Resumed {
    /// There is no client yet.
    Idle(Box<(Recorder, Stream)>),
    Served(Served),
    /// It was not to be.
    Not,
}

fn serve(session: Result<Session<'_>, SessionError>, around: &Surroundings) -> Served {
    match session.and_then(Session::run) {
        Ok(Ended::ClientGone) => around.log.info(format_args!("client disconnected")),
        Ok(Ended::Replaced(socket)) => {
            around.log.info(format_args!(
                "client disconnected, and another one is there"
            ));
            return Served::Next(Some(socket));
        }
        Ok(Ended::Stopped) => return Served::Stopped,
        Err(error) => around
            .log
            .warn(format_args!("session ended: {}", with_causes(&error))),
    }
    Served::Next(None)
}

/// A record of a device that waits for its first client.
fn begin(device: &mut dyn MediatedDevice, around: &Surroundings) -> Option<(Recorder, Stream)> {
    let (mut recorder, stream) = Recorder::begin(around, &able())?;
    recorder.note(device, 0);
    Some((recorder, stream))
}

fn go_on(
    resumption: Resumption,
    device: &mut dyn MediatedDevice,
    mailbox: &Mailbox,
    around: &Surroundings,
) -> Resumed {
    let Resumption { left, may_go_on } = resumption;
    if !left.is_connected() {
        let (recorder, stream, outlook) = match left.restore_device(device, &around.keep) {
            Ok(restored) => restored,
            Err(error) => {
                may_go_on(Err(error));
                return Resumed::Not;
            }
        };
        if !may_go_on(Ok(outlook)) {
            around.keep.abandon();
            return Resumed::Not;
        }
        if let Some(migration) = device.migration() {
            migration.resume();
        }
        // A client may have been there: the next one has nothing of it.
        let fresh = begin(device, around);
        return Resumed::Idle(Box::new(fresh.unwrap_or((recorder, stream))));
    }
    match Session::resume(left, device, mailbox, around.clone()) {
        Err(error) => {
            may_go_on(Err(error));
            Resumed::Not
        }
        Ok((session, outlook)) => {
            if !may_go_on(Ok(outlook)) {
                session.abandon();
                return Resumed::Not;
            }
            around
                .log
                .info(format_args!("goes on with the client of another process"));
            Resumed::Served(serve(Ok(session), around))
        }
    }
}

/// Does what the mailbox asks until a client comes; `None` means to stop.
fn wait_for_client(
    device: &mut dyn MediatedDevice,
    mailbox: &Mailbox,
    mut recorder: Option<&mut Recorder>,
) -> Result<Option<OwnedFd>, Errno> {
    loop {
        let mail = mailbox.next_mail();
        match mail {
            Some(Mail::Client(socket)) => return Ok(Some(socket)),
            Some(Mail::Call(call)) => call(device),
            Some(Mail::Pause(until)) => pause(recorder.as_deref(), until),
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
                continue;
            }
        }
        // It may have put a state into the device, which goes on from there.
        if let Some(migration) = device.migration() {
            migration.resume();
        }
        if let Some(recorder) = &mut recorder {
            recorder.config_changed();
            recorder.note(device, 0);
        }
    }
}

/// Stands still until `until` returns.
fn pause(recorder: Option<&Recorder>, until: Box<dyn FnOnce() + Send>) {
    let hand_over = |handed_over| {
        if let Some(recorder) = recorder {
            recorder.journal.set_handed_over(handed_over);
        }
    };
    hand_over(true);
    until();
    hand_over(false);
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
