//! What viewers do, on its way to the functions of the vGPU that take it.
//!
//! Each function has a lane: reports that wait, bounded, and a thread that carries them to its worker,
//! one at a time. A viewer's thread never waits. A worker that was replaced is asked for anew, and a
//! report that may not have arrived is given to the next one, which knows whether it has.
//!
//! Several viewers may press the same key: it is let go when the last of them lets it go, or is gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mdev::input::{Key, MAX_COORDINATE, Position, Report, Turn};
use rustix::event::{PollFd, PollFlags, poll};
use worker::control::{Control, ControlError};

use crate::errand::{Failed, InputErrands};
use crate::input::{Input, Seat, Sink};
use crate::keys;
use crate::wake::{self, Bell, Ringer};

/// Most reports that wait, before no further key is pressed: half a minute of fast typing.
const MANY: usize = 512;

/// Between two tries to reach a worker that is gone.
const RETRY: Duration = Duration::from_millis(100);

/// How long what was typed waits for a worker: later than this nobody wants it any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// The buttons of a viewer that are buttons here, by their bit; `BTN_LEFT` and so on.
const BUTTONS: [(u8, u16); 4] = [(0, 0x110), (1, 0x112), (2, 0x111), (7, 0x113)];

/// Those that are turns of a wheel, by their bit.
const WHEELS: [(u8, Turn); 4] = [
    (3, turn(1, 0)),
    (4, turn(-1, 0)),
    (5, turn(0, -1)),
    (6, turn(0, 1)),
];

const fn turn(vertical: i8, horizontal: i8) -> Turn {
    Turn {
        vertical,
        horizontal,
    }
}

/// Where viewers type and point, if there is such a function.
#[derive(Debug)]
pub struct Typing {
    /// Takes keys.
    pub keyboard: Option<Arc<Lane>>,
    /// Takes the pointer.
    pub tablet: Option<Arc<Lane>>,
}

impl Sink for Typing {
    fn sit(&self) -> Box<dyn Seat> {
        Box::new(Place {
            keyboard: self.keyboard.clone().map(Hands::new),
            tablet: self.tablet.clone().map(Hands::new),
            buttons: 0,
        })
    }
}

/// A viewer's place.
struct Place {
    keyboard: Option<Hands>,
    tablet: Option<Hands>,
    buttons: u8,
}

impl Seat for Place {
    fn take(&mut self, input: Input) {
        match input {
            Input::Key {
                is_down,
                symbol,
                code,
            } => {
                let key = keys::find(symbol, code);
                if let (Some(hands), Some(code)) = (&mut self.keyboard, key) {
                    let key = Key {
                        code,
                        down: is_down,
                    };
                    hands.act(&[key], None, Turn::default());
                }
            }
            Input::Pointer {
                x,
                y,
                buttons,
                size,
            } => {
                let changed = self.buttons ^ buttons;
                self.buttons = buttons;
                let Some(hands) = &mut self.tablet else {
                    return;
                };
                let is = |bits: u8, bit: u8| bits & (1 << bit) != 0;
                let keys = BUTTONS.iter().filter(|(bit, _)| is(changed, *bit));
                let keys: Vec<_> = keys
                    .map(|&(bit, code)| Key {
                        code,
                        down: is(buttons, bit),
                    })
                    .collect();
                let mut wheel = Turn::default();
                for (_, turn) in WHEELS.iter().filter(|(bit, _)| is(changed & buttons, *bit)) {
                    wheel.vertical += turn.vertical;
                    wheel.horizontal += turn.horizontal;
                }
                let at = Position {
                    x: scaled(x, size.0),
                    y: scaled(y, size.1),
                };
                hands.act(&keys, Some(at), wheel);
            }
        }
    }
}

/// The middle of a pixel of so many, where the whole is from 0 to [`MAX_COORDINATE`]: so that it is
/// that pixel again, however a guest rounds. The first and the last are at the edges.
fn scaled(at: u16, count: u16) -> u16 {
    let (at, count) = (u32::from(at), u32::from(count).max(1));
    let whole = u32::from(MAX_COORDINATE) + 1;
    if at == 0 {
        return 0;
    }
    if at + 1 >= count {
        return MAX_COORDINATE;
    }
    u16::try_from((2 * at + 1) * whole / (2 * count)).unwrap_or(MAX_COORDINATE)
}

/// What a viewer holds of one function. Dropping it lets go of all.
struct Hands {
    lane: Arc<Lane>,
    held: BTreeSet<u16>,
}

impl Hands {
    fn new(lane: Arc<Lane>) -> Self {
        Self {
            lane,
            held: BTreeSet::new(),
        }
    }

    fn act(&mut self, keys: &[Key], at: Option<Position>, wheel: Turn) {
        let mut waiting = self.lane.waiting();
        let is_full = waiting.reports.len() >= MANY;
        let mut report = Report {
            at,
            wheel: if is_full { Turn::default() } else { wheel },
            ..Report::default()
        };
        for key in keys {
            let changes = match key.down {
                true => !is_full && self.held.insert(key.code) && waiting.press(key.code),
                false => self.held.remove(&key.code) && waiting.let_go(key.code),
            };
            if changes {
                report.keys.push(*key);
            }
        }
        waiting.add(report);
        drop(waiting);
        self.lane.ringer.ring();
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        let held: Vec<_> = self.held.iter().copied().collect();
        for code in held {
            self.act(&[Key { code, down: false }], None, Turn::default());
        }
    }
}

/// The way to one function.
#[derive(Debug)]
pub struct Lane {
    waiting: Mutex<Waiting>,
    ringer: Ringer,
}

