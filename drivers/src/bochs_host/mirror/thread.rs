//! When it is compared.

use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::{Mirror, State, Way};

/// Between two comparisons, while something changes.
const SHORTEST: Duration = Duration::from_micros(16_667);

/// While nothing does.
const LONGEST: Duration = Duration::from_millis(100);

impl Mirror {
    /// Starts the thread, which ends with [`Self::end`].
    pub(in super::super) fn start(self: &Arc<Self>) -> io::Result<JoinHandle<()>> {
        let mirror = Arc::clone(self);
        Builder::new()
            .name("bochs-mirror".to_owned())
            .spawn(move || mirror.run())
    }

    fn run(&self) {
        let mut apart = SHORTEST;
        let mut next = Instant::now();
        let mut state = self.state();
        while !state.is_over {
            let now = Instant::now();
            if !self.is_seen(&state) {
                apart = SHORTEST;
                state = self.sleep(state, None);
            } else if now < next {
                state = self.sleep(state, Some(next - now));
            } else {
                let has_changed = self.copy_picture(&mut state);
                if self.way == Way::ToCard {
                    self.screen.show(self.seat, self.on_card(state.picture));
                }
                apart = match has_changed {
                    true => SHORTEST,
                    false => (2 * apart).min(LONGEST),
                };
                // Where comparing takes long, half of the time is left to others.
                next = Instant::now() + apart.max(now.elapsed());
            }
        }
    }

    fn sleep<'a>(
        &self,
        state: MutexGuard<'a, State>,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        match limit {
            None => self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                self.changed
                    .wait_timeout(state, limit)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        }
    }

    /// Whether anyone sees what is copied.
    fn is_seen(&self, state: &State) -> bool {
        let is_seen = || match self.way {
            Way::ToCard => self.screen.is_of(self.seat),
            Way::FromCard => self.scanout.is_watched(),
        };
        state.picture.is_some() && !state.is_stopped && is_seen()
    }
}
