//! Where the picture comes from: the memory file that the worker hands out. The worker is asked for
//! it when it says that something else is shown; its device is never asked for anything.
//!
//! - `reader`: pixels out of the file,
//! - `pace`: when it is looked at.
//!
//! What has changed is found by comparing tiles: so many times a second while the guest draws, less
//! often while it does not, and not at all while no viewer waits. A device that tells what its guest
//! draws is looked at then, and there.

mod pace;
mod reader;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use worker::control::{Control, ControlError, Picture};

use crate::cursor::{Cursor, Image};
use crate::errand::{self, Errands};
use crate::hub::Hub;
use crate::rfb::update::ResizeStatus;
use crate::wake::Bell;
use pace::Pace;
use reader::Reader;

/// Between two questions for what is shown, while no viewer wants to know.
const UNWATCHED: Duration = Duration::from_millis(500);

/// Between two sizes that the guest is asked for.
const WISHES_APART: Duration = Duration::from_millis(250);

/// Between two tries to reach a worker that is gone.
const RETRY: Duration = Duration::from_millis(200);

/// How long a worker that took over from another may show nothing, before that is believed.
const SETTLING: Duration = Duration::from_secs(2);

/// The source of the picture.
#[derive(Debug)]
pub struct Source {
    /// What the log calls it.
    name: String,
    head: u32,
    hub: Arc<Hub>,
    bell: Bell,
    errands: Errands,
    reader: Reader,
    pace: Pace,
    /// A worker that shows nothing is believed from then on.
    settled: Option<Instant>,
    /// The changes of the cursor that are known of, and its image with the worker's number.
    pointed: Option<u64>,
    image: Option<(u64, Arc<Image>)>,
    /// When the guest was last asked for another size.
    wished: Option<Instant>,
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
    pub(crate) fn new(name: &str, head: u32, hub: Arc<Hub>, bell: Bell, errands: Errands) -> Self {
        Self {
            name: name.to_owned(),
            head,
            hub,
            bell,
            errands,
            reader: Reader::default(),
            pace: Pace::default(),
            settled: None,
            pointed: None,
            image: None,
            wished: None,
        }
    }

