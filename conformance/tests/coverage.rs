//! `COVERAGE.md` names only checks that there are, and counts right.

use std::collections::HashSet;

use conformance::checks;

const COVERAGE: &str = include_str!("../COVERAGE.md");

/// What stands between backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Rows of one of libvfio-user's tests: its name, and what stands beside it.
fn rows() -> Vec<(&'static str, &'static str)> {
    let lines = COVERAGE.lines();
    lines
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(name, _)| name.starts_with("test_"))
        .collect()
}

#[test]
fn every_check_that_is_named_exists() {
    let checks: HashSet<_> = checks::all().map(|check| check.name).collect();
    let is_name = |word: &str| {
        let mut chars = word.chars();
        word.contains('_')
            && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let mut named = 0;
    for word in COVERAGE.lines().flat_map(quoted) {
        if is_name(word) && !word.starts_with("test_") {
            assert!(checks.contains(word), "there is no check {word}");
            named += 1;
        }
    }
    assert!(named > 200, "only {named} checks are named");
}

#[test]
fn every_test_has_a_check_or_a_reason() {
    for (test, beside) in rows() {
        let has_reason = beside.starts_with("not visible: ");
        let has_check = quoted(beside).next().is_some();
        assert!(has_reason || has_check, "{test}: {beside}");
    }
}

#[test]
fn the_numbers_are_those_of_the_tables() {
    let rows = rows();
    let named = rows.len();
    let covered = rows
        .iter()
        .filter(|(_, beside)| !beside.starts_with("not visible"))
        .count();
    let total: usize = COVERAGE
        .lines()
        .filter_map(|line| {
            line.strip_prefix("## test_")?
                .split_once(" (")?
                .1
                .strip_suffix(')')
        })
        .map(|count| count.parse::<usize>().unwrap())
        .sum();
    assert_eq!(total, 224);
    for words in [
        format!("- {total} tests, in 23 files. {named} of them stand below by name"),
        format!("- {covered} of the {named} are covered by checks"),
        format!("## Those whose names could not be read ({})", total - named),
    ] {
        assert!(COVERAGE.contains(&words), "it should say: {words}");
    }
}

#[test]
fn no_test_of_a_file_stands_there_twice() {
    for file in COVERAGE.split("\n## ") {
        let mut seen = HashSet::new();
        for name in file.lines().filter_map(|line| line.strip_prefix("| `")) {
            let name = name.split('`').next().unwrap();
            assert!(seen.insert(name), "{name} stands there twice");
        }
    }
}
