//! Where the picture comes from: the memory file that the worker hands out. The worker is asked for
//! it when it says that something else is shown; its device is never asked for anything.
//!
//! - `reader`: pixels out of the file.
//!
//! What has changed is found by comparing tiles: so many times a second while the guest draws, less
//! often while it does not, and not at all while no viewer waits.

mod reader;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use worker::control::{Control, ControlError, Picture};

use crate::errand::{self, Errands};
use crate::hub::Hub;
use crate::wake::Bell;
use reader::Reader;

/// At least this lies between two looks, once it has not changed for a while.
const QUIET: Duration = Duration::from_millis(100);

/// So many looks that showed nothing new are a while.
const QUIET_AFTER: u32 = 15;

/// Between two tries to reach a worker that is gone.
const RETRY: Duration = Duration::from_millis(200);

/// How long a worker that took over from another may show nothing, before that is believed.
const SETTLING: Duration = Duration::from_secs(2);

/// The source of the picture.
#[derive(Debug)]
pub struct Source {
    /// What the log calls it.
    name: String,
    hub: Arc<Hub>,
    bell: Bell,
    errands: Errands,
    reader: Reader,
    pace: Pace,
    /// A worker that shows nothing is believed from then on.
    settled: Option<Instant>,
}

/// When the next look is.
#[derive(Debug)]
struct Pace {
    /// Between two looks, while the picture changes.
    apart: Duration,
    last: Option<Instant>,
    unchanged: u32,
    /// Whether the next look shows something new, whatever it finds.
    is_other: bool,
}

/// A connection to the worker.
struct Connection {
    control: Control,
    changes: OwnedFd,
}

/// Why the source ends.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The vGPU was stopped, or its worker is gone for good.
    #[error("the vGPU is gone: {0}")]
    Stopped(String),
    /// Nobody runs errands any more: this process is to end.
    #[error("whoever started this process is gone")]
    Orphaned,
    /// It cannot wait.
    #[error("cannot wait for the worker: {0}")]
    Io(#[from] io::Error),
}

impl Source {
    /// A source that shows in `hub`, and is wanted when `bell` rings.
    pub(crate) fn new(name: &str, hub: Arc<Hub>, bell: Bell, errands: Errands) -> Self {
        Self {
            name: name.to_owned(),
            hub,
            bell,
            errands,
            reader: Reader::default(),
            pace: Pace {
                apart: QUIET,
                last: None,
                unchanged: 0,
                is_other: true,
            },
            settled: None,
        }
    }

    /// Shows the picture until the vGPU is gone: its worker for longer than `patience`. At least
    /// `apart` lies between two looks.
    pub fn run(mut self, patience: Duration, apart: Duration) -> End {
        self.pace.apart = apart;
        loop {
            let connection = match self.connect(patience) {
                Ok(connection) => connection,
                Err(end) => return end,
            };
            match self.follow(&connection) {
                Ok(()) => tracing::info!("{}: the worker is gone; the picture stays", self.name),
                Err(end) => return end,
            }
            self.settled = Some(Instant::now() + SETTLING);
        }
    }

    /// Reaches the worker. Viewers are served meanwhile, with what there was.
    fn connect(&mut self, patience: Duration) -> Result<Connection, End> {
        let deadline = Instant::now() + patience;
        loop {
            let why = match self.errands.connect() {
                Ok((control, changes)) => return Ok(Connection { control, changes }),
                Err(errand::Failed::Orphaned) => return Err(End::Orphaned),
                Err(errand::Failed::Refused(why)) => why,
            };
            if Instant::now() >= deadline {
                return Err(End::Stopped(why));
            }
            let until = Instant::now() + RETRY;
            while Instant::now() < until {
                self.look_if_wanted();
                self.wait(None, Some(until))?;
            }
        }
    }

    /// Shows what a worker shows, until the worker is gone.
    fn follow(&mut self, connection: &Connection) -> Result<(), End> {
        let mut is_stale = true;
        let mut next_ask = Instant::now();
        loop {
            // A guest may show another picture as often as it likes: it is not asked for more often
            // than it is looked at.
            if is_stale && next_ask <= Instant::now() {
                if !self.ask(&connection.control) {
                    return Ok(());
                }
                is_stale = false;
                next_ask = Instant::now() + self.pace.apart;
            }
            self.look_if_wanted();
            let ask = is_stale.then_some(next_ask);
            let until = self.settled.into_iter().chain(ask).min();
            let woken = self.wait(Some((connection, !is_stale)), until)?;
            if woken.is_lost {
                return Ok(());
            }
            let has_settled = self.settled.take_if(|then| Instant::now() >= *then);
            is_stale |= woken.has_changed || has_settled.is_some();
        }
    }

