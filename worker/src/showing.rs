//! What a worker says of the picture, to who asks once and to who watches. A device whose picture is
//! late is asked for it, and not waited for if it has no answer.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mdev::scanout::{ScanoutPublisher, Watch};
use worker::protocol::{Answer, CursorImage};

use crate::requests::refuse;

/// How long to wait for a picture that is late. A frame is copied in a millisecond; the rest is for a
/// machine that is busy. Whoever watches is told later.
const CATCH_UP_LIMIT: Duration = Duration::from_millis(500);

/// What a connection watches.
#[derive(Debug)]
pub(crate) struct Watching {
    pub(crate) head: u32,
    watch: Watch,
}

type Answered = (Answer, Option<Arc<OwnedFd>>);

/// What a head shows, and what was drawn of it since `watching` asked last.
pub(crate) fn scanout(
    publisher: &ScanoutPublisher,
    head: u32,
    watching: Option<&Watching>,
) -> Answered {
    let Some(publisher) = publisher.head(head) else {
        return no_head(publisher, head);
    };
    publisher.catch_up(CATCH_UP_LIMIT);
    // First: what is drawn from here on is told of again.
    let drawn = watching.and_then(|watching| publisher.take_drawn(&watching.watch));
    let Some(scanout) = publisher.current() else {
        let message = "nothing is shown: the guest has set no mode".to_owned();
        return (refuse("ENODATA", message), None);
    };
    let answer = Answer::Scanout {
        geometry: scanout.geometry,
        sequence: scanout.sequence,
        drawn,
        cursor: publisher.cursor().1,
    };
    (answer, Some(scanout.memory))
}

/// The cursor of a head.
pub(crate) fn cursor(publisher: &ScanoutPublisher, head: u32) -> Answered {
    let Some(publisher) = publisher.head(head) else {
        return no_head(publisher, head);
    };
    let (cursor, sequence) = publisher.cursor();
    let image = cursor.image.as_ref().map(|image| CursorImage {
        geometry: image.geometry,
        hot_x: image.hot_x,
        hot_y: image.hot_y,
        sequence: image.sequence,
    });
    let answer = Answer::Cursor {
        image,
        x: cursor.x,
        y: cursor.y,
        sequence,
    };
    (answer, cursor.image.map(|image| image.memory))
}

/// Begins to tell of a head, for as long as the connection has `watching`.
pub(crate) fn watch(
    publisher: &ScanoutPublisher,
    head: u32,
    watching: &mut Option<Watching>,
) -> Answered {
    let Some(publisher) = publisher.head(head) else {
        return no_head(publisher, head);
    };
    match publisher.watch() {
        Ok(watch) => {
            let eventfd = Arc::clone(watch.eventfd());
            *watching = Some(Watching { head, watch });
            (Answer::Done, Some(eventfd))
        }
        Err(error) => {
            let message = format!("nothing can be told: {error}");
            (refuse("EMFILE", message), None)
        }
    }
}

fn no_head(publisher: &ScanoutPublisher, head: u32) -> Answered {
    let message = match publisher.heads() {
        1 => format!("there is no head {head}: this vGPU has one, which is 0"),
        heads => format!("there is no head {head}: this vGPU has {heads}, from 0"),
    };
    (refuse("EINVAL", message), None)
}

#[cfg(test)]
mod tests {
    use mdev::scanout::{Cursor, Geometry, PixelFormat, Rect};
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    const GEOMETRY: Geometry = Geometry {
        width: 8,
        height: 4,
        stride: 32,
        offset: 0,
        format: PixelFormat::Xrgb8888,
    };

    fn memory() -> Arc<OwnedFd> {
        Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap())
    }

    /// What was drawn of a head, and how often its cursor has changed.
    fn ask(publisher: &ScanoutPublisher, watching: Option<&Watching>) -> (Option<Rect>, u64) {
        match scanout(publisher, 0, watching) {
            (Answer::Scanout { drawn, cursor, .. }, Some(_)) => (drawn, cursor),
            (other, _) => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_watches_is_told_what_was_drawn_once_and_who_does_not_never() {
        let publisher = ScanoutPublisher::default();
        publisher.promise_drawn();
        let mut watching = None;
        watch(&publisher, 0, &mut watching);
        publisher.publish(memory(), GEOMETRY);
        assert_eq!(ask(&publisher, None), (None, 0));
        let watching = watching.as_ref();
        assert_eq!(ask(&publisher, watching), (Some(Rect::whole(8, 4)), 0));
        publisher.set_cursor(Cursor::default());
        assert_eq!(ask(&publisher, watching), (Some(Rect::default()), 1));
    }

    #[test]
    fn a_head_that_there_is_not_is_refused_with_the_number_of_those_that_are() {
        let publisher = ScanoutPublisher::default();
        for heads in [1, 3] {
            publisher.set_heads(heads);
            for (answer, fd) in [
                scanout(&publisher, heads, None),
                cursor(&publisher, heads),
                watch(&publisher, heads, &mut None),
            ] {
                let Answer::Error { errno, message } = answer else {
                    panic!("{answer:?}");
                };
                assert_eq!(errno, "EINVAL");
                assert!(message.starts_with(&format!("there is no head {heads}: ")));
                assert!(fd.is_none());
            }
        }
    }
}
