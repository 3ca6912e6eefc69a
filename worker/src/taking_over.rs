//! What outlives this worker, and how it goes on from another's.

use std::os::fd::OwnedFd;
use std::process;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use mdev::dma::DmaLimits;
use mdev::input::InputPort;
use mdev::instance::Resumption;
use mdev::keep::{Held, Keep, LISTENER};
use mdev::mailbox::{Gone, Mail, MailSender};
use mdev::session::resume::{Left, Outlook, ResumeError};
use worker::arguments::Arguments;
use worker::parking::Depositor;
use worker::resume::{Answer, Taking};

use crate::listener::ClientSource;
use worker::inherited;

/// How long the device may take to stand still: it has 4 s to let go of memory.
const PAUSE_PATIENCE: Duration = Duration::from_secs(4);

/// How long it stands still if nobody says what is to become of it: who asked may be gone. No
/// client waits longer for an answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Whether a vGPU is the only one of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alone {
    /// The process ends with it, at once where another one goes on.
    Yes,
    /// There are others, to whom nothing must happen.
    No,
}

/// Nobody can go on from what was left: the reason was told to who asked.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("nobody can go on from what was left")]
pub(crate) struct Unusable;

/// What another worker has left.
pub(crate) struct Predecessor {
    taking: Taking,
    /// Its session, or why nobody can go on with it.
    left: Result<Left, ResumeError>,
}

/// The sockets to who keeps descriptors, and to who hands over what another has left, if the
/// arguments say that there are any.
pub(crate) fn inherited(
    arguments: &Arguments,
) -> anyhow::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    let take = |option, number: Option<_>| {
        let taken = number.map(|number| inherited::take(option, number));
        taken.transpose()
    };
    Ok((
        take("--keeper", arguments.keeper)?,
        take("--resume", arguments.resume)?,
    ))
}

/// Keeps descriptors with `keeper`, and takes from `resume` what another worker has left there.
pub(crate) fn keep(
    keeper: Option<OwnedFd>,
    resume: Option<OwnedFd>,
    limits: &DmaLimits,
) -> anyhow::Result<(Keep, Option<Predecessor>)> {
    let Some(keeper) = keeper else {
        return Ok((Keep::default(), None));
    };
    let park = Box::new(Depositor::new(keeper));
    let Some(resume) = resume else {
        return Ok((Keep::new(park), None));
    };
    let taking = Taking::new(resume);
    let parked = taking.take().context("what was left is not there")?;
    let keep = Keep::resume(park, parked);
    let left = Left::find(&keep, limits);
    Ok((keep, Some(Predecessor { taking, left })))
}

/// Holds the socket on which clients connect, for as long as what is given back lives.
pub(crate) fn hold_listener(keep: &Keep, source: &ClientSource) -> Option<Held> {
    if let Some((_, held)) = keep.claim(LISTENER) {
        return Some(held);
    }
    keep.hold_as(LISTENER, source.inherited_listener()?)
}

