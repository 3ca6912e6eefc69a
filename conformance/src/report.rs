//! The outcome of a run: lines for people, JSON for programs.

use serde_json::{Value, json};

use crate::check::{Check, Unmet};
use crate::hostile::Toll;
use crate::runner::Outcome;

/// How many checks ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The server keeps the rule.
    pub passed: usize,
    /// The server breaks the rule.
    pub failed: usize,
    /// The server does not offer what the rule is about.
    pub skipped: usize,
}

impl Tally {
    /// Counts outcomes.
    pub fn of(outcomes: &[Outcome]) -> Self {
        let mut tally = Self::default();
        for outcome in outcomes {
            match outcome.verdict {
                Ok(()) => tally.passed += 1,
                Err(Unmet::Fail(_)) => tally.failed += 1,
                Err(Unmet::Skip(_)) => tally.skipped += 1,
            }
        }
        tally
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// One line about one check; for a failure also the rule that was broken.
pub fn line(outcome: &Outcome) -> String {
    let check = &outcome.check;
    match &outcome.verdict {
        Ok(()) => format!("pass  {}", check.name),
        Err(Unmet::Skip(what)) => format!("skip  {}: the server does not offer {what}", check.name),
        Err(Unmet::Fail(words)) => format!(
            "FAIL  {}: {words}\n      [{}] {}",
            check.name, check.section, check.rule
        ),
    }
}

/// All outcomes, for programs.
pub fn json(outcomes: &[Outcome]) -> Value {
    let tally = Tally::of(outcomes);
    json!({
        "passed": tally.passed,
        "failed": tally.failed,
        "skipped": tally.skipped,
        "checks": outcomes.iter().map(outcome_json).collect::<Vec<_>>(),
    })
}

fn outcome_json(outcome: &Outcome) -> Value {
    let (result, why) = match &outcome.verdict {
        Ok(()) => ("pass", Value::Null),
        Err(Unmet::Fail(words)) => ("fail", json!(words)),
        Err(Unmet::Skip(what)) => ("skip", json!(what)),
    };
    let mut value = check_json(&outcome.check);
    value["result"] = json!(result);
    value["why"] = why;
    value["ms"] = json!(u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX));
    value
}

/// One check, for programs.
pub fn check_json(check: &Check) -> Value {
    let needs: Vec<_> = check.needs.iter().map(|feature| feature.words()).collect();
    json!({
        "name": check.name,
        "section": check.section,
        "rule": check.rule,
        "needs": needs,
    })
}

/// What hostile messages cost, for programs; `outcome` is `pass` or what is wrong.
pub fn toll_json(toll: &Toll, outcome: &str) -> Value {
    let usage = toll.usage.map(|usage| {
        usage.map(|usage| json!({ "descriptors": usage.fds, "rss_kib": usage.rss_kib }))
    });
    json!({
        "outcome": outcome,
        "messages": toll.messages,
        "connections": toll.connections,
        "seconds": toll.took.as_secs_f64(),
        "before_warm_after": usage,
    })
}
