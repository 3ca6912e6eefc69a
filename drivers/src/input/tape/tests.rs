use mdev::input::{Key, Position};
use proptest::prelude::*;

use super::super::model::MODELS;
use super::*;

fn tape() -> Tape {
    Tape::open(MODELS[0], &Keep::default()).unwrap()
}

fn key(code: u16, down: bool) -> Report {
    Report {
        keys: vec![Key { code, down }],
        ..Report::default()
    }
}

/// A driver with so many buffers: what it gets, from `position` on.
fn drain(tape: &mut Tape, position: &mut u64, buffers: u64) -> Vec<Event> {
    let mut got = Vec::new();
    for _ in 0..buffers {
        if !tape.is_due(*position) {
            break;
        }
        got.push(Event::parse(tape.at(*position)));
        *position += 1;
    }
    got
}

fn pressed(got: &[Event]) -> Vec<(u16, u32)> {
    let keys = got.iter().filter(|event| event.kind == 1);
    keys.map(|event| (event.code, event.value)).collect()
}

#[test]
fn a_driver_gets_what_happens_once_and_in_order() {
    let (mut tape, mut position) = (tape(), 0);
    assert!(!tape.is_due(0));
    for (code, down) in [(30, true), (31, true), (30, false)] {
        tape.take(0, 0, &key(code, down));
    }
    let got = drain(&mut tape, &mut position, 100);
    assert_eq!(pressed(&got), [(30, 1), (31, 1), (30, 0)]);
    assert_eq!(got.len(), 6, "each report has its end");
    assert!(!tape.is_due(position));
}

#[test]
fn a_driver_that_comes_late_learns_what_is_pressed_and_nothing_that_is_over() {
    let (mut tape, mut position) = (tape(), 0);
    tape.take(0, 0, &key(30, true));
    tape.take(0, 0, &key(30, false));
    tape.take(0, 0, &key(42, true));
    let got = drain(&mut tape, &mut position, 100);
    assert_eq!(pressed(&got), [(42, 1)]);
    tape.reset();
    tape.take(0, 0, &key(42, false));
    assert!(!tape.is_due(0));
}

#[test]
fn a_release_is_not_lost_where_there_was_no_room() {
    let (mut tape, mut position) = (tape(), 0);
    assert!(!tape.is_due(0));
    tape.take(0, 0, &key(30, true));
    for _ in 0..EVENTS {
        tape.take(0, 0, &key(31, true));
        tape.take(0, 0, &key(31, false));
    }
    tape.take(0, 0, &key(30, false));
    let got = drain(&mut tape, &mut position, 100_000);
    let mut down = std::collections::BTreeSet::new();
    for (code, value) in pressed(&got) {
        let is_new = if value == 1 {
            down.insert(code)
        } else {
            down.remove(&code)
        };
        assert!(is_new, "told twice");
    }
    assert!(down.is_empty(), "{down:?}");
    assert_eq!(got.last().map(|event| event.kind), Some(0));
}

#[test]
fn a_report_that_comes_again_is_not_taken_again() {
    let (mut tape, mut position) = (tape(), 0);
    assert!(!tape.is_due(0));
    for number in [1, 1, 2, 1, 2, 3] {
        tape.take(9, number, &key(30, number % 2 == 1));
    }
    let got = drain(&mut tape, &mut position, 100);
    assert_eq!(pressed(&got), [(30, 1), (30, 0), (30, 1)]);
    assert!(tape.remembers(9) && !tape.remembers(8) && !tape.remembers(0));
    for stream in 1..=STREAMS as u64 {
        tape.take(100 + stream, 1, &key(31, true));
    }
    assert!(!tape.remembers(9) && tape.remembers(101));
}

#[test]
fn a_saved_tape_goes_on_elsewhere_with_what_is_pressed_there() {
    let (mut tape, mut position) = (tape(), 0);
    assert!(!tape.is_due(0));
    tape.take(0, 0, &key(30, true));
    drain(&mut tape, &mut position, 1);
    tape.take(0, 0, &key(31, true));
    let mut bytes = Vec::new();
    tape.save(&mut bytes);
    let mut other = self::tape();
    let saved = other.parse(&mut Fields::of_registers(&bytes)).unwrap();
    other.restore(&saved);
    let mut again = Vec::new();
    other.save(&mut again);
    assert_eq!(bytes, again);
    let got = drain(&mut other, &mut position, 100);
    // Nobody holds them there.
    assert_eq!(pressed(&got), [(31, 1), (30, 0), (31, 0)]);
}