impl Predecessor {
    /// What the device's thread goes on from; an error, which the asker was told, if that cannot
    /// be. Clients are taken, by `accept`, once it goes on: until then they are the other worker's.
    pub(crate) fn resumption(
        self,
        alone: Alone,
        accept: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<Resumption> {
        let Self { taking, left } = self;
        match left {
            Ok(left) => Ok(Resumption {
                left,
                may_go_on: Box::new(move |outlook| {
                    if !ask(&taking, outlook, alone) {
                        return false;
                    }
                    if let Err(error) = accept() {
                        tracing::error!("no other client can connect: {error:#}");
                    }
                    true
                }),
            }),
            Err(error) if alone == Alone::No => {
                // Whoever asked for it waits for the answer to that first.
                let _ = taking.tell(&refusal(&error));
                Err(Unusable.into())
            }
            Err(error) => {
                ask(&taking, Err(error), alone);
                Err(Unusable.into())
            }
        }
    }
}

fn refusal(error: &ResumeError) -> Answer {
    tracing::error!("cannot go on: {error}");
    Answer::Refused {
        words: error.to_string(),
    }
}

/// Tells how the device would go on, and waits for the word. `false` if it does not come; a process
/// that is alone for the device ends then.
fn ask(taking: &Taking, outlook: Result<Outlook, ResumeError>, alone: Alone) -> bool {
    let answer = match outlook {
        Ok(outlook) => Answer::Ready(worker::resume::Outlook {
            connected: outlook.connected,
            exact: outlook.exact,
            skipped: outlook.given_up,
        }),
        Err(error) => refusal(&error),
    };
    if taking.answer(&answer).unwrap_or(false) {
        return true;
    }
    tracing::info!("another worker goes on");
    if alone == Alone::Yes {
        // At once: nothing here may end what is another worker's.
        process::exit(worker::resume::RESUME_REFUSED.into());
    }
    false
}

/// How long what was typed over a connection to another worker stays pressed, before it is let go
/// because nobody comes back to it.
const COME_BACK: Duration = Duration::from_secs(10);

/// Takes input after another worker has, or after it was to.
pub(crate) fn take_input(input: &InputPort) {
    input.go_on();
    if !input.is_attached() {
        return;
    }
    let input = input.clone();
    let waiting = crate::spawn("unheld", move || {
        std::thread::sleep(COME_BACK);
        input.release_unheld();
    });
    if let Err(error) = waiting {
        tracing::warn!("keys may stay pressed: {error:#}");
    }
}

/// A device that stands still, so that another worker can go on.
pub(crate) struct Pause {
    stand: Mutex<Stand>,
    /// What comes here meanwhile is the other worker's.
    input: InputPort,
}

#[derive(Default)]
enum Stand {
    /// It does not stand still.
    #[default]
    Not,
    /// Until this is told.
    Until(SyncSender<()>),
    /// For good: another worker goes on.
    Left,
}

impl Pause {
    /// For a device that is given input by `input`.
    pub(crate) fn new(input: InputPort) -> Self {
        Self {
            stand: Mutex::default(),
            input,
        }
    }

    fn stand(&self) -> MutexGuard<'_, Stand> {
        self.stand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the device stand still between two requests. Returns when it does. It goes on by itself
    /// after a while, if nobody says what is to become of it.
    pub(crate) fn begin(self: &Arc<Self>, mail: &MailSender) -> Result<(), PauseError> {
        let (stands, standing) = mpsc::sync_channel(1);
        let (go_on, word) = mpsc::sync_channel(1);
        {
            let mut stand = self.stand();
            if !matches!(*stand, Stand::Not) {
                return Err(PauseError::Already);
            }
            *stand = Stand::Until(go_on);
        }
        let pause = Arc::clone(self);
        mail.send(Mail::Pause(Box::new(move || {
            if stands.send(()).is_ok() {
                pause.wait(&word);
            }
        })))
        .inspect_err(|_| *self.stand() = Stand::Not)?;
        standing.recv_timeout(PAUSE_PATIENCE).map_err(|_| {
            self.end();
            PauseError::Busy
        })?;
        self.input.hold();
        Ok(())
    }

    /// The device's thread stands still here.
    fn wait(&self, word: &mpsc::Receiver<()>) {
        if word.recv_timeout(LONGEST_PAUSE).is_ok() {
            return;
        }
        let mut stand = self.stand();
        if matches!(*stand, Stand::Left) {
            drop(stand);
            loop {
                // The process is about to end.
                std::thread::park();
            }
        }
        *stand = Stand::Not;
        drop(stand);
        take_input(&self.input);
        tracing::warn!("nobody took over: this worker goes on");
    }

    /// Lets it go on. `false` if it did not stand still.
    pub(crate) fn end(&self) -> bool {
        let mut stand = self.stand();
        match std::mem::take(&mut *stand) {
            Stand::Until(go_on) => {
                take_input(&self.input);
                go_on.send(()).is_ok()
            }
            Stand::Not => false,
            Stand::Left => {
                *stand = Stand::Left;
                false
            }
        }
    }

    /// It stands still for good. `false` if it does not stand still.
    pub(crate) fn leave(&self) -> bool {
        let mut stand = self.stand();
        let stands = matches!(*stand, Stand::Until(_));
        if stands {
            // The sender must outlive this: its end would wake the device.
            let until = std::mem::replace(&mut *stand, Stand::Left);
            std::mem::forget(until);
        }
        stands
    }
}

/// Why the device does not stand still.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PauseError {
    #[error("it is handing over already")]
    Already,
    #[error("the device did not come to a stop in time")]
    Busy,
    #[error(transparent)]
    Gone(#[from] Gone),
}
