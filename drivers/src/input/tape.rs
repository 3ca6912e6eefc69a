//! The events that the driver has not got yet, and what it will know once it has them. All of it is
//! in memory that outlives the process, and is read from there each time: another process may go on
//! with it at any moment.
//!
//! Events are numbered from 0 since the last reset, and the event of a number goes into the buffer at
//! that position of the queue: so whoever serves the queue next knows which are still to come. There
//! are two pages for the rest, of which one counts; one word says which, and how many events there
//! are. Who is killed half-way leaves what counted before.

use std::io;

use kept::{Bytes, Memory, Words};
use mdev::input::Report;
use mdev::keep::Keep;
use mdev::region_memory::RegionMemory;
use mdev::state::{Fields, StateError};

use super::model::Model;
use super::stance::{EVENT, Event, STANCE, Stance};

/// Name of the memory file, as `/proc/PID/maps` shows it.
const NAME: &str = "vgpud-input-tape";

/// Most events that wait: more than a hand makes while a guest does something else for a second, and
/// more than all keys at once.
pub(super) const EVENTS: u64 = 1024;

/// Streams whose numbers are remembered, the last ones.
const STREAMS: usize = 4;

/// Bytes of a page.
const PAGE: usize = 512;
const _: () = assert!(2 * STANCE + 16 * STREAMS <= PAGE);

const WORDS: usize = 4096;
const RING: usize = 2 * PAGE;
const BYTES: usize = RING + EVENTS as usize * EVENT;

/// In the word that counts: which page it is; the rest is a number of events.
const SECOND: u64 = 1 << 63;

/// Words, by their number.
mod word {
    /// Which page counts, and how many events there were since the reset.
    pub(super) const CURRENT: usize = 0;
    /// How many of them the driver has at least.
    pub(super) const TAKEN: usize = 1;
    /// Whether the driver has given buffers since the reset.
    pub(super) const IS_AWAKE: usize = 2;
    /// The lights that the driver has switched on, a bit each.
    pub(super) const LIGHTS: usize = 3;
    pub(super) const COUNT: usize = 4;
}

/// What a page holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Page {
    /// How things are.
    now: Stance,
    /// How they are for the driver, once it has all events.
    known: Stance,
    /// The last report that was taken of each stream, the newest stream first.
    streams: [(u64, u64); STREAMS],
}

impl Page {
    fn emit(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PAGE);
        self.now.emit(&mut bytes);
        self.known.emit(&mut bytes);
        for (stream, number) in self.streams {
            bytes.extend(stream.to_le_bytes());
            bytes.extend(number.to_le_bytes());
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Self, StateError> {
        let mut fields = Fields::of_registers(bytes);
        let mut page = Self {
            now: Stance::parse(&mut fields)?,
            known: Stance::parse(&mut fields)?,
            ..Self::default()
        };
        for (stream, number) in &mut page.streams {
            (*stream, *number) = (fields.u64()?, fields.u64()?);
        }
        Ok(page)
    }

    /// Takes note of a report's number. `false` if it was taken before.
    fn note(&mut self, stream: u64, number: u64) -> bool {
        if stream == 0 {
            return true;
        }
        let found = self.streams.iter().position(|(known, _)| *known == stream);
        let at = found.unwrap_or(STREAMS - 1);
        let is_new = match (found, self.streams.get(at)) {
            (Some(_), Some((_, last))) => number > *last,
            _ => true,
        };
        if is_new {
            self.streams.copy_within(..at, 1);
            self.streams[0] = (stream, number);
        }
        is_new
    }
}

/// The tape of one device.
#[derive(Debug)]
pub(super) struct Tape {
    model: Model,
    words: Words,
    bytes: Bytes,
    /// Holds the file.
    _memory: RegionMemory,
}

/// What is saved of it.
pub(super) struct Saved {
    known: Stance,
    is_awake: bool,
    lights: u64,
    count: u64,
    waiting: Vec<Event>,
}

impl Tape {
    /// What another process has left, or a fresh one.
    pub(super) fn open(model: Model, keep: &Keep) -> io::Result<Self> {
        let len = WORDS + BYTES.next_multiple_of(4096);
        let memory = keep.memory(NAME, len as u64)?;
        let mut map = Memory::open(memory.file().try_clone()?, len)?;
        Ok(Self {
            model,
            words: map.words(word::COUNT)?,
            bytes: map.bytes(BYTES)?,
            _memory: memory,
        })
    }

    /// How many events there were since the reset.
    fn count(&self) -> u64 {
        self.words.get(word::CURRENT) & !SECOND
    }

    fn place(&self, is_current: bool) -> usize {
        let is_second = self.words.get(word::CURRENT) & SECOND != 0;
        if is_second == is_current { PAGE } else { 0 }
    }

    fn page(&self) -> Page {
        let at = self.place(true);
        let parsed = Page::parse(&self.bytes[at..at + PAGE]);
        parsed.unwrap_or_else(|error| {
            // It was written here, or checked.
            tracing::error!("what is pressed is not known any more: {error}");
            Page::default()
        })
    }

    /// From now on it is this page that counts, and so many events.
    fn turn(&mut self, page: &Page, count: u64) {
        let at = self.place(false);
        let bytes = page.emit();
        self.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
        let which = if at == 0 { 0 } else { SECOND };
        self.words.set(word::CURRENT, which | count);
    }

    fn slot(number: u64) -> usize {
        RING + (number % EVENTS) as usize * EVENT
    }

    fn event(&self, number: u64) -> Event {
        let at = Self::slot(number);
        let mut bytes = [0; EVENT];
        bytes.copy_from_slice(&self.bytes[at..at + EVENT]);
        Event::parse(bytes)
    }