    /// Asks what is shown. Whether the worker answers.
    fn ask(&mut self, control: &Control) -> bool {
        match control.scanout(0) {
            Ok(picture) => {
                self.settled = None;
                self.show(picture);
            }
            Err(ControlError::Refused { errno, .. }) if errno == "ENODATA" => {
                // One that has just taken over may not have come to it.
                if self.settled.is_none() {
                    self.show_nothing();
                }
            }
            Err(error) => {
                tracing::warn!(
                    "{}: the worker does not tell what it shows: {error}",
                    self.name
                );
                return false;
            }
        }
        true
    }

    fn show(&mut self, picture: Picture) {
        match self.reader.take(picture) {
            Ok(size) => self.hub.with_frame(|frame| {
                if frame.size() != size {
                    frame.resize(size);
                }
            }),
            Err(why) => {
                tracing::warn!("{}: what the worker shows cannot be read: {why}", self.name);
                self.show_nothing();
            }
        }
        self.pace.hurry();
    }

    fn show_nothing(&mut self) {
        self.reader.forget();
        self.hub.with_frame(|frame| frame.resize(frame.size()));
        self.pace.hurry();
    }

    /// Looks at the picture if a viewer waits and it is time.
    fn look_if_wanted(&mut self) {
        if !self.hub.is_wanted() || self.pace.next() > Instant::now() {
            return;
        }
        self.hub.begin_look();
        let has_changed = self.reader.look(&self.hub).unwrap_or_else(|why| {
            tracing::warn!("{}: the picture cannot be read any more: {why}", self.name);
            self.reader.forget();
            false
        });
        self.hub.end_look(has_changed || self.pace.is_other);
        self.pace.looked(has_changed);
    }

    /// Waits for whatever comes first: the end of the worker, another picture if that is waited for, a
    /// viewer, the next look, `until`.
    fn wait(
        &self,
        connection: Option<(&Connection, bool)>,
        until: Option<Instant>,
    ) -> Result<Woken, End> {
        let look = self.hub.is_wanted().then(|| self.pace.next());
        let next = look.into_iter().chain(until).min();
        let patience = next.map(|next| next.saturating_duration_since(Instant::now()));
        // Rounded up: it would else be woken a moment too early, again and again.
        let patience = patience.map(|patience| patience + Duration::from_micros(100));
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
        let mut fds = vec![
            PollFd::new(&self.bell, PollFlags::IN),
            PollFd::new(&self.errands, PollFlags::IN),
        ];
        if let Some((Connection { control, changes }, waits_for_changes)) = connection {
            fds.push(PollFd::new(control, PollFlags::IN));
            if waits_for_changes {
                fds.push(PollFd::new(changes, PollFlags::IN));
            }
        }
        match poll(&mut fds, patience.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        if is_ready(1) {
            return Err(End::Orphaned);
        }
        let woken = Woken {
            is_lost: is_ready(2),
            has_changed: is_ready(3),
        };
        if is_ready(0) {
            self.bell.silence();
        }
        if let (true, Some((connection, _))) = (woken.has_changed, connection) {
            // It does not block; how often it was written to does not matter.
            let _ = rustix::io::read(connection.changes.as_fd(), &mut [0_u8; 8]);
        }
        Ok(woken)
    }
}

/// What it was woken by.
struct Woken {
    is_lost: bool,
    has_changed: bool,
}

impl Pace {
    fn next(&self) -> Instant {
        let apart = if self.unchanged < QUIET_AFTER {
            self.apart
        } else {
            self.apart.max(QUIET)
        };
        self.last.map_or_else(Instant::now, |last| last + apart)
    }

    /// Has the next look be soon, and count as one that shows something new.
    fn hurry(&mut self) {
        self.unchanged = 0;
        self.is_other = true;
    }

    fn looked(&mut self, has_changed: bool) {
        self.last = Some(Instant::now());
        self.is_other = false;
        self.unchanged = if has_changed {
            0
        } else {
            self.unchanged.saturating_add(1)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_keep_their_distance_however_often_another_picture_is_shown() {
        let mut pace = Pace {
            apart: Duration::from_millis(33),
            last: None,
            unchanged: 0,
            is_other: true,
        };
        assert!(pace.next() <= Instant::now());
        let apart = |pace: &Pace| pace.next().duration_since(pace.last.unwrap());
        pace.looked(true);
        pace.hurry();
        assert_eq!(apart(&pace), pace.apart);
        for _ in 0..QUIET_AFTER {
            pace.looked(false);
        }
        assert_eq!(apart(&pace), QUIET);
        pace.hurry();
        assert_eq!(apart(&pace), pace.apart);
    }
}
