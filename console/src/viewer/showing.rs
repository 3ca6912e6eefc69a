//! What a viewer is shown: one update at a time, encoded piece by piece as it takes them.

use std::collections::VecDeque;

use crate::cursor::Cursor;
use crate::frame::{self, Frame, Seen};
use crate::hub::Place;
use crate::rfb::Rect;
use crate::rfb::format::{Packer, PixelFormat};
use crate::rfb::message::{Body, Encodings, Pointing, RAW, ZRLE};
use crate::rfb::update::{
    ResizeStatus, SizeNews, put_cursor, put_cursor_with_alpha, put_extended_size, put_head,
    put_key_codes, put_rect, put_size,
};
use crate::rfb::zrle::Zrle;

/// Encoded bytes that wait for a viewer, before the next rectangle is encoded. One rectangle comes
/// on top of it: 512 KiB.
const ENOUGH: usize = 256 << 10;

/// What a viewer is shown.
#[derive(Debug)]
pub(super) struct Showing {
    /// The size as the viewer knows it.
    size: (u16, u16),
    /// What it has of the picture.
    seen: Seen,
    format: PixelFormat,
    encodings: Encodings,
    /// What it wants to be shown.
    wanted: Option<Rect>,
    /// What it is to be told beside pixels.
    to_tell: ToTell,
    /// The cursor as it was last told of, or is drawn into what is sent.
    told: Option<Cursor>,
    /// One that was drawn, of a viewer that is told of shapes since.
    was_drawn: Option<Cursor>,
    /// What is left of the update under way, and how that is encoded.
    under_way: VecDeque<Rect>,
    manner: Manner,
    zrle: Zrle,
    /// Bytes on their way, and how many of them are gone.
    output: Vec<u8>,
    gone: usize,
    pixels: Vec<u32>,
}

/// What a viewer is to be told beside pixels.
#[derive(Clone, Copy, Debug, Default)]
struct ToTell {
    size: bool,
    resize: Option<ResizeStatus>,
    key_codes: bool,
}

/// How the rectangles of one update are encoded. What the viewer changes meanwhile is for the next.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Raw(Packer),
    Zrle(Packer),
}

/// An update that is begun: what it has beside pixels, and which parts.
struct Update {
    size: Option<(u16, u16)>,
    cursor: Option<Cursor>,
    rects: Vec<Rect>,
}

impl Showing {
    /// Of a viewer that has just been told the size.
    pub(super) fn new(size: (u16, u16)) -> Self {
        Self {
            size,
            seen: Seen::default(),
            format: PixelFormat::OFFERED,
            encodings: Encodings::default(),
            wanted: None,
            to_tell: ToTell::default(),
            told: None,
            was_drawn: None,
            under_way: VecDeque::new(),
            manner: Manner::Raw(PixelFormat::OFFERED.packer()),
            zrle: Zrle::default(),
            output: Vec::new(),
            gone: 0,
            pixels: Vec::new(),
        }
    }

    /// The size as the viewer knows it.
    pub(super) fn size(&self) -> (u16, u16) {
        self.size
    }

    /// The pixels it wants.
    pub(super) fn set_format(&mut self, format: PixelFormat) {
        self.format = format;
    }

    /// What it can decode.
    pub(super) fn set_encodings(&mut self, encodings: Encodings) {
        if encodings.pointing != self.encodings.pointing {
            // What was drawn is drawn over; a shape is told anew.
            self.was_drawn = self.was_drawn.take().or(self.drawn());
            self.told = None;
        }
        self.encodings = encodings;
        // To tell the size in the extended form says that it may be asked for.
        self.to_tell.size |= encodings.extended_desktop_size;
        self.to_tell.key_codes |= encodings.key_codes;
    }

    /// It wants to be shown something. It may say so more than once: the parts are put together.
    pub(super) fn request(&mut self, place: &Place, is_incremental: bool, area: Rect) {
        if !is_incremental {
            let seen = &mut self.seen;
            place.hub().with_frame(|frame| frame.forget(area, seen));
        }
        self.wanted = Some(match self.wanted {
            None => area,
            Some(before) => around(before, area),
        });
        place.want();
    }

    /// What is to be sent.
    pub(super) fn output(&self) -> &[u8] {
        self.output.get(self.gone..).unwrap_or_default()
    }

