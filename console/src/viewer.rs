//! One viewer: a thread of its own, at most one update under way, and little memory.
//!
//! - `link`: its socket,
//! - `welcome`: what comes before the picture,
//! - `showing`: what it is shown.
//!
//! A viewer asks for each update. It gets the next one when it has taken the last: what the guest
//! drew in between it sees once, as it is then. A viewer that takes nothing costs its place, and
//! loses it after a while.

mod link;
mod showing;
mod welcome;

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::hub::{Hub, Place};
use crate::input::{Input, Seat, Sink};
use crate::password::Password;
use crate::rfb::Malformed;
use crate::rfb::message::{self, Message};
use link::{Link, Ready};
use showing::Showing;

/// How long a viewer may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To say who it is, all in all.
    pub welcome: Duration,
    /// To take anything of what is sent to it.
    pub sending: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            welcome: Duration::from_secs(10),
            sending: Duration::from_secs(60),
        }
    }
}

/// What all viewers that come the same way have in common.
#[derive(Clone)]
pub struct House {
    /// Where the picture is.
    pub hub: Arc<Hub>,
    /// Where what they do goes.
    pub sink: Arc<dyn Sink>,
    /// What they must know, if anything.
    pub password: Option<Password>,
    /// What the picture is called.
    pub name: String,
    /// How long they may take.
    pub patience: Patience,
}

/// Why a viewer is gone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Gone {
    /// It closed the connection.
    #[error("it has left")]
    Left,
    /// Its socket failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It said what makes no sense.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It did not say who it is.
    #[error("it took too long to say who it is")]
    Slow,
    /// It does not know the password, or chose another kind of security.
    #[error("it does not know the password")]
    Stranger,
    /// It takes nothing of what is sent.
    #[error("it takes nothing of what is sent to it")]
    Stuck,
}

/// Serves a viewer until it is gone. Its place is free when this returns.
pub fn serve(socket: OwnedFd, house: &House) {
    let name = &house.name;
    let place = match house.hub.join() {
        Ok(Some(place)) => place,
        Ok(None) => return tracing::warn!("{name}: a viewer is turned away: there are too many"),
        Err(error) => return tracing::warn!("{name}: a viewer cannot be served: {error}"),
    };
    tracing::debug!("{name}: a viewer has come");
    match converse(Link::new(socket), &place, house) {
        Ok(()) | Err(Gone::Left) => tracing::debug!("{name}: a viewer has left"),
        Err(why) => tracing::info!("{name}: a viewer is sent away: {why}"),
    }
}

fn converse(link: Link, place: &Place, house: &House) -> Result<(), Gone> {
    let size = place.hub().with_frame(|frame| frame.size());
    welcome::welcome(&link, house, size)?;
    let mut conversation = Conversation {
        link,
        place,
        house,
        seat: house.sink.sit(),
        showing: Showing::new(size),
        input: Vec::new(),
        skipped: 0,
        progress: Instant::now(),
    };
    loop {
        conversation.turn()?;
    }
}

struct Conversation<'a> {
    link: Link,
    place: &'a Place,
    house: &'a House,
    /// Where what it does goes.
    seat: Box<dyn Seat>,
    showing: Showing,
    /// What it said, and is not a whole message yet.
    input: Vec<u8>,
    /// Bytes of its clipboard that are still to come.
    skipped: usize,
    /// When it last took something, or nothing was to be taken.
    progress: Instant,
}

impl Conversation<'_> {
    /// Sends what can be sent, waits, and reads what has come.
    fn turn(&mut self) -> Result<(), Gone> {
        self.showing.advance(self.place);
        let is_sending = !self.showing.output().is_empty();
        let patience = if is_sending {
            let left = self
                .house
                .patience
                .sending
                .checked_sub(self.progress.elapsed());
            Some(left.ok_or(Gone::Stuck)?)
        } else {
            self.progress = Instant::now();
            None
        };
        let Ready {
            can_read,
            can_write,
            rings,
        } = self
            .link
            .wait(is_sending, Some(&self.place.bell), patience)?;
        if rings {
            self.place.bell.silence();
        }
        if can_write {
            let sent = self.link.send(self.showing.output())?;
            if sent > 0 {
                self.progress = Instant::now();
            }
            self.showing.sent(sent);
        }
        if can_read {
            self.read()?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), Gone> {
        let mut bytes = [0; message::MAX_LEN];
        let count = match self.link.receive(&mut bytes)? {
            None => return Ok(()),
            Some(0) => return Err(Gone::Left),
            Some(count) => count,
        };
        self.input.extend(bytes.iter().take(count));
        let mut taken = 0;
        loop {
            let rest = self.input.get(taken..).unwrap_or_default();
            let skipped = self.skipped.min(rest.len());
            self.skipped -= skipped;
            taken += skipped;
            let rest = rest.get(skipped..).unwrap_or_default();
            let Some((message, length)) = message::parse(rest)? else {
                break;
            };
            taken += length;
            self.obey(message);
        }
        // Less than one message is left.
        self.input.drain(..taken);
        Ok(())
    }

    fn obey(&mut self, message: Message) {
        match message {
            Message::Format(format) => self.showing.set_format(format),
            Message::Encodings(encodings) => self.showing.set_encodings(encodings),
            Message::Request {
                is_incremental,
                area,
            } => self.showing.request(self.place, is_incremental, area),
            Message::Key {
                is_down,
                symbol,
                code,
            } => self.seat.take(Input::Key {
                is_down,
                symbol,
                code,
            }),
            Message::Pointer { buttons, x, y } => self.seat.take(Input::Pointer {
                x,
                y,
                buttons,
                size: self.showing.size(),
            }),
            Message::Text(length) => self.skipped = length as usize,
            Message::Resize { width, height } => self.place.wish((width, height)),
        }
    }
}
