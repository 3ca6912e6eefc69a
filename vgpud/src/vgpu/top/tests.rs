//! The maths as tables, keys, and the screen on a terminal that is not there.

use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;
use uuid::Uuid;
use vgpud::api::{Engine, InstanceUsage};

use super::columns::Sort;
use super::draw::{bar, draw};
use super::figures::compare;
use super::sample::Sample;
use super::state::{MOST_FRAMES, Message, State};
use super::{batch, seconds};

const SECOND: u64 = 1_000_000_000;

fn uuid(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number) << 96)
}

/// What a vGPU has used, and how it is otherwise.
#[derive(Clone, Copy)]
struct Use {
    used_ns: u64,
    jobs: u64,
    waited_ns: u64,
    leases: u64,
}

const NOTHING: Use = Use {
    used_ns: 0,
    jobs: 0,
    waited_ns: 0,
    leases: 0,
};

fn client(number: u64, of: Use) -> serde_json::Value {
    json!({
        "uuid": uuid(number),
        "settings": {"weight": 100 * number, "cap_permille": null, "reservation_permille": null,
            "priority": "normal", "frame_rate_limit": null, "stop": false},
        "state": "running", "share_permille": 250, "wanted_permille": 900, "queued": number,
        "used_ns": of.used_ns, "jobs": of.jobs, "jobs_waited_ns": 0,
        "leases": of.leases, "leases_waited_ns": of.waited_ns, "longest_wait_ns": 9_000_000,
        "overlong_jobs": 0, "misreports": 0,
    })
}

/// vGPUs 1, 2 … that share an engine at a time, and a last one that shares none.
fn sample(from: Instant, at_ns: u64, uses: &[Use]) -> Sample {
    let numbers = 1..;
    let clients: Vec<_> = numbers.zip(uses).map(|(n, of)| client(n, *of)).collect();
    let engine: Engine = serde_json::from_value(json!({
        "parent": "soft0", "policy": "best-effort", "places": 1, "job_limit_ms": 2000,
        "at_ns": at_ns, "busy_permille": 500, "used_ns": 0, "clients": clients,
    }))
    .unwrap();
    let instances = (1..=uses.len() as u64 + 1).map(|number| {
        let instance = json!({
            "uuid": uuid(number), "parent": "soft0", "type": "edu-1", "attributes": [],
            "state": "running", "socket": "", "access": {}, "control": "", "pid": 7,
            "crashes": 0, "last_exit": null, "defined": false, "created_at": 0,
        });
        serde_json::from_value(instance).unwrap()
    });
    let usage = InstanceUsage {
        uuid: uuid(1),
        cpu_ns: at_ns / 4,
        resident_bytes: 3 << 20,
    };
    Sample {
        at: from + Duration::from_nanos(at_ns),
        engines: vec![engine],
        instances: instances.collect(),
        usage: vec![usage],
    }
}

/// Two samples, two seconds apart: three quarters and one quarter were used.
fn three_to_one() -> (Sample, Sample) {
    let from = Instant::now();
    let first = sample(from, 5 * SECOND, &[NOTHING; 2]);
    let used = |used_ns, jobs| Use {
        used_ns,
        jobs,
        waited_ns: 30_000_000,
        leases: 10,
    };
    let uses = [used(SECOND * 3 / 2, 3000), used(SECOND / 2, 1000)];
    (first, sample(from, 7 * SECOND, &uses))
}

#[test]
fn rates_are_of_the_time_between_two_samples() {
    let (before, now) = three_to_one();
    let frame = compare(Some(&before), &now);
    assert_eq!(frame.engines[0].busy_permille, 1000);
    let [first, second, other] = &frame.vgpus[..] else {
        panic!("{frame:?}")
    };
    assert_eq!(
        (first.busy_permille, first.share_permille),
        (Some(750), Some(750))
    );
    assert_eq!(
        (second.busy_permille, second.share_permille),
        (Some(250), Some(250))
    );
    assert_eq!(first.jobs_per_second, Some(1500));
    assert_eq!(first.wait_ns, Some(3_000_000));
    assert_eq!(
        (first.cpu_permille, first.resident_bytes),
        (Some(250), Some(3 << 20))
    );
    assert_eq!(
        (other.busy_permille, other.queued, other.weight),
        (None, None, None)
    );
    assert_eq!(other.state, "running");
}

