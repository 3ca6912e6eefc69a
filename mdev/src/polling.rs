//! How long to look for the next message before going to sleep.
//!
//! To wake a sleeping thread on another CPU costs tens of microseconds; a message that comes
//! within that time is cheaper looked for. The window follows what was seen, as KVM's does when
//! a virtual CPU halts.

use std::time::{Duration, Instant};

use rustix::thread::sched_getaffinity;

/// The window that is tried first.
const FIRST: Duration = Duration::from_micros(25);

/// Longer waits than this are slept through.
const LONGEST: Duration = Duration::from_micros(200);

/// How a thread waits for its client, or its guest.
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

/// How many waits to go by what is known of the CPUs: asking costs a system call.
const CPUS_KNOWN_FOR: u32 = 4096;

/// The window now, and how it got there.
#[derive(Debug)]
pub struct PollWindow {
    mode: Polling,
    window: Duration,
    ask_for_two_cpus: fn() -> bool,
    has_two_cpus: bool,
    waits: u32,
}

impl PollWindow {
    /// Starts with no window, or the fixed one.
    pub fn new(mode: Polling) -> Self {
        Self::asking(mode, has_two_cpus)
    }

    fn asking(mode: Polling, ask_for_two_cpus: fn() -> bool) -> Self {
        let window = match mode {
            Polling::Off | Polling::Adaptive => Duration::ZERO,
            Polling::Fixed(window) => window,
        };
        Self {
            mode,
            window,
            ask_for_two_cpus,
            has_two_cpus: ask_for_two_cpus(),
            waits: 0,
        }
    }

    /// How long to look before sleeping.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// When a wait begins; `None` if it need not be timed, since there is no window, and none
    /// will be opened: with one CPU the client could only run while we sleep.
    pub fn begin(&mut self) -> Option<Instant> {
        self.waits = self.waits.wrapping_add(1);
        if self.waits.is_multiple_of(CPUS_KNOWN_FOR) {
            self.has_two_cpus = (self.ask_for_two_cpus)();
        }
        let is_timed = match self.mode {
            Polling::Off => false,
            Polling::Adaptive => self.has_two_cpus,
            Polling::Fixed(_) => true,
        };
        is_timed.then(Instant::now)
    }

    /// Learns from a message that came after `waited`, be it found or slept for.
    pub fn waited(&mut self, waited: Duration) {
        if self.mode != Polling::Adaptive || waited <= self.window {
            return;
        }
        self.window = if waited > LONGEST {
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
        let mut polling = PollWindow::asking(Polling::Adaptive, || true);
        polling.window = us(25);
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
    fn only_waits_that_could_be_looked_through_are_timed() {
        for (mode, two_cpus, timed) in [
            (Polling::Off, (|| true) as fn() -> bool, false),
            (Polling::Adaptive, || true, true),
            (Polling::Adaptive, || false, false),
            (Polling::Fixed(us(7)), || false, true),
        ] {
            let mut polling = PollWindow::asking(mode, two_cpus);
            assert_eq!(polling.begin().is_some(), timed, "{mode:?}");
        }
    }

    #[test]
    fn a_session_that_loses_its_second_cpu_stops_looking() {
        let mut polling = PollWindow::asking(Polling::Adaptive, || true);
        polling.ask_for_two_cpus = || false;
        let timed = (0..2 * CPUS_KNOWN_FOR).map(|_| polling.begin().is_some());
        assert_eq!(
            timed.filter(|is_timed| *is_timed).count() as u32,
            CPUS_KNOWN_FOR - 1
        );
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