    /// Shows the picture until the vGPU is gone: its worker for longer than `patience`. At least
    /// `apart` lies between two looks.
    pub fn run(mut self, patience: Duration, apart: Duration) -> End {
        self.pace = Pace::new(apart);
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
                while let Some((viewer, _)) = self.hub.take_wish() {
                    self.hub.answer(viewer, ResizeStatus::Failed);
                }
                self.look_if_wanted();
                self.wait(None, Some(until))?;
            }
        }
    }

    /// Shows what a worker shows, until the worker is gone.
    fn follow(&mut self, connection: &Connection) -> Result<(), End> {
        // Another worker counts from another start.
        (self.pointed, self.image) = (None, None);
        let mut is_stale = true;
        let mut asked: Option<Instant> = None;
        loop {
            // A guest may show another picture as often as it likes: it is not asked for more often
            // than it is looked at.
            let apart = if self.hub.is_wanted() {
                self.pace.apart()
            } else {
                UNWATCHED
            };
            let next_ask = asked.map_or_else(Instant::now, |asked| asked + apart);
            if is_stale && next_ask <= Instant::now() {
                if !self.ask(&connection.control) {
                    return Ok(());
                }
                is_stale = false;
                asked = Some(Instant::now());
            }
            let Some(next_wish) = self.grant_wishes(&connection.control) else {
                return Ok(());
            };
            self.look_if_wanted();
            let ask = is_stale.then_some(next_ask);
            let until = self.settled.into_iter().chain(ask).chain(next_wish).min();
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
        match control.scanout(self.head) {
            Ok(picture) => {
                self.settled = None;
                let pointed = picture.cursor;
                self.show(picture);
                return self.ask_cursor(control, pointed);
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

    /// Asks for the cursor if it has changed so often. Whether the worker answers.
    fn ask_cursor(&mut self, control: &Control, pointed: u64) -> bool {
        let is_known = self.hub.with_frame(|frame| frame.cursor.is_some());
        if self.pointed == Some(pointed) || (pointed == 0 && !is_known) {
            return true;
        }
        let pointer = match control.cursor(self.head) {
            Ok(pointer) => pointer,
            Err(error) => {
                tracing::warn!(
                    "{}: the worker does not tell its cursor: {error}",
                    self.name
                );
                return false;
            }
        };
        self.pointed = Some(pointer.sequence);
        let image = pointer.image.and_then(|(image, memory)| {
            let before = self.image.take();
            if let Some(before) = before.filter(|(sequence, _)| *sequence == image.sequence) {
                self.image = Some(before.clone());
                return Some(before.1);
            }
            match reader::read_cursor(&image, &memory) {
                Ok(read) => {
                    let read = Arc::new(read);
                    self.image = Some((image.sequence, Arc::clone(&read)));
                    Some(read)
                }
                Err(why) => {
                    tracing::warn!("{}: the cursor cannot be read: {why}", self.name);
                    None
                }
            }
        });
        let (x, y) = (pointer.x, pointer.y);
        self.hub
            .with_frame(|frame| frame.cursor = Some(Cursor { image, x, y }));
        true
    }

    /// Asks the guest for a size that a viewer wishes for, if it is time: when the next one may be
    /// asked for, if there is one. `None` if the worker does not answer.
    fn grant_wishes(&mut self, control: &Control) -> Option<Option<Instant>> {
        let next = self.wished.map(|wished| wished + WISHES_APART);
        if let Some(next) = next.filter(|next| *next > Instant::now()) {
            return Some(self.hub.has_wish().then_some(next));
        }
        let Some((viewer, (width, height))) = self.hub.take_wish() else {
            return Some(None);
        };
        self.wished = Some(Instant::now());
        let asked = control.resize(self.head, width.into(), height.into());
        let status = match &asked {
            Ok(()) => ResizeStatus::Forwarded,
            Err(ControlError::Refused { errno, .. }) => match errno.as_str() {
                "ENOTSUP" => ResizeStatus::Prohibited,
                "EINVAL" => ResizeStatus::Invalid,
                _ => ResizeStatus::Failed,
            },
            Err(_) => ResizeStatus::Failed,
        };
        self.hub.answer(viewer, status);
        if let Err(error) = &asked {
            tracing::info!(
                "{}: a viewer asked for {width}x{height}: {error}",
                self.name
            );
        }
        let is_answered = matches!(&asked, Ok(()) | Err(ControlError::Refused { .. }));
        let next = self.hub.has_wish().then(|| Instant::now() + WISHES_APART);
        is_answered.then_some(next)
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
        self.pointed = None;
        self.hub.with_frame(|frame| {
            frame.resize(frame.size());
            frame.cursor = frame.cursor.is_some().then(Cursor::default);
        });
        self.pace.hurry();
    }

    /// Looks at the picture if a viewer waits and it is time.
    fn look_if_wanted(&mut self) {
        if self.next_look().is_none_or(|next| next > Instant::now()) {
            return;
        }
        self.hub.begin_look();
        let has_changed = self.reader.look(&self.hub).unwrap_or_else(|why| {
            tracing::warn!("{}: the picture cannot be read any more: {why}", self.name);
            self.reader.forget();
            false
        });
        self.hub.end_look(has_changed || self.pace.is_other());
        self.pace.looked(has_changed);
    }

    /// When the picture is looked at next; not before something happens, if nobody waits or nothing
    /// can be new.
    fn next_look(&self) -> Option<Instant> {
        let may_be_new =
            || self.reader.may_have_changed() || self.pace.is_other() || self.hub.is_awaited();
        (self.hub.is_wanted() && may_be_new()).then(|| self.pace.next())
    }

    /// Waits for whatever comes first: the end of the worker, another picture if that is waited for, a
    /// viewer, the next look, `until`.
    fn wait(
        &self,
        connection: Option<(&Connection, bool)>,
        until: Option<Instant>,
    ) -> Result<Woken, End> {
        let next = self.next_look().into_iter().chain(until).min();
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