#[test]
fn without_an_earlier_sample_the_last_second_is_told_and_no_rates() {
    let (_, now) = three_to_one();
    let frame = compare(None, &now);
    assert_eq!(frame.vgpus[0].busy_permille, Some(250));
    assert_eq!(frame.vgpus[0].share_permille, Some(500));
    assert_eq!(
        (frame.vgpus[0].jobs_per_second, frame.vgpus[0].wait_ns),
        (None, None)
    );
    assert_eq!(frame.vgpus[0].cpu_permille, None);
}

#[test]
fn counters_that_have_begun_anew_give_no_rates() {
    let (before, now) = three_to_one();
    let row = &compare(Some(&now), &before).vgpus[0];
    assert_eq!((row.jobs_per_second, row.busy_permille), (None, Some(250)));
    // The same time, but another daemon's numbers: smaller ones, later.
    let later = sample(now.at, 0, &[NOTHING; 2]);
    let later = Sample {
        engines: vec![Engine {
            at_ns: 9 * SECOND,
            ..later.engines[0].clone()
        }],
        ..later
    };
    let row = &compare(Some(&now), &later).vgpus[0];
    assert_eq!((row.jobs_per_second, row.wait_ns), (None, None));
    assert_eq!((row.busy_permille, row.cpu_permille), (Some(250), None));
}

#[test]
fn nobody_uses_an_engine_and_nothing_is_divided_by_it() {
    let from = Instant::now();
    let (before, now) = (sample(from, 0, &[]), sample(from, SECOND, &[]));
    let frame = compare(Some(&before), &now);
    assert_eq!(
        (frame.engines[0].busy_permille, frame.engines[0].users),
        (0, 0)
    );
    let idle = sample(from, 2 * SECOND, &[NOTHING]);
    let row = &compare(Some(&now), &idle).vgpus[0];
    assert_eq!(row.share_permille, Some(1000), "alone, by its last second");
    let later = sample(from, 3 * SECOND, &[NOTHING]);
    let row = &compare(Some(&idle), &later).vgpus[0];
    assert_eq!(
        (row.share_permille, row.busy_permille, row.wait_ns),
        (Some(0), Some(0), Some(0))
    );
}