/// A queue that is reset goes on at a position far ahead; a state that a guest has made up may say
/// any.
#[test]
fn a_driver_whose_queue_starts_over_is_told_of_every_key() {
    let mut tape = tape();
    assert!(!tape.is_due(0));
    tape.take(0, 0, &key(30, true));
    tape.take(0, 0, &key(31, true));
    tape.take(0, 0, &key(31, false));
    for mut position in [1 << 16, 1 << 40, 3] {
        let got = drain(&mut tape, &mut position, 1000);
        assert_eq!(got.len(), 249);
        let down: Vec<_> = pressed(&got)
            .into_iter()
            .filter(|(_, down)| *down == 1)
            .collect();
        assert_eq!(down, [(30, 1)]);
        assert!(pressed(&got).contains(&(31, 0)));
        tape.take(0, 0, &key(31, true));
        tape.take(0, 0, &key(31, false));
        let got = drain(&mut tape, &mut position, 1000);
        assert_eq!(pressed(&got), [(31, 1), (31, 0)]);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Key(u16, bool),
    Move(u16, u16),
    Drain(u64),
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0x110..0x115_u16, any::<bool>()).prop_map(|(code, down)| Step::Key(code, down)),
        4 => (0..4_u16, 0..4_u16).prop_map(|(x, y)| Step::Move(x, y)),
        2 => (0..200_u64).prop_map(Step::Drain),
        1 => Just(Step::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever happens: the driver sees whole reports, no key told twice, and in the end how things
    /// are.
    #[test]
    fn in_the_end_the_driver_knows_how_things_are(steps in prop::collection::vec(step(), 0..2500)) {
        let mut tape = Tape::open(MODELS[1], &Keep::default()).unwrap();
        let (mut now, mut seen, mut position) = (Stance::default(), Stance::default(), 0);
        let mut report = Report::default();
        let steps = steps.into_iter().chain([Step::Drain(u64::MAX)]);
        for step in steps {
            let happens = match step {
                Step::Key(code, down) => key(code, down),
                Step::Move(x, y) => Report { at: Some(Position { x, y }), ..Report::default() },
                Step::Reset => {
                    tape.reset();
                    (seen, position, report) = (Stance::default(), 0, Report::default());
                    continue;
                }
                Step::Drain(buffers) => {
                    for event in drain(&mut tape, &mut position, buffers) {
                        let mut at = report.at.unwrap_or(Position { x: 9, y: 9 });
                        match event {
                            Event { kind: 1, code, value } => {
                                report.keys.push(Key { code, down: value == 1 });
                            }
                            Event { kind: 3, code, value } => {
                                if code == 0 { at.x = value as u16 } else { at.y = value as u16 }
                                report.at = Some(at);
                            }
                            _ => {
                                // An axis that is not told is as it was.
                                let mut whole = std::mem::take(&mut report);
                                whole.at = merged(&seen, whole.at);
                                let told = seen.follow(&whole);
                                prop_assert!(told.len() > whole.keys.len(), "a key was told twice");
                            }
                        }
                    }
                    continue;
                }
            };
            now.follow(&happens);
            tape.take(0, 0, &happens);
        }
        prop_assert_eq!(&report, &Report::default(), "a report has no end");
        prop_assert_eq!(seen, now);
    }
}

/// A position of which 9 is not told.
fn merged(seen: &Stance, at: Option<Position>) -> Option<Position> {
    let mut bytes = Vec::new();
    seen.emit(&mut bytes);
    let [.., x0, x1, y0, y1] = bytes[..] else {
        return at;
    };
    at.map(|at| Position {
        x: if at.x == 9 {
            u16::from_le_bytes([x0, x1])
        } else {
            at.x
        },
        y: if at.y == 9 {
            u16::from_le_bytes([y0, y1])
        } else {
            at.y
        },
    })
}
