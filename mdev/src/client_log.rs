//! What is said of clients in the log, bounded: a client decides how often it connects, breaks
//! off and is refused, and must not fill a disk with it.

use std::fmt::Arguments;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Messages that pass in one [`PERIOD`]: more than a machine that is started, used and stopped
/// gives rise to.
const MOST: u32 = 20;

/// How long until as many pass again.
const PERIOD: Duration = Duration::from_secs(60);

/// Says things about clients. Where too much was said lately, it says them at debug level.
#[derive(Debug, Default)]
pub struct ClientLog {
    period: Mutex<Option<Period>>,
}

#[derive(Debug)]
struct Period {
    start: Instant,
    /// Messages in it, those that did not pass included.
    messages: u32,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    /// The first one that does not pass, which is worth a word.
    Last,
    Withhold,
}

impl ClientLog {
    /// Something in the ordinary course of things.
    pub fn info(&self, message: Arguments<'_>) {
        if self.passes() {
            tracing::info!("{message}");
        } else {
            tracing::debug!("{message}");
        }
    }

    /// Something that an operator should look at.
    pub fn warn(&self, message: Arguments<'_>) {
        if self.passes() {
            tracing::warn!("{message}");
        } else {
            tracing::debug!("{message}");
        }
    }

    fn passes(&self) -> bool {
        let verdict = self.judge(Instant::now());
        if verdict == Verdict::Last {
            tracing::warn!("clients come and go often: for a minute, more of it at debug level");
        }
        verdict == Verdict::Pass
    }

    fn judge(&self, now: Instant) -> Verdict {
        let mut period = self.period.lock().unwrap_or_else(PoisonError::into_inner);
        let period = period.get_or_insert(Period {
            start: now,
            messages: 0,
        });
        if now.saturating_duration_since(period.start) >= PERIOD {
            period.start = now;
            period.messages = 0;
        }
        period.messages = period.messages.saturating_add(1);
        match period.messages {
            1..=MOST => Verdict::Pass,
            message if message == MOST + 1 => Verdict::Last,
            _ => Verdict::Withhold,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_messages_pass_in_a_minute_and_the_first_withheld_one_is_told() {
        let log = ClientLog::default();
        let start = Instant::now();
        for minute in 0..3 {
            let start = start + PERIOD * minute;
            for message in 0..100 {
                let expected = match message {
                    0..20 => Verdict::Pass,
                    20 => Verdict::Last,
                    _ => Verdict::Withhold,
                };
                let now = start + Duration::from_millis(500) * message;
                assert_eq!(log.judge(now), expected, "{minute}: {message}");
            }
        }
    }
}