    /// So much of it has been sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.gone += count;
        if self.gone >= self.output.len() {
            self.output.clear();
            self.gone = 0;
        }
    }

    /// Begins an update if one is wanted and there is something to show, and goes on with the one
    /// that is under way.
    pub(super) fn advance(&mut self, place: &Place) {
        if self.output().is_empty() && self.under_way.is_empty() {
            self.begin(place);
        }
        while !self.under_way.is_empty() && self.output().len() < ENOUGH {
            let Some(rect) = self.under_way.pop_front() else {
                return;
            };
            let pixels = &mut self.pixels;
            place.hub().with_frame(|frame| frame.copy(rect, pixels));
            self.encode(rect);
        }
    }

    fn begin(&mut self, place: &Place) {
        let Some(area) = self.wanted else { return };
        if let Some(status) = place.take_answer() {
            let is_known = self.encodings.extended_desktop_size;
            self.to_tell.resize = is_known.then_some(status);
        }
        let Some(update) = place.serve(|frame| self.choose(frame, area)) else {
            return;
        };
        self.wanted = None;
        self.manner = match self.encodings.body {
            Body::Raw => Manner::Raw(self.format.packer()),
            Body::Zrle => Manner::Zrle(self.format.compact_packer()),
        };
        let told = std::mem::take(&mut self.to_tell);
        let mut beside = Vec::new();
        let mut count = update.rects.len();
        if told.key_codes {
            put_key_codes(&mut beside);
            count += 1;
        }
        if let Some(status) = told.resize {
            put_extended_size(SizeNews::Asked(status), self.size, &mut beside);
            count += 1;
        }
        if let Some(cursor) = update.cursor {
            let image = cursor.image.as_deref();
            if self.encodings.pointing == Pointing::Alpha {
                put_cursor_with_alpha(image, &mut beside);
            } else {
                put_cursor(image, self.format.packer(), &mut beside);
            }
            count += 1;
        }
        if let Some(size) = update.size {
            if self.encodings.extended_desktop_size {
                put_extended_size(SizeNews::Changed, size, &mut beside);
            } else {
                put_size(size, &mut beside);
            }
            count += 1;
        }
        // At most 256 by 256 tiles in runs, which are at least every second one, and four more.
        put_head(u16::try_from(count).unwrap_or(u16::MAX), &mut self.output);
        self.output.extend(beside);
        self.under_way.extend(update.rects);
    }

    /// What the next update has, if anything. A viewer that is told a new size is shown nothing else
    /// with it: it has to make room first.
    fn choose(&mut self, frame: &mut Frame, area: Rect) -> Option<Update> {
        let can_resize = self.encodings.desktop_size || self.encodings.extended_desktop_size;
        if can_resize && frame.size() != self.size {
            self.size = frame.size();
            return Some(Update {
                size: Some(self.size),
                cursor: None,
                rects: Vec::new(),
            });
        }
        let whole = Rect {
            x: 0,
            y: 0,
            width: self.size.0,
            height: self.size.1,
        };
        let is_other = frame.size() != self.size && frame.is_unknown_to(&self.seen);
        let cursor = self.point(frame);
        let news = frame.news(area, &mut self.seen);
        // A viewer that knows of one size alone sees the rest of it dark, of a smaller picture.
        let news = if is_other {
            frame::in_tiles(whole)
        } else {
            news
        };
        let rects: Vec<_> = news
            .into_iter()
            .map(|rect| rect.intersection(whole))
            .filter(|rect| !rect.is_empty())
            .collect();
        let ToTell {
            size,
            resize,
            key_codes,
        } = self.to_tell;
        let is_told = size || resize.is_some() || key_codes || cursor.is_some();
        (!rects.is_empty() || is_told).then_some(Update {
            size: size.then_some(self.size),
            cursor,
            rects,
        })
    }

    /// The cursor, if it is to be told of as a shape. Where it is drawn, what it covers now and has
    /// covered before is sent anew.
    fn point(&mut self, frame: &Frame) -> Option<Cursor> {
        let now = frame.cursor.as_ref()?;
        if let Some(before) = self.was_drawn.take() {
            frame.forget(before.covers(), &mut self.seen);
        }
        let told = self.told.as_ref();
        if self.encodings.pointing != Pointing::Drawn {
            let is_news = !told.is_some_and(|told| told.looks_like(now));
            self.told = Some(now.clone());
            return is_news.then(|| now.clone());
        }
        if !told.is_some_and(|told| told.is(now)) {
            for cursor in told.into_iter().chain([now]) {
                frame.forget(cursor.covers(), &mut self.seen);
            }
            self.told = Some(now.clone());
        }
        None
    }

    /// The cursor that is drawn into what is sent.
    fn drawn(&self) -> Option<Cursor> {
        let is_drawn = self.encodings.pointing == Pointing::Drawn;
        self.told.clone().filter(|_| is_drawn)
    }

    fn encode(&mut self, rect: Rect) {
        if let Some(cursor) = self.drawn() {
            cursor.draw(rect, &mut self.pixels);
        }
        if self.gone > 0 {
            self.output.drain(..self.gone);
            self.gone = 0;
        }
        let out = &mut self.output;
        match self.manner {
            Manner::Raw(packer) => {
                put_rect(rect, RAW, out);
                packer.put_all(&self.pixels, out);
            }
            Manner::Zrle(packer) => {
                put_rect(rect, ZRLE, out);
                self.zrle
                    .put(&self.pixels, usize::from(rect.width), packer, out);
            }
        }
    }
}

/// The smallest rectangle that has both in it.
fn around(one: Rect, other: Rect) -> Rect {
    let (x, y) = (one.x.min(other.x), one.y.min(other.y));
    let far = |start: u16, length: u16| start.saturating_add(length);
    Rect {
        x,
        y,
        width: far(one.x, one.width).max(far(other.x, other.width)) - x,
        height: far(one.y, one.height).max(far(other.y, other.height)) - y,
    }
}
