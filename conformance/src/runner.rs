//! One check after the other. What a check does to the server is counted for it alone.

use std::time::{Duration, Instant};

use crate::check::{Check, Unmet, Verdict};
use crate::target::Target;

/// How one check ended.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub check: Check,
    /// How.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

/// Runs one check, and sees to it that the next one finds a server.
pub fn run(check: Check, target: &Target) -> Outcome {
    let start = Instant::now();
    let mut verdict = run_if_offered(&check, target);
    if let Some(status) = target.server().take_death() {
        let before = match verdict {
            Err(Unmet::Fail(words)) => format!("; before: {words}"),
            Ok(()) | Err(Unmet::Skip(_)) => String::new(),
        };
        verdict = Err(Unmet::fail(format!("the server died: {status}{before}")));
    } else if let Err(Unmet::Fail(_)) = verdict
        && target.client().is_err()
    {
        // It lives and serves nobody. One that was started elsewhere is left as it is.
        let restarted = target.server().restart();
        verdict = verdict.and(restarted);
    }
    Outcome {
        check,
        verdict,
        took: start.elapsed(),
    }
}

fn run_if_offered(check: &Check, target: &Target) -> Verdict {
    for feature in check.needs {
        let offered = target.offers(*feature);
        match offered {
            Ok(true) => {}
            Ok(false) => return Err(Unmet::Skip(feature.words().to_owned())),
            Err(unmet) => return Err(unmet.within(feature.words())),
        }
    }
    (check.run)(target)
}