fn press(state: &mut State, code: KeyCode) -> bool {
    state.update(Message::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn state() -> State {
    let (before, now) = three_to_one();
    let mut state = State::new(before, Sort::Busy, "");
    assert!(state.update(Message::Sampled(now)));
    state
}

fn order(state: &State) -> Vec<Uuid> {
    state.rows().iter().map(|row| row.uuid).collect()
}

#[test]
fn keys_sort_reverse_filter_and_select() {
    let mut state = state();
    assert_eq!(order(&state), [1, 2, 3].map(uuid));
    press(&mut state, KeyCode::Char('r'));
    assert_eq!(order(&state), [3, 2, 1].map(uuid));
    press(&mut state, KeyCode::Char('r'));
    for _ in 0..2 {
        press(&mut state, KeyCode::Char('s'));
    }
    assert_eq!(state.sort, Sort::Queue);
    assert_eq!(order(&state), [2, 1, 3].map(uuid));
    for _ in 0..6 {
        press(&mut state, KeyCode::Char('s'));
    }
    assert_eq!(state.sort, Sort::Busy, "after the last comes the first");
    press(&mut state, KeyCode::Char('/'));
    // What quits elsewhere is a letter here.
    for letter in "00000002q".chars() {
        assert!(press(&mut state, KeyCode::Char(letter)));
    }
    assert!(state.rows().is_empty());
    press(&mut state, KeyCode::Backspace);
    press(&mut state, KeyCode::Enter);
    assert_eq!(order(&state), [uuid(2)]);
    press(&mut state, KeyCode::Down);
    assert_eq!(state.selected, Some(uuid(2)));
    press(&mut state, KeyCode::Esc);
    press(&mut state, KeyCode::Up);
    assert_eq!(state.selected, Some(uuid(1)));
    press(&mut state, KeyCode::Up);
    assert_eq!(state.selected, Some(uuid(1)));
}

#[test]
fn q_control_c_and_signals_end_it_whatever_is_typed() {
    let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(!press(&mut state(), KeyCode::Char('q')));
    assert!(!state().update(Message::End));
    let mut typing = state();
    press(&mut typing, KeyCode::Char('/'));
    assert!(!typing.update(Message::Key(control)));
}

#[test]
fn the_past_can_be_looked_at_and_stays_until_it_is_forgotten() {
    let mut state = state();
    let shown = state.frame().clone();
    press(&mut state, KeyCode::Char(' '));
    press(&mut state, KeyCode::Right);
    assert_eq!(state.back, 0);
    press(&mut state, KeyCode::Left);
    let older = state.frame().clone();
    assert_ne!(shown, older);
    let (_, now) = three_to_one();
    state.update(Message::Sampled(now));
    assert_eq!((state.back, state.frame()), (2, &older));
    let from = Instant::now();
    for second in 0..MOST_FRAMES as u64 + 9 {
        let at = (20 + second) * SECOND;
        state.update(Message::Sampled(sample(from, at, &[NOTHING; 2])));
    }
    assert_eq!(state.back, MOST_FRAMES - 1);
    press(&mut state, KeyCode::End);
    assert_eq!(state.back, 0);
    let history = state.history(uuid(1), 5000, |row| row.queued);
    assert_eq!(history, vec![1; MOST_FRAMES]);
    assert_eq!(state.history(uuid(9), 3, |row| row.queued), [0, 0, 0]);
}

/// The screen as lines.
fn screen(state: &State, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| {
        (0..width)
            .map(|x| buffer[(x, y)].symbol())
            .collect::<String>()
    };
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

#[test]
fn a_screen_has_engines_vgpus_bars_and_keys() {
    let mut state = state();
    let lines = screen(&state, 120, 24);
    assert_eq!(
        lines[0],
        "soft0: best-effort, 100.0% busy, 2 vGPUs on 1 at once"
    );
    assert!(lines[1].contains("SHARE%  BUSY%"), "{lines:#?}");
    assert!(lines[2].starts_with("00000001"), "{lines:#?}");
    assert!(lines[2].contains("75.0   75.0"), "{lines:#?}");
    assert!(lines[3].contains("25.0   25.0"), "{lines:#?}");
    assert!(lines[4].contains(" - "), "{lines:#?}");
    assert!(lines[23].contains("q quit"), "{lines:#?}");
    assert!(lines[2].ends_with("▂▆"), "{lines:#?}");
    // At 200 columns there is room for whole UUIDs.
    let wide = screen(&state, 200, 24);
    assert!(wide[2].starts_with(&uuid(1).to_string()), "{wide:#?}");
    assert!(wide[2].ends_with("▂▆"), "{wide:#?}");
    press(&mut state, KeyCode::Char('h'));
    let lines = screen(&state, 120, 24);
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("history of 00000001")),
        "{lines:#?}"
    );
    state.update(Message::Lost("nobody answers".to_owned()));
    let lines = screen(&state, 120, 24);
    assert_eq!(lines[1], "no figures, trying again: nobody answers");
    let (_, now) = three_to_one();
    state.update(Message::Sampled(now));
    assert_eq!(state.lost, None);
    assert_eq!(
        state.frame().vgpus[0].jobs_per_second,
        None,
        "nobody looked meanwhile"
    );
}

#[test]
fn no_size_of_a_terminal_is_too_small_or_too_large() {
    let mut states = [state(), state(), state()];
    press(&mut states[1], KeyCode::Char('h'));
    states[1].update(Message::Lost("x".repeat(500)));
    states[2] = State::new(sample(Instant::now(), 0, &[]), Sort::Uuid, "no such");
    for state in &mut states {
        for width in (1..200).step_by(23) {
            for height in [1, 2, 3, 5, 19, 20, 50] {
                screen(state, width, height);
            }
        }
    }
    assert_eq!(screen(&states[0], 10, 2)[0], "too small");
    // The selected one is seen however little room there is.
    let state = &mut states[0];
    state.selected = Some(uuid(3));
    let lines = screen(state, 20, 4);
    assert!(lines[2].starts_with("00000003"), "{lines:#?}");
}

#[test]
fn bars_rise_with_what_they_show() {
    for (value, most, expected) in [
        (0, 1000, ' '),
        (1, 1000, '▁'),
        (125, 1000, '▁'),
        (126, 1000, '▂'),
        (1000, 1000, '█'),
        (5000, 1000, '█'),
        (0, 0, ' '),
    ] {
        assert_eq!(bar(value, most), expected, "{value}");
    }
}

#[test]
fn a_table_has_a_line_for_each_and_all_columns() {
    let (before, now) = three_to_one();
    let text = batch::table(&compare(Some(&before), &now));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    let titles: Vec<_> = lines[1].split_whitespace().collect();
    for line in &lines[2..] {
        // Sizes have a space in them.
        let words = line.replace(" MiB", "MiB");
        assert_eq!(words.split_whitespace().count(), titles.len(), "{text}");
    }
}

#[test]
fn an_interval_is_neither_too_short_nor_endless() {
    assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
    for text in ["", "0", "-1", "1e9", "NaN", "inf", "1s"] {
        assert!(seconds(text).is_err(), "{text}");
    }
}
