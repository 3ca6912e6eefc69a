//! What clients can make us say. Alone in its program, since it listens to all of it.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::Instance;
use support::listener::Listener;
use support::raw::{Raw, message};

#[test]
fn a_hostile_client_cannot_fill_the_log() {
    let said = Arc::new(AtomicUsize::new(0));
    tracing::subscriber::set_global_default(Listener(Arc::clone(&said))).unwrap();
    let instance = Instance::new();
    let mut raw = instance.raw();
    for command in 0..500 {
        raw.ask(command, &[0xff; 8], &[]);
    }
    assert_eq!(said.load(Ordering::Relaxed), 1, "a client has connected");
    for _ in 0..100 {
        assert!(instance.try_client().is_err());
    }
    drop(raw);
    for _ in 0..100 {
        drop(instance.raw());
        let mut raw = Raw::new(instance.connect());
        raw.send(&message(0, 13, &[]), &[]);
        raw.receive();
    }
    let said = said.load(Ordering::Relaxed);
    assert!((5..50).contains(&said), "{said} messages");
}
