//! How long to look for the next message before going to sleep.
//!
//! To wake a sleeping thread on another CPU costs tens of microseconds; a message that comes
//! within that time is cheaper looked for. The window follows what was seen, as KVM's does when
//! a virtual CPU halts.

use std::time::Duration;

use rustix::thread::sched_getaffinity;

/// The window that is tried first.
const FIRST: Duration = Duration::from_micros(25);

/// Longer waits than this are slept through.
const LONGEST: Duration = Duration::from_micros(200);

/// How a session waits for its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Polling {
    /// Always sleeps.
    Off,
    /// Looks for as long as has lately paid, if there is a CPU for the client to run on.
    #[default]
    Adaptive,
    /// Always looks this long.
    Fixed(Duration),
}

/// The window now, and how it got there.
#[derive(Debug)]
pub struct PollWindow {
    mode: Polling,
    window: Duration,
    has_two_cpus: fn() -> bool,
}

impl PollWindow {
    /// Starts with no window, or the fixed one.
    pub fn new(mode: Polling) -> Self {
        let window = match mode {
            Polling::Off | Polling::Adaptive => Duration::ZERO,
            Polling::Fixed(window) => window,
        };
        Self {
            mode,
            window,
            has_two_cpus,
        }
    }

    /// How long to look before sleeping.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Learns from a message that came after `waited`, be it found or slept for.
    pub fn waited(&mut self, waited: Duration) {
        if self.mode != Polling::Adaptive || waited <= self.window {
            return;
        }
        // With one CPU the client could only run while we sleep.
        self.window = if waited > LONGEST || !(self.has_two_cpus)() {
            Duration::ZERO
        } else {
            (self.window * 2).clamp(FIRST, LONGEST)
        };
    }
}

fn has_two_cpus() -> bool {
    sched_getaffinity(None).is_ok_and(|set| set.count() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn the_window_grows_while_waits_are_short_and_closes_after_a_long_one() {
        let mut polling = PollWindow {
            mode: Polling::Adaptive,
            window: us(25),
            has_two_cpus: || true,
        };
        for (waited, window) in [
            (us(10), us(25)),
            (us(40), us(50)),
            (us(60), us(100)),
            (us(180), us(200)),
            (us(190), us(200)),
            (us(201), us(0)),
        ] {
            polling.waited(waited);
            assert_eq!(polling.window(), window, "after {waited:?}");
        }
    }

    #[test]
    fn with_one_cpu_nobody_looks() {
        let mut polling = PollWindow {
            mode: Polling::Adaptive,
            window: Duration::ZERO,
            has_two_cpus: || false,
        };
        for window in [us(0), us(25)] {
            polling.window = window;
            polling.waited(us(30));
            assert_eq!(polling.window(), Duration::ZERO);
        }
    }

    #[test]
    fn an_idle_session_sleeps_at_once() {
        let mut polling = PollWindow::new(Polling::Adaptive);
        polling.waited(Duration::from_secs(1));
        assert_eq!(polling.window(), Duration::ZERO);
    }

    #[test]
    fn a_fixed_window_does_not_move() {
        for (mode, window) in [(Polling::Off, us(0)), (Polling::Fixed(us(7)), us(7))] {
            let mut polling = PollWindow::new(mode);
            polling.waited(us(100));
            polling.waited(us(100_000));
            assert_eq!(polling.window(), window);
        }
    }
}
