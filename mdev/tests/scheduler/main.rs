//! The scheduler in virtual time: named histories, and what holds in any.
//!
//! - [`world`]: an engine and clients under the scheduler; what happens is written down.
//! - [`scenarios`], [`refusals`]: tables.
//! - [`histories`]: random ones. [`always`], [`fairness`], [`ceilings`], [`promises`]: what is held
//!   against what was written down, by oracles that know nothing of how a decision is made.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod always;
mod ceilings;
mod changes;
mod drift;
mod fairness;
mod histories;
mod promises;
mod refusals;
mod scenarios;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

/// How many histories a property is tried on.
fn config() -> Config {
    let cases = match std::env::var_os("VGPUD_TEST_ALL") {
        Some(_) => 10_000,
        None => 256,
    };
    Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    }
}

/// Tries `test` on so many histories, and says which failed.
fn say<S: Strategy>(
    config: Config,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> Result<(), TestError<S::Value>> {
    TestRunner::new(config).run(strategy, test)
}
