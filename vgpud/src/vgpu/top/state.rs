//! What is shown, and what keys do about it. No terminal, no daemon, no clock.

use std::collections::VecDeque;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use uuid::Uuid;

use super::columns::Sort;
use super::figures::{Frame, Row, compare};
use super::sample::Sample;

/// Most frames that are kept to go back to.
pub(super) const MOST_FRAMES: usize = 600;

/// Longest filter.
const MOST_FILTER: usize = 64;

/// What happens.
#[derive(Debug)]
pub(super) enum Message {
    /// The daemon has told how things are.
    Sampled(Sample),
    /// It has not, in words.
    Lost(String),
    Key(KeyEvent),
    /// The terminal is of another size, or is to be drawn anew.
    Redraw,
    /// It is over: a signal came, or the terminal has gone.
    End,
}

/// A number of a row's; none if it has none.
pub(super) type Figure = fn(&Row) -> Option<u64>;

/// What is shown.
#[derive(Debug)]
pub(super) struct State {
    last: Sample,
    frames: VecDeque<Frame>,
    /// How many frames ago is shown.
    pub(super) back: usize,
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) is_typing: bool,
    pub(super) selected: Option<Uuid>,
    pub(super) shows_history: bool,
    /// Why the daemon tells nothing any more.
    pub(super) lost: Option<String>,
}

impl State {
    pub(super) fn new(first: Sample, sort: Sort, filter: &str) -> Self {
        Self {
            frames: VecDeque::from([compare(None, &first)]),
            last: first,
            back: 0,
            sort,
            is_reversed: false,
            filter: filter.to_owned(),
            is_typing: false,
            selected: None,
            shows_history: false,
            lost: None,
        }
    }

    /// Takes in what has happened. `false` if that was the end.
    pub(super) fn update(&mut self, message: Message) -> bool {
        match message {
            Message::Sampled(sample) => self.take(sample),
            Message::Lost(words) => self.lost = Some(words),
            Message::Key(key) if key.kind != KeyEventKind::Release => return self.press(key),
            Message::Key(_) | Message::Redraw => {}
            Message::End => return false,
        }
        true
    }

    fn take(&mut self, sample: Sample) {
        // What was used while nobody looked belongs to no interval.
        let before = self.lost.is_none().then_some(&self.last);
        self.frames.push_back(compare(before, &sample));
        self.last = sample;
        self.lost = None;
        if self.frames.len() > MOST_FRAMES {
            self.frames.pop_front();
        }
        if self.back > 0 {
            // What is looked at stays, as long as it is kept.
            self.step(1);
        }
    }

    fn step(&mut self, by: isize) {
        let most = self.frames.len().saturating_sub(1);
        self.back = self.back.saturating_add_signed(by).min(most);
    }

    fn press(&mut self, key: KeyEvent) -> bool {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && matches!(key.code, KeyCode::Char('c' | 'C')) {
            return false;
        }
        if self.is_typing {
            self.type_in(key);
            return true;
        }
        match key.code {
            KeyCode::Char('q' | 'Q') => return false,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('h') | KeyCode::Enter => self.shows_history = !self.shows_history,
            KeyCode::Down | KeyCode::Char('j') => self.select(1),
            KeyCode::Up | KeyCode::Char('k') => self.select(-1),
            KeyCode::Left => self.step(1),
            KeyCode::Right => self.step(-1),
            KeyCode::PageUp => self.step(30),
            KeyCode::PageDown => self.step(-30),
            KeyCode::Char(' ') if self.back == 0 => self.step(1),
            KeyCode::End | KeyCode::Char(' ') => self.back = 0,
            KeyCode::Esc => self.filter.clear(),
            _ => {}
        }
        true
    }

    fn type_in(&mut self, key: KeyEvent) {
        match key.code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.is_typing = false;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) if self.filter.len() < MOST_FILTER && !letter.is_control() => {
                self.filter.push(letter);
            }
            _ => {}
        }
    }

    fn select(&mut self, by: isize) {
        let rows = self.rows();
        let place = rows.iter().position(|row| Some(row.uuid) == self.selected);
        let next = match place {
            None => 0,
            Some(place) => place.saturating_add_signed(by),
        };
        let next = next.min(rows.len().saturating_sub(1));
        self.selected = rows.get(next).map(|row| row.uuid);
    }

    /// The frame that is looked at.
    pub(super) fn frame(&self) -> &Frame {
        // There always is one: the first is there from the beginning, and never the last to go.
        &self.frames[self.frames.len() - 1 - self.back]
    }

    /// Its rows that are asked for, in their order.
    pub(super) fn rows(&self) -> Vec<&Row> {
        let rows = self.frame().vgpus.iter();
        let mut rows: Vec<_> = rows.filter(|row| matches(row, &self.filter)).collect();
        rows.sort_by(|one, other| match self.is_reversed {
            false => self.sort.compare(one, other),
            true => self.sort.compare(other, one),
        });
        rows
    }

    /// What a vGPU's figure was in the last `count` frames up to the one that is looked at, the
    /// newest last. It was nothing where there was no such vGPU.
    pub(super) fn history(&self, uuid: Uuid, count: usize, figure: Figure) -> Vec<u64> {
        let frames = self.frames.iter().rev().skip(self.back).take(count);
        let values = frames.map(|frame| {
            let row = frame.vgpus.iter().find(|row| row.uuid == uuid);
            row.and_then(figure).unwrap_or(0)
        });
        let mut values: Vec<_> = values.collect();
        values.reverse();
        values
    }
}

/// Whether a row has the text in it.
pub(super) fn matches(row: &Row, filter: &str) -> bool {
    let filter = filter.to_lowercase();
    let words = [&row.parent, &row.type_name, &row.state];
    row.uuid.to_string().contains(&filter)
        || words
            .iter()
            .any(|word| word.to_lowercase().contains(&filter))
}
