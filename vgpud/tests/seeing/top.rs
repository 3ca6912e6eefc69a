//! The screen, and tables for scripts.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::busy;
use crate::cli_support::{command, json_of, run, text, told};
use crate::support::{Daemon, Process, uuid, wait_for};
use crate::terminal::Terminal;

/// The place of a title's column, and what stands in it below.
fn column(title: &str, titles: &str, line: &str) -> f64 {
    let end = titles.find(title).unwrap() + title.len();
    let before: String = line.chars().take(end).collect();
    let word = before.rsplit(' ').next().unwrap();
    word.parse().unwrap_or_else(|_| panic!("{word}: {line}"))
}

#[test]
fn a_screen_shows_three_to_one_outlives_the_daemon_and_leaves_the_terminal_as_it_was() {
    let mut daemon = Daemon::start();
    let _hogs = [(1, "300"), (2, "100")].map(|(number, weight)| busy(&daemon, number, weight));
    let mut terminal = Terminal::run(
        &daemon,
        (110, 30),
        "stty -g > before; $VGPU top -d 0.5; echo code $?; stty -g > after.new; \
         mv after.new after; sleep 60",
    );
    let engine = terminal.line_with("best-effort");
    assert!(engine.contains("2 vGPUs"), "{engine}");
    let titles = terminal.line_with("SHARE%");
    // The UUIDs begin alike: they are told apart by what they have.
    wait_for("a share of three to one", || {
        let lines = terminal.lines();
        let rows = lines.iter().filter(|line| line.starts_with("10000000"));
        let shares: Vec<_> = rows.map(|row| column("SHARE%", &titles, row)).collect();
        let [most, least] = shares[..] else {
            return None;
        };
        ((65.0..85.0).contains(&most) && (15.0..35.0).contains(&least)).then_some(())
    });
    terminal.press("h");
    terminal.line_with("history of 10000000");
    daemon.kill();
    terminal.line_with("trying again");
    daemon.start_again();
    terminal.is_without("trying again");
    assert!(!terminal.is_as_usual());
    terminal.press("q");
    terminal.line_with("code 0");
    assert!(terminal.is_as_usual());
    let read = |name: &str| fs::read_to_string(daemon.path(name)).ok();
    let after = wait_for("the terminal's settings", || read("after"));
    assert_eq!(read("before").unwrap(), after);
}

#[test]
fn a_signal_ends_it_and_leaves_the_terminal_as_it_was() {
    let daemon = Daemon::start();
    let line = "sh -c 'stty -g > before; echo $$ > pid.new; mv pid.new pid; exec $VGPU top'; \
                echo code $?; stty -g > after.new; mv after.new after; sleep 60";
    for signal in [Signal::TERM, Signal::INT] {
        let terminal = Terminal::run(&daemon, (40, 5), line);
        terminal.line_with("no vGPUs");
        let pid = fs::read_to_string(daemon.path("pid")).unwrap();
        Process::open(pid.trim().parse().unwrap()).signal(signal);
        terminal.line_with("code 0");
        let read = |name: &str| fs::read_to_string(daemon.path(name)).ok();
        let after = wait_for("the terminal's settings", || read("after"));
        assert_eq!(read("before").unwrap(), after);
        assert!(terminal.is_as_usual());
        for name in ["pid", "after"] {
            fs::remove_file(daemon.path(name)).unwrap();
        }
    }
}

#[test]
fn scripts_get_one_table_or_json_of_the_same_figures() {
    let daemon = Daemon::start();
    let _hogs = [(1, "300"), (2, "100")].map(|(number, weight)| busy(&daemon, number, weight));
    let table = text(&daemon, "top --once --interval 0.6");
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[2].starts_with(&uuid(1).to_string()), "{table}");
    let shares = [2, 3].map(|line| column("SHARE%", lines[1], lines[line]));
    assert!((65.0..85.0).contains(&shares[0]), "{table}");
    assert!((99.0..101.0).contains(&(shares[0] + shares[1])), "{table}");
    let json = json_of(&daemon, "top --once --json --sort uuid --filter 0002");
    let vgpus = json["vgpus"].as_array().unwrap();
    assert_eq!(vgpus.len(), 1, "{json}");
    assert_eq!(vgpus[0]["uuid"], uuid(2).to_string());
    let number = |name: &str| vgpus[0][name].as_u64().unwrap_or_else(|| panic!("{json}"));
    assert!((150..350).contains(&number("share_permille")), "{json}");
    assert!(
        number("resident_bytes") > 0 && number("jobs_per_second") > 0,
        "{json}"
    );
    assert_eq!(json["engines"][0]["policy"], "best-effort");
    // No terminal: tables, or a line of JSON for each.
    let lines = text(&daemon, "top --json -n 2 -d 0.1");
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    let tables = text(&daemon, "top -n 2 -d 0.1 --parent none");
    assert_eq!(tables.matches("UUID").count(), 2, "{tables}");
}

#[test]
fn what_makes_no_sense_and_a_daemon_that_is_not_there_are_told_of() {
    let mut daemon = Daemon::start();
    for line in [
        "top --interval 0",
        "top --once --batch",
        "top -n 0",
        "top --sort x",
    ] {
        assert_eq!(run(&daemon, line).status.code(), Some(2), "{line}");
    }
    daemon.kill();
    for line in ["top", "top --once", "trace --seconds 0"] {
        let (code, words) = told(command(&daemon, line).output().unwrap());
        assert_eq!(code, Some(3), "{words}");
        assert!(words.contains("remedy: start vgpud"), "{words}");
    }
}
