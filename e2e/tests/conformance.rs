//! The suite `vfu-conformance` held against servers as programs: ours pass, and one that this project
//! did not write fails where it is known to.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

use std::collections::BTreeMap;
use std::env;
use std::process::Command;

use e2e::Programs;
use serde_json::Value;

/// The command of a server of ours.
fn ours(kind: &str) -> String {
    let vgpu = Programs::from_env().unwrap().ours("vgpu");
    format!(
        "{} run --type {kind} --socket-path {{socket}}",
        vgpu.display()
    )
}

/// Runs the suite with these arguments; its exit status, and what it says in JSON.
fn suite(arguments: &[&str]) -> (Option<i32>, Value) {
    let suite = Programs::from_env().unwrap().ours("vfu-conformance");
    let output = Command::new(suite)
        .arg("--json")
        .args(arguments)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    let json = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        json.unwrap_or_else(|_| panic!("{words}")),
    )
}

/// The results of a run by name, each with its reason.
fn results(report: &Value) -> BTreeMap<String, (String, String)> {
    let checks = report["checks"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    checks
        .map(|check| {
            (
                text(&check["name"]),
                (text(&check["result"]), text(&check["why"])),
            )
        })
        .collect()
}

fn all_with(report: &Value, result: &str) -> Vec<String> {
    let results = results(report).into_iter();
    let those = results.filter(|(_, (its, _))| its == result);
    those
        .map(|(name, (_, why))| format!("{name}: {why}"))
        .collect()
}

#[test]
fn every_type_of_ours_keeps_every_rule() {
    let mut failed = Vec::new();
    for kind in [
        "serial-1",
        "serial-2",
        "bochs-4m",
        "bochs-16m",
        "bochs-64m",
        "edu-1",
        "edu-2",
        "gpu-2d-hd",
        "gpu-2d-4k",
        "input-keyboard",
        "input-tablet",
    ] {
        let (status, report) = suite(&["--server", &ours(kind)]);
        let of_kind = all_with(&report, "fail");
        assert_eq!(status, Some(i32::from(!of_kind.is_empty())), "{kind}");
        failed.extend(of_kind.into_iter().map(|words| format!("{kind}: {words}")));
    }
    assert_eq!(failed, [""; 0]);
}

#[test]
fn on_edu_2_there_is_nothing_that_cannot_be_checked() {
    let (_, report) = suite(&["--server", &ours("edu-2")]);
    let skipped = all_with(&report, "skip");
    assert_eq!(skipped, [""; 0]);
    let passed = report["passed"].as_u64().unwrap();
    assert!(passed >= 150, "{passed} passed");
}

/// What the example of the crate `vfio_user` 0.1.7 was seen to do wrong: it panics at what it
/// does not expect, reads a fixed length whatever the header says, and checks few bounds.
const GPIO_FAILS: &[&str] = &[
    "version_without_json_is_answered",
    "version_reply_names_only_what_was_offered",
    "version_comes_first",
    "version_comes_once",
    "version_of_another_major_is_not_agreed_on",
    "version_json_without_a_nul_is_refused",
    "a_size_less_than_the_header_is_refused",
    "a_size_that_no_message_has_is_refused",
    "a_command_that_is_not_known_is_skipped_whole",
    "a_header_may_come_in_two_pieces",
    "a_message_may_come_byte_by_byte",
    "a_reply_to_nothing_is_not_served",
    "what_wants_no_reply_gets_no_error",
    "a_second_client_is_answered_or_let_go",
    "device_info_without_all_fields_is_refused",
    "read_past_the_end_is_refused",
    "read_of_more_than_was_agreed_on_is_refused",
    "write_past_the_end_is_refused",
    "write_multi_that_was_not_agreed_on_leaves_the_stream_in_step",
    "reset_with_a_payload_leaves_the_stream_in_step",
];

/// What it does right.
const GPIO_PASSES: &[&str] = &[
    "version_is_answered",
    "version_with_unknown_capabilities_is_answered",
    "version_json_that_is_none_is_refused",
    "version_max_msg_fds_that_is_no_number_is_refused",
    "a_payload_may_come_late",
    "the_message_id_is_echoed",
    "message_ids_may_be_used_twice_at_once",
    "five_hundred_commands_are_answered_in_order",
    "what_wants_no_reply_is_done_before_a_later_reply",
    "descriptors_with_a_message_that_takes_none_are_closed",
    "device_info_has_16_bytes",
    "region_info_is_there_for_every_region",
    "read_of_config_space_whole",
    "write_is_read_back",
    "reset_succeeds",
    "irq_info_of_an_unknown_type_is_refused",
];

#[test]
fn a_foreign_server_fails_where_it_is_known_to_and_only_there() {
    let gpio = env::var("VGPUD_GPIO").expect("./x says where the foreign server is");
    let server = format!("{gpio} --socket-path {{socket}}");
    let (status, report) = suite(&["--timeout", "1", "--server", &server]);
    assert_eq!(status, Some(1));
    let results = results(&report);
    for (names, expected) in [(GPIO_FAILS, "fail"), (GPIO_PASSES, "pass")] {
        for name in names {
            let (result, why) = &results[*name];
            assert_eq!(result, expected, "{name}: {why}");
        }
    }
}

#[test]
fn hostile_messages_cost_a_server_of_ours_nothing() {
    let all = env::var_os("VGPUD_TEST_ALL").is_some();
    let count = if all { "1000000" } else { "100000" };
    for kind in ["serial-1", "bochs-4m", "edu-2", "gpu-2d-hd"] {
        let (status, report) = suite(&["--server", &ours(kind), "--hostile", count]);
        assert_eq!(status, Some(0), "{kind}: {report}");
        assert_eq!(report["outcome"], "pass", "{kind}");
        let counted = &report["before_warm_after"][2]["descriptors"];
        assert!(counted.as_u64().is_some(), "{kind}: nobody counted");
    }
}
