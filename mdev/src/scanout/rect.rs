//! Part of a picture.

/// A part of a picture, in its pixels. The form of the control protocol, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rect {
    /// Columns left of it.
    pub x: u32,
    /// Lines above it.
    pub y: u32,
    /// Pixels in a line of it; 0 if it is nothing.
    pub width: u32,
    /// Its lines; 0 if it is nothing.
    pub height: u32,
}

impl Rect {
    /// The whole of a picture of this size.
    pub fn whole(width: u32, height: u32) -> Self {
        Self {
            x: 0,
            y: 0,
            width,
            height,
        }
    }

    /// Whether there is no pixel in it.
    pub fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// Whether it has any pixel, and all of them are in a picture of this size.
    pub fn is_within(&self, width: u32, height: u32) -> bool {
        let fits = |at: u32, len: u32, all: u32| {
            len > 0 && at.checked_add(len).is_some_and(|end| end <= all)
        };
        fits(self.x, self.width, width) && fits(self.y, self.height, height)
    }

    /// The smallest that has both in it. What is nothing counts for nothing.
    pub fn union(self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return self;
        }
        let (x, width) = span(self.x, self.width, other.x, other.width);
        let (y, height) = span(self.y, self.height, other.y, other.height);
        Self {
            x,
            y,
            width,
            height,
        }
    }

    /// What both have in common; nothing if that is nothing.
    pub fn intersection(self, other: Self) -> Self {
        let common = |at: u32, len: u32, other_at: u32, other_len: u32| {
            let start = at.max(other_at);
            let end = at
                .saturating_add(len)
                .min(other_at.saturating_add(other_len));
            (start, end.saturating_sub(start))
        };
        let (x, width) = common(self.x, self.width, other.x, other.width);
        let (y, height) = common(self.y, self.height, other.y, other.height);
        let rect = Self {
            x,
            y,
            width,
            height,
        };
        if rect.is_empty() {
            return Self::default();
        }
        rect
    }
}

fn span(at: u32, len: u32, other_at: u32, other_len: u32) -> (u32, u32) {
    let start = at.min(other_at);
    let end = at
        .saturating_add(len)
        .max(other_at.saturating_add(other_len));
    (start, end - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
        Rect {
            x,
            y,
            width,
            height,
        }
    }

    #[test]
    fn what_is_within_has_pixels_and_none_outside() {
        for (part, is_within) in [
            (rect(0, 0, 8, 4), true),
            (rect(7, 3, 1, 1), true),
            (rect(8, 0, 0, 1), false),
            (rect(8, 0, 1, 1), false),
            (rect(0, 1, 8, 4), false),
            (rect(u32::MAX, 0, 2, 1), false),
        ] {
            assert_eq!(part.is_within(8, 4), is_within, "{part:?}");
        }
    }

    #[test]
    fn a_union_has_both_in_it_and_an_intersection_what_both_have() {
        let nothing = Rect::default();
        for (first, second, union, intersection) in [
            (nothing, nothing, nothing, nothing),
            (
                rect(9, 9, 0, 5),
                rect(1, 2, 3, 4),
                rect(1, 2, 3, 4),
                nothing,
            ),
            (
                rect(0, 0, 4, 4),
                rect(2, 2, 4, 4),
                rect(0, 0, 6, 6),
                rect(2, 2, 2, 2),
            ),
            (
                rect(0, 0, 1, 1),
                rect(8, 1, 1, 1),
                rect(0, 0, 9, 2),
                nothing,
            ),
            (
                rect(0, 0, u32::MAX, 1),
                rect(7, 0, u32::MAX, 1),
                rect(0, 0, u32::MAX, 1),
                rect(7, 0, u32::MAX - 7, 1),
            ),
        ] {
            for (first, second) in [(first, second), (second, first)] {
                assert_eq!(first.union(second), union, "{first:?} {second:?}");
                assert_eq!(
                    first.intersection(second),
                    intersection,
                    "{first:?} {second:?}"
                );
            }
        }
    }
}
