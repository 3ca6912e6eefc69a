//! The suite can fail: a server that is right passes it, and one that breaks a rule fails the
//! check of that rule, in words and in time.

mod fake;

use std::time::{Duration, Instant};

use conformance::check::{Check, Unmet, Verdict};
use conformance::{checks, runner};
use fake::{Fake, Fault};

fn named(name: &str) -> Check {
    let mut checks = checks::all();
    checks
        .find(|check| check.name == name)
        .unwrap_or_else(|| panic!("no check has the name {name}"))
}

fn verdict(check: Check, fault: Option<Fault>) -> Verdict {
    runner::run(check, &Fake::start(fault).target()).verdict
}

/// The check passes with the server that is right, and fails with the one that is not.
fn fails(fault: Fault, names: &[&str]) {
    for name in names {
        let check = named(name);
        assert_eq!(verdict(check, None), Ok(()), "{name}, no fault");
        let begin = Instant::now();
        let broken = verdict(check, Some(fault));
        assert!(
            matches!(broken, Err(Unmet::Fail(_))),
            "{name}, {fault:?}: {broken:?}"
        );
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "{name} took long"
        );
    }
}

#[test]
fn names_are_of_one_check_each_and_rules_are_sentences() {
    let mut names: Vec<_> = checks::all().map(|check| check.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "a name is used twice");
    for check in checks::all() {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(check.name.chars().all(is_name), "{}", check.name);
        assert!(check.rule.ends_with('.'), "{}: {}", check.name, check.rule);
        assert!(!check.section.is_empty(), "{}", check.name);
    }
}

#[test]
fn a_server_that_is_right_passes() {
    let fake = Fake::start(None);
    let target = fake.target();
    for check in checks::all().filter(|check| !is_of_others(check)) {
        let outcome = runner::run(check, &target);
        let is_failure = matches!(outcome.verdict, Err(Unmet::Fail(_)));
        assert!(!is_failure, "{}: {:?}", check.name, outcome.verdict);
    }
}

/// Checks of what the fake does not have at all: memory and interrupts.
fn is_of_others(check: &Check) -> bool {
    let parts = [
        "dma", "map", "irq", "msi", "intx", "memory", "MIG", "FEATURE", "DMA", "IRQS",
    ];
    parts
        .iter()
        .any(|part| check.name.contains(part) || check.section.contains(part))
}

#[test]
fn wrong_versions_are_seen() {
    fails(
        Fault::AgreesOnAnyMajor,
        &["version_of_another_major_is_not_agreed_on"],
    );
    fails(
        Fault::AnswersAHigherMinor,
        &["version_reply_has_at_most_the_offered_minor"],
    );
    fails(
        Fault::OffersWhatWasNotOffered,
        &[
            "version_reply_names_only_what_was_offered",
            "version_reply_to_no_capabilities_names_none",
        ],
    );
    fails(Fault::ServesBeforeVersion, &["version_comes_first"]);
}

#[test]
fn wrong_replies_are_seen() {
    fails(
        Fault::AnswersUnasked,
        &[
            "what_wants_no_reply_gets_none",
            "what_wants_no_reply_gets_no_error",
        ],
    );
    fails(Fault::AnswersWithAnotherId, &["the_message_id_is_echoed"]);
    fails(Fault::AnswersWithAnotherCommand, &["the_command_is_echoed"]);
    fails(
        Fault::ErrsWithAPayload,
        &["an_error_reply_is_a_header_alone"],
    );
    fails(Fault::TellsNoNeed, &["device_info_has_16_bytes"]);
    fails(
        Fault::HasNoFile,
        &["region_info_comes_with_a_descriptor_where_it_can_be_mapped"],
    );
}

#[test]
fn wrong_framing_is_seen() {
    fails(
        Fault::LeavesPayloads,
        &["a_command_that_is_not_known_is_skipped_whole"],
    );
    fails(
        Fault::ReadsHeadersOnce,
        &[
            "a_header_may_come_in_two_pieces",
            "a_message_may_come_byte_by_byte",
        ],
    );
    fails(
        Fault::ClosesAtTheUnknown,
        &["a_command_that_is_not_known_is_refused"],
    );
    fails(
        Fault::KeepsDescriptors,
        &["descriptors_with_a_message_that_takes_none_are_closed"],
    );
}

#[test]
fn wrong_effects_are_seen() {
    fails(Fault::DropsWrites, &["write_is_read_back"]);
    fails(
        Fault::PostsWritesLate,
        &["what_wants_no_reply_is_done_before_a_later_reply"],
    );
    fails(
        Fault::ReadsPastTheEnd,
        &["read_past_the_end_is_refused", "read_that_wraps_is_refused"],
    );
    fails(
        Fault::ForgetsItsReset,
        &["reset_stops_the_device_from_acting"],
    );
    fails(Fault::WritesBackwards, &["write_multi_is_done_in_order"]);
}

#[test]
fn a_server_that_does_not_answer_fails_in_time() {
    let asked = ["device_info_has_16_bytes", "reset_succeeds"];
    fails(Fault::IsSilent, &asked);
    fails(Fault::ClosesInTheMiddle, &asked);
    fails(Fault::PromisesGigabytes, &asked);
    fails(Fault::ShowersCommands, &asked);
    fails(
        Fault::ServesOneAtATime,
        &["a_second_client_is_answered_or_let_go"],
    );
}