#[derive(Debug, Default)]
struct Waiting {
    reports: VecDeque<Report>,
    /// By how many viewers each key is held.
    holders: BTreeMap<u16, usize>,
}

impl Waiting {
    /// One more holds a key. Whether it is the first.
    fn press(&mut self, code: u16) -> bool {
        let holders = self.holders.entry(code).or_default();
        *holders += 1;
        *holders == 1
    }

    /// One less. Whether it was the last.
    fn let_go(&mut self, code: u16) -> bool {
        let Some(holders) = self.holders.get_mut(&code) else {
            return false;
        };
        *holders -= 1;
        let is_last = *holders == 0;
        if is_last {
            self.holders.remove(&code);
        }
        is_last
    }

    /// Forgets what waits, and what came before it, save which keys were let go: a worker that comes
    /// after all holds what was pressed long ago. Whether anything is lost.
    fn forget(&mut self, first: &Report) -> bool {
        let reports = std::iter::once(first).chain(&self.reports);
        let is_lost = reports.clone().any(|report| {
            let mut keys = report.keys.iter();
            report.at.is_some() || report.wheel != turn(0, 0) || keys.any(|key| key.down)
        });
        let let_go = reports.flat_map(|report| &report.keys);
        let let_go = let_go.filter(|key| !key.down && !self.holders.contains_key(&key.code));
        let codes: BTreeSet<_> = let_go.map(|key| key.code).collect();
        self.reports.clear();
        let keys = codes.into_iter().map(|code| Key { code, down: false });
        self.add(Report {
            keys: keys.collect(),
            ..Report::default()
        });
        is_lost
    }

    /// A report waits. Of two places where the pointer is, one after the other, the first is of no
    /// use any more.
    fn add(&mut self, report: Report) {
        let only_moves = |report: &Report| report.keys.is_empty() && report.wheel == turn(0, 0);
        match self.reports.back_mut() {
            _ if report == Report::default() => {}
            Some(last) if only_moves(last) && only_moves(&report) => *last = report,
            _ => self.reports.push_back(report),
        }
    }
}

impl Lane {
    /// A lane, and what carries its reports.
    pub fn new(errands: InputErrands) -> io::Result<(Arc<Self>, Carrier)> {
        let (ringer, bell) = wake::bell()?;
        let lane = Arc::new(Self {
            waiting: Mutex::default(),
            ringer,
        });
        let carrier = Carrier {
            lane: Arc::clone(&lane),
            bell,
            errands,
            connection: None,
            number: 0,
            patience: PATIENCE,
        };
        Ok((lane, carrier))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries the reports of a lane to its worker.
#[derive(Debug)]
pub struct Carrier {
    lane: Arc<Lane>,
    bell: Bell,
    errands: InputErrands,
    connection: Option<Control>,
    /// Of the last report.
    number: u64,
    patience: Duration,
}

impl Carrier {
    /// Carries until nobody runs errands any more.
    pub fn run(mut self) {
        loop {
            let next = self.lane.waiting().reports.pop_front();
            let carried = match next {
                Some(report) => self.carry(&report),
                None => self.rest(),
            };
            if carried.is_err() {
                return;
            }
        }
    }

    /// Gives a report to the worker, or to the next one.
    fn carry(&mut self, report: &Report) -> Result<(), Failed> {
        self.number += 1;
        let number = self.number;
        let deadline = Instant::now() + self.patience;
        while Instant::now() < deadline {
            let Some(connection) = self.connect()? else {
                std::thread::sleep(RETRY);
                continue;
            };
            match connection.give(number, report.clone()) {
                Ok(()) => return Ok(()),
                Err(error @ ControlError::Refused { .. }) => {
                    tracing::warn!("input is refused: {error}");
                    self.connection = None;
                    return Ok(());
                }
                Err(error) => {
                    tracing::debug!("a worker is gone: {error}");
                    self.connection = None;
                }
            }
        }
        if self.lane.waiting().forget(report) {
            tracing::warn!("what was typed goes nowhere: its worker is gone");
        }
        Ok(())
    }

    /// The connection to the worker; `None` if it cannot be reached for now.
    fn connect(&mut self) -> Result<Option<&Control>, Failed> {
        if self.connection.is_none() {
            self.connection = match self.errands.connect() {
                Ok(connection) => Some(connection),
                Err(Failed::Refused(why)) => {
                    tracing::debug!("a worker cannot be reached: {why}");
                    None
                }
                Err(orphaned) => return Err(orphaned),
            };
        }
        Ok(self.connection.as_ref())
    }

    /// Waits for the next report. If the worker is replaced meanwhile, the next one is to know who
    /// holds what is held.
    fn rest(&mut self) -> Result<(), Failed> {
        let mut fds = vec![PollFd::new(&self.bell, PollFlags::IN)];
        fds.extend(
            self.connection
                .as_ref()
                .map(|connection| PollFd::from_borrowed_fd(connection.as_fd(), PollFlags::IN)),
        );
        // An interrupted wait is over early, and the next one begins.
        let _ = poll(&mut fds, None);
        let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        let (rings, is_lost) = (is_ready(0), is_ready(1));
        if rings {
            self.bell.silence();
        }
        if is_lost {
            self.connection = None;
            if !self.lane.waiting().holders.is_empty() {
                self.come_back()?;
            }
        }
        Ok(())
    }

    /// Reaches the next worker, if there is one before what is held is let go.
    fn come_back(&mut self) -> Result<(), Failed> {
        let deadline = Instant::now() + PATIENCE;
        while self.connect()?.is_none() && Instant::now() < deadline {
            std::thread::sleep(RETRY);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
