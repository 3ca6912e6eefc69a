//! What a viewer is shown is what has changed, no more than whole tiles of it, and nothing twice.

use proptest::prelude::*;

use super::*;

fn whole(frame: &Frame) -> Rect {
    let (width, height) = frame.size();
    Rect {
        x: 0,
        y: 0,
        width,
        height,
    }
}

/// A viewer that takes over what it is shown.
struct Viewer {
    seen: Seen,
    pixels: Vec<u32>,
}

impl Viewer {
    fn new(frame: &Frame) -> Self {
        Self {
            seen: Seen::default(),
            pixels: vec![u32::MAX; frame.pixels.len()],
        }
    }

    fn look(&mut self, frame: &Frame) -> Vec<Rect> {
        let rects = frame.news(whole(frame), &mut self.seen);
        let mut part = Vec::new();
        for rect in &rects {
            frame.copy(*rect, &mut part);
            assert_eq!(
                part.len(),
                usize::from(rect.width) * usize::from(rect.height)
            );
            for (line, pixels) in part.chunks(rect.width.into()).enumerate() {
                let start = (usize::from(rect.y) + line) * frame.width + usize::from(rect.x);
                self.pixels[start..start + pixels.len()].copy_from_slice(pixels);
            }
        }
        rects
    }
}

/// The guest's picture is taken over as the source does.
fn take(frame: &mut Frame, pixels: &[u32]) -> bool {
    frame.begin_turn();
    let bands = pixels.chunks(frame.width * TILE).enumerate();
    bands.fold(false, |changed, (row, band)| {
        changed | frame.take_tiles(row, 0..frame.across(), band)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn viewers_that_look_at_any_time_see_what_there_is_in_tiles_that_changed(
        (width, height) in (1_u16..300, 1_u16..200),
        turns in prop::collection::vec(
            (prop::collection::vec((any::<prop::sample::Index>(), 0_u32..4), 0..6), any::<bool>()),
            1..12,
        ),
    ) {
        let mut frame = Frame::new((width, height));
        let mut pixels = frame.pixels.clone();
        let (mut often, mut seldom) = (Viewer::new(&frame), Viewer::new(&frame));
        often.look(&frame);
        for (changes, does_look) in turns {
            let mut tiles = std::collections::BTreeSet::new();
            for (place, colour) in changes {
                let at = place.index(pixels.len());
                if pixels[at] != colour {
                    tiles.insert((at % frame.width / TILE, at / frame.width / TILE));
                    pixels[at] = colour;
                }
            }
            // A pixel that was changed and changed back has a tile here, and none there.
            let has_changed = take(&mut frame, &pixels);
            prop_assert!(!has_changed || !tiles.is_empty());
            let rects = often.look(&frame);
            let shown: usize = rects
                .iter()
                .map(|rect| usize::from(rect.width).div_ceil(TILE))
                .sum();
            prop_assert!(shown <= tiles.len());
            prop_assert_eq!(&often.pixels, &pixels);
            if does_look {
                seldom.look(&frame);
                prop_assert_eq!(&seldom.pixels, &pixels);
            }
            prop_assert!(often.look(&frame).is_empty());
        }
        seldom.look(&frame);
        prop_assert_eq!(&seldom.pixels, &pixels);
    }

    #[test]
    fn any_part_may_be_asked_for_and_any_rectangle_be_copied(
        size in (1_u16..300, 1_u16..200),
        (x, y, width, height) in (any::<u16>(), any::<u16>(), any::<u16>(), any::<u16>()),
    ) {
        let frame = Frame::new(size);
        let area = Rect { x, y, width, height };
        let mut seen = Seen::default();
        for rect in frame.news(area, &mut seen) {
            prop_assert_eq!(rect.intersection(whole(&frame)), rect);
            prop_assert!(!rect.intersection(area).is_empty());
        }
        frame.forget(area, &mut seen);
        let near = Rect { x: x % 400, y: y % 300, width: width % 400, height: height % 300 };
        let mut pixels = Vec::new();
        frame.copy(near, &mut pixels);
        prop_assert!(pixels.iter().all(|&pixel| pixel == DARK));
        prop_assert_eq!(pixels.len(), usize::from(near.width) * usize::from(near.height));
        let parts = in_tiles(near);
        let count: usize = parts
            .iter()
            .map(|part| usize::from(part.width) * usize::from(part.height))
            .sum();
        prop_assert_eq!(count, pixels.len());
    }
}

#[test]
fn another_size_is_all_news() {
    let mut frame = Frame::new((100, 100));
    let mut seen = Seen::default();
    frame.news(whole(&frame), &mut seen);
    assert!(!frame.is_unknown_to(&seen));
    frame.resize((100, 100));
    assert!(frame.is_unknown_to(&seen));
    assert_eq!(frame.news(whole(&frame), &mut seen).len(), 2);
    assert!(frame.news(whole(&frame), &mut seen).is_empty());
}
