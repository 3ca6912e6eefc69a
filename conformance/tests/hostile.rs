//! Hostile messages: what they cost is seen. The server runs in this process, whose descriptors
//! and memory are counted: so this is a program of one test.

mod fake;

use std::process;

use conformance::check::{Unmet, Verdict};
use conformance::hostile::{self, Attack, Toll};
use fake::{Fake, Fault};

fn attack(fault: Option<Fault>) -> (Verdict, Toll) {
    let fake = Fake::start(fault);
    let attack = Attack {
        messages: 20_000,
        seed: 1,
        pid: Some(process::id()),
    };
    let mut toll = Toll::default();
    let verdict = hostile::run(&fake.target(), attack, &mut toll);
    (verdict, toll)
}

#[test]
fn a_server_that_leaks_is_seen_to() {
    let (verdict, toll) = attack(None);
    assert_eq!(verdict, Ok(()), "{toll}");
    assert!(toll.messages >= 20_000 && toll.usage.is_some(), "{toll}");
    for (fault, word) in [
        (Fault::LeaksDescriptors, "descriptors"),
        (Fault::LeaksMemory, "memory"),
    ] {
        let (verdict, toll) = attack(Some(fault));
        let is_seen = matches!(&verdict, Err(Unmet::Fail(words)) if words.contains(word));
        assert!(is_seen, "{fault:?}: {verdict:?}, {toll}");
    }
}
