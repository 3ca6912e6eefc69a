//! A session that is handed from one process to another answers as one that is not.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod asked;
mod device;
mod pair;
mod side;
#[path = "../support/mod.rs"]
mod support;

use proptest::test_runner::{Config, TestRunner};

use asked::anything;
use pair::Pair;

fn cases() -> u32 {
    match std::env::var_os("VGPUD_TEST_ALL") {
        Some(_) => 4096,
        None => 256,
    }
}

#[test]
fn a_session_that_goes_on_elsewhere_answers_as_one_that_stays() {
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(cases())
    };
    // As told to, and after deaths.
    let handed = std::cell::Cell::new([0; 2]);
    let run = TestRunner::new(config).run(&anything(), |all| {
        let mut pair = Pair::new();
        for asked in &all {
            pair.happen(asked);
        }
        pair.compare();
        let [told, died] = pair.handed();
        let [all_told, all_died] = handed.get();
        handed.set([all_told + told, all_died + died]);
        Ok(())
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
    let [told, died] = handed.get();
    println!("{told} hand-overs, {died} deaths");
    assert!(told >= cases() && died >= cases());
}
