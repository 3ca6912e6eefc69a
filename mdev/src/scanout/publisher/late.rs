//! A picture that is brought up to date when somebody looks.
//!
//! A device whose picture is a copy of guest memory need not copy what nobody looks at. It says that
//! the picture is late, and copies when it is asked to. Whoever looks has it asked first, and waits
//! for a short while: on a thread that the device does not know.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Rect, ScanoutPublisher};

/// Asks a device for what is late.
#[derive(Clone)]
pub(super) struct Asking(Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asking")
    }
}

/// How late the picture of a head is.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    is_late: bool,
    /// Somebody was told of what the picture did not show yet, and is to be told again.
    was_told_early: bool,
    /// Answers of the device, so that nobody waits for one more.
    answers: u64,
}

impl Lateness {
    /// There is another picture, or none.
    pub(super) fn end(&mut self) {
        *self = Self {
            answers: self.answers.wrapping_add(1),
            ..Self::default()
        };
    }

    /// Somebody who was told of what is drawn looks now. Whether the device is to be asked again.
    pub(super) fn told(&mut self, drawn: Rect) -> bool {
        let is_early = self.is_late && !drawn.is_empty();
        self.was_told_early |= is_early;
        is_early
    }
}

impl ScanoutPublisher {
    /// What asks the device for what is late on any head: it is called from any thread, and waits for
    /// nothing. The device answers by [`Self::caught_up`] or [`Self::not_caught_up`].
    pub fn ask_with(&self, ask: impl Fn() + Send + Sync + 'static) {
        let mut asking = self.display.asking.lock();
        let asking = asking.as_deref_mut();
        *asking.unwrap_or_else(|poisoned| poisoned.get_mut()) = Some(Asking(Arc::new(ask)));
    }

    /// Part of the picture was drawn, in its own pixels, and is not there before somebody asks.
    pub fn drawn_late(&self, rect: Rect) {
        self.lock().late.is_late = true;
        self.drawn(rect);
    }

    /// All that was late is there: this part of the picture.
    pub fn caught_up(&self, rect: Rect) {
        let was_told_early = {
            let late = &mut self.lock().late;
            let was_told_early = late.was_told_early;
            late.end();
            was_told_early
        };
        self.display.answered.notify_all();
        if was_told_early {
            self.drawn(rect);
        }
    }

    /// What is late cannot be had now.
    pub fn not_caught_up(&self) {
        let late = &mut self.lock().late;
        late.answers = late.answers.wrapping_add(1);
        self.display.answered.notify_all();
    }

    /// Has the picture brought up to date, and waits for that as long as `limit`. To be called before
    /// [`Self::take_drawn`], by who wants to see what the guest has drawn. It may be late afterwards,
    /// if the guest draws on or is slow; who watches is told once it is not.
    pub fn catch_up(&self, limit: Duration) {
        let (is_late, answers) = {
            let late = &self.lock().late;
            (late.is_late, late.answers)
        };
        if !is_late {
            return;
        }
        self.ask();
        let is_waiting = |head: &mut super::Head| head.late.is_late && head.late.answers == answers;
        let answered = &self.display.answered;
        let waited = answered.wait_timeout_while(self.lock(), limit, is_waiting);
        drop(waited);
    }

    /// Asks the device. No lock is held meanwhile.
    pub(super) fn ask(&self) {
        let asking = self.display.asking.lock();
        let asking = asking.unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(Asking(ask)) = asking {
            ask();
        }
    }
}
