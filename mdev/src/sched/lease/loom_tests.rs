//! Every order of a daemon's stores and a worker's loads, on the code that runs.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p mdev --release --lib loom`

use loom::sync::Arc;
use loom::thread;

use super::super::units::{Nanos, Time};
use super::{GrantWords, Granter, Lease, Spender, UsageReader, UsageWords};

/// A lease each of whose numbers tells which it is.
fn lease(number: u64) -> Lease {
    let depth = number as u32 + 1;
    Lease::new(
        number as u32,
        depth,
        Nanos(number),
        Nanos(1000 + number),
        Time(number),
    )
    .unwrap()
}

/// How often a thread may be interrupted: a torn read takes one, between two loads or two stores.
const PREEMPTIONS: usize = 2;

fn model(test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(test);
}

#[test]
fn loom_a_lease_is_read_whole_or_not_at_all() {
    model(|| {
        let words = Arc::new(GrantWords::default());
        let mut granter = Granter::new(&words);
        granter.grant(&words, &lease(1));
        let daemon = {
            let words = words.clone();
            thread::spawn(move || granter.grant(&words, &lease(2)))
        };
        if let Some((_, read)) = words.read() {
            assert_eq!(read, lease(read.engine().into()), "torn");
        }
        daemon.join().unwrap();
        assert_eq!(words.read().map(|(_, read)| read), Some(lease(2)));
    });
}

#[test]
fn loom_what_was_used_is_charged_once() {
    model(|| {
        let usage = Arc::new(UsageWords::default());
        let worker = {
            let usage = usage.clone();
            thread::spawn(move || {
                let mut spender = Spender::default();
                spender.end(Nanos(3), &usage);
                spender.end(Nanos(4), &usage);
            })
        };
        let mut reader = UsageReader::default();
        let first = reader.read(&usage, Nanos(10));
        worker.join().unwrap();
        let rest = reader.read(&usage, Nanos(10));
        assert!(first.is_sound && rest.is_sound);
        assert_eq!(first.used.0 + rest.used.0, 7);
    });
}