    /// Writes events behind those that there are. `false` if there is no room for all.
    fn append(&mut self, count: u64, events: &[Event]) -> bool {
        let waiting = count.saturating_sub(self.words.get(word::TAKEN));
        if waiting + events.len() as u64 > EVENTS {
            return false;
        }
        for (number, event) in (count..).zip(events) {
            let at = Self::slot(number);
            self.bytes[at..at + EVENT].copy_from_slice(&event.emit());
        }
        true
    }

    /// Has the driver know, if there is room, how things are. `false` if there is none.
    fn catch_up(&mut self, page: &mut Page, count: &mut u64) -> bool {
        let mut known = page.known;
        let events = known.become_as(&page.now);
        let has_room = self.append(*count, &events);
        if has_room {
            page.known = known;
            *count += events.len() as u64;
        }
        has_room
    }

    /// Takes a report. What the driver has no room for, or is not there for, it will not see; in the
    /// end it sees how things are.
    pub(super) fn take(&mut self, stream: u64, number: u64, report: &Report) {
        let mut page = self.page();
        if !page.note(stream, number) {
            return;
        }
        let mut count = self.count();
        let is_awake = self.words.get(word::IS_AWAKE) != 0;
        if is_awake && self.catch_up(&mut page, &mut count) {
            let mut known = page.known;
            let events = known.follow(report);
            if self.append(count, &events) {
                page.known = known;
                count += events.len() as u64;
            }
        }
        page.now.follow(report);
        self.turn(&page, count);
    }

    /// Whether there is an event for the buffer at this position, which is the next: those before it
    /// the driver has.
    pub(super) fn is_due(&mut self, position: u64) -> bool {
        let mut count = self.count();
        if position > count || count - position > EVENTS {
            count = self.start_over(position);
        }
        self.words.set(word::TAKEN, position);
        self.words.set(word::IS_AWAKE, 1);
        let mut page = self.page();
        if page.known != page.now && self.catch_up(&mut page, &mut count) {
            self.turn(&page, count);
        }
        position < count
    }

    /// The queue was reset, and not the device: events are lost, and which of them the driver has is
    /// not known. It is told how everything is. How many events there are then.
    fn start_over(&mut self, position: u64) -> u64 {
        let mut page = self.page();
        let events = page.now.in_full(&self.model);
        self.words.set(word::TAKEN, position);
        // There is room for all keys, and nothing else waits.
        self.append(position, &events);
        page.known = page.now;
        let count = position + events.len() as u64;
        self.turn(&page, count);
        count
    }

    /// The event for the buffer at a position for which one is due.
    pub(super) fn at(&self, position: u64) -> [u8; EVENT] {
        self.event(position).emit()
    }

    /// The driver switches a light.
    pub(super) fn set_light(&self, light: u16, is_on: bool) {
        let lights = self.words.get(word::LIGHTS);
        let bit = 1 << (light % 64);
        let lights = if is_on { lights | bit } else { lights & !bit };
        self.words.set(word::LIGHTS, lights);
    }

    /// The driver knows of nothing. Whoever presses something presses it still.
    pub(super) fn reset(&mut self) {
        let page = Page {
            known: Stance::default(),
            ..self.page()
        };
        self.words.set(word::IS_AWAKE, 0);
        self.words.set(word::LIGHTS, 0);
        self.turn(&page, 0);
        self.words.set(word::TAKEN, 0);
    }

    pub(super) fn remembers(&self, stream: u64) -> bool {
        let streams = self.page().streams;
        stream != 0 && streams.iter().any(|(known, _)| *known == stream)
    }

    pub(super) fn pressed(&self) -> Vec<u16> {
        self.page().now.pressed()
    }

    /// Appends what the driver knows and what it waits for. What is pressed is not of the guest.
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        let (count, taken) = (self.count(), self.words.get(word::TAKEN));
        self.page().known.emit(out);
        out.push(u8::from(self.words.get(word::IS_AWAKE) != 0));
        out.extend(self.words.get(word::LIGHTS).to_le_bytes());
        out.extend(count.to_le_bytes());
        let first = taken.min(count);
        out.extend(((count - first) as u32).to_le_bytes());
        for number in first..count {
            out.extend(self.event(number).emit());
        }
    }

    pub(super) fn parse(&self, saved: &mut Fields<'_>) -> Result<Saved, StateError> {
        let known = Stance::parse(saved)?;
        let (is_awake, lights, count) = (saved.bool()?, saved.u64()?, saved.u64()?);
        let waiting = u64::from(saved.u32()?);
        if !known.is_of(&self.model) || count >= SECOND || waiting > EVENTS.min(count) {
            return Err(StateError::registers("no keyboard or pointer is like that"));
        }
        let waiting = (0..waiting).map(|_| saved.array().map(Event::parse));
        Ok(Saved {
            known,
            is_awake,
            lights,
            count,
            waiting: waiting.collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn restore(&mut self, saved: &Saved) {
        let first = saved.count - saved.waiting.len() as u64;
        for (number, event) in (first..).zip(&saved.waiting) {
            let at = Self::slot(number);
            self.bytes[at..at + EVENT].copy_from_slice(&event.emit());
        }
        let page = Page {
            known: saved.known,
            ..self.page()
        };
        self.turn(&page, saved.count);
        self.words.set(word::TAKEN, first);
        self.words.set(word::IS_AWAKE, saved.is_awake.into());
        self.words.set(word::LIGHTS, saved.lights);
    }
}

#[cfg(test)]
mod tests;
