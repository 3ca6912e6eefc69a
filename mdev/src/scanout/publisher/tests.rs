//! Who is told what.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::super::{CursorImage, PixelFormat};
use super::*;

const GEOMETRY: Geometry = Geometry {
    width: 8,
    height: 4,
    stride: 32,
    offset: 0,
    format: PixelFormat::Xrgb8888,
};

fn has_come(watch: &Watch) -> bool {
    rustix::io::read(watch.eventfd(), &mut [0_u8; 8]).is_ok()
}

fn memory() -> Arc<OwnedFd> {
    Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap())
}

fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
    Rect {
        x,
        y,
        width,
        height,
    }
}

#[test]
fn who_watches_hears_of_each_picture_and_of_none() {
    let publisher = ScanoutPublisher::default();
    let watch = publisher.watch().unwrap();
    assert!(!has_come(&watch));
    publisher.publish(memory(), GEOMETRY);
    assert!(has_come(&watch));
    assert!(!has_come(&watch));
    publisher.blank();
    assert!(has_come(&watch));
}

#[test]
fn nobody_is_told_who_does_not_watch_any_more() {
    let publisher = ScanoutPublisher::default();
    for _ in 0..100 {
        drop(publisher.watch().unwrap());
    }
    let _watch = publisher.watch().unwrap();
    publisher.blank();
    assert_eq!(publisher.lock().watches.len(), 1);
}

#[test]
fn what_is_drawn_is_gathered_for_each_who_watches_until_it_asks() {
    let publisher = ScanoutPublisher::default();
    let before = publisher.watch().unwrap();
    assert_eq!(publisher.take_drawn(&before), None, "nothing is promised");
    publisher.promise_drawn();
    publisher.drawn(rect(0, 0, 1, 1));
    assert!(!has_come(&before), "nothing is shown");
    publisher.publish(memory(), GEOMETRY);
    let after = publisher.watch().unwrap();
    for watch in [&before, &after] {
        assert_eq!(publisher.take_drawn(watch), Some(rect(0, 0, 8, 4)));
        assert_eq!(publisher.take_drawn(watch), Some(Rect::default()));
        has_come(watch);
    }
    publisher.drawn(rect(1, 1, 1, 1));
    assert_eq!(publisher.take_drawn(&after), Some(rect(1, 1, 1, 1)));
    publisher.drawn(rect(3, 2, 100, 100));
    publisher.drawn(rect(8, 0, 1, 1));
    for (watch, drawn) in [(&before, rect(1, 1, 7, 3)), (&after, rect(3, 2, 5, 2))] {
        assert!(has_come(watch));
        assert_eq!(publisher.take_drawn(watch), Some(drawn));
    }
}

#[test]
fn each_head_has_a_picture_and_watches_of_its_own() {
    let publisher = ScanoutPublisher::default();
    assert!(publisher.head(1).is_none());
    publisher.set_heads(2);
    let second = publisher.head(1).unwrap();
    assert!(second.head(2).is_none());
    let watch = second.watch().unwrap();
    publisher.publish(memory(), GEOMETRY);
    assert!(second.current().is_none() && !has_come(&watch));
    second.publish(memory(), GEOMETRY);
    assert!(has_come(&watch));
    publisher.blank();
    assert!(publisher.head(1).unwrap().current().is_some());
}

#[test]
fn changes_of_the_cursor_are_counted_and_so_are_its_images() {
    let publisher = ScanoutPublisher::default();
    let watch = publisher.watch().unwrap();
    let image = || CursorImage {
        memory: memory(),
        geometry: GEOMETRY,
        hot_x: 1,
        hot_y: 2,
        sequence: 0,
    };
    for (changes, image, images) in [(1, Some(image()), 1), (3, None, 0), (5, Some(image()), 2)] {
        publisher.set_cursor(Cursor { image, x: -1, y: 7 });
        assert!(has_come(&watch));
        let (cursor, pointed) = publisher.cursor();
        let sequence = cursor.image.map_or(0, |image| image.sequence);
        assert_eq!(
            (pointed, cursor.x, cursor.y, sequence),
            (changes, -1, 7, images)
        );
        publisher.move_cursor(3, 4);
        assert!(has_come(&watch));
        let (cursor, pointed) = publisher.cursor();
        let sequence = cursor.image.map_or(0, |image| image.sequence);
        assert_eq!(
            (pointed, cursor.x, cursor.y, sequence),
            (changes + 1, 3, 4, images)
        );
    }
}

/// Draws another line each time someone is about to read.
#[derive(Debug, Default)]
struct Redraws {
    refreshed: AtomicU32,
    watched: AtomicU32,
    publisher: ScanoutPublisher,
}

impl Refresh for Redraws {
    fn refresh(&self) {
        let height = 1 + self.refreshed.fetch_add(1, Ordering::Relaxed);
        self.publisher
            .publish(memory(), Geometry { height, ..GEOMETRY });
    }

    fn watched(&self) {
        assert!(self.publisher.is_watched());
        self.watched.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn who_looks_finds_what_was_brought_into_the_file_for_that() {
    let publisher = ScanoutPublisher::default();
    let redraws = Arc::new(Redraws {
        publisher: publisher.clone(),
        ..Redraws::default()
    });
    let refresh: Weak<Redraws> = Arc::downgrade(&redraws);
    publisher.set_refresh(refresh);
    for lines in 1..4 {
        assert_eq!(publisher.current().unwrap().geometry.height, lines);
    }
    assert!(!publisher.is_watched());
    let watch = publisher.watch().unwrap();
    assert_eq!(redraws.watched.load(Ordering::Relaxed), 1);
    drop(watch);
    assert!(!publisher.is_watched());
    drop(redraws);
    assert_eq!(publisher.current().unwrap().geometry.height, 3);
}

/// One that shows a picture, and how often its device was asked for what is late, which it answers by
/// `answer`.
fn asked(
    answer: impl Fn(&ScanoutPublisher) + Send + Sync + 'static,
) -> (ScanoutPublisher, Arc<AtomicUsize>) {
    let publisher = ScanoutPublisher::default();
    publisher.promise_drawn();
    publisher.publish(memory(), GEOMETRY);
    let asked = Arc::new(AtomicUsize::new(0));
    let (device, count) = (publisher.clone(), Arc::clone(&asked));
    publisher.ask_with(move || {
        count.fetch_add(1, Ordering::Relaxed);
        answer(&device);
    });
    (publisher, asked)
}

#[test]
fn a_device_is_asked_for_what_is_late_once_and_only_if_somebody_looks() {
    let (publisher, asked) = asked(|device| device.caught_up(rect(1, 1, 2, 2)));
    let watch = publisher.watch().unwrap();
    publisher.take_drawn(&watch);
    for round in 0..3 {
        publisher.drawn_late(rect(1, 1, 1, 1));
        publisher.drawn_late(rect(2, 2, 1, 1));
        assert!(has_come(&watch));
        assert_eq!(asked.load(Ordering::Relaxed), round);
        for _ in 0..2 {
            publisher.catch_up(Duration::from_secs(20));
        }
        assert_eq!(publisher.take_drawn(&watch), Some(rect(1, 1, 2, 2)));
        assert_eq!(publisher.take_drawn(&watch), Some(Rect::default()));
        assert!(!has_come(&watch), "it was told of already");
        assert_eq!(asked.load(Ordering::Relaxed), round + 1);
    }
    // There is another picture, or none: nothing is late any more.
    publisher.drawn_late(rect(0, 0, 1, 1));
    publisher.publish(memory(), GEOMETRY);
    publisher.catch_up(Duration::from_secs(20));
    publisher.drawn_late(rect(0, 0, 1, 1));
    publisher.blank();
    publisher.catch_up(Duration::from_secs(20));
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[test]
fn who_was_told_before_the_picture_was_there_is_told_again() {
    let answers = AtomicUsize::new(0);
    let (publisher, asked) = asked(move |device| {
        // It cannot, then it says nothing, then it can.
        match answers.fetch_add(1, Ordering::Relaxed) {
            0 => device.not_caught_up(),
            1 => {}
            _ => device.caught_up(rect(1, 1, 1, 1)),
        }
    });
    let watch = publisher.watch().unwrap();
    publisher.take_drawn(&watch);
    publisher.drawn_late(rect(1, 1, 1, 1));
    assert!(has_come(&watch));
    publisher.catch_up(Duration::from_secs(20));
    // Asked again, without waiting.
    assert_eq!(publisher.take_drawn(&watch), Some(rect(1, 1, 1, 1)));
    assert!(!has_come(&watch));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    publisher.catch_up(Duration::from_millis(1));
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    assert!(has_come(&watch));
    assert_eq!(publisher.take_drawn(&watch), Some(rect(1, 1, 1, 1)));
}

#[test]
fn nobody_waits_longer_than_they_want_for_a_device_that_says_nothing() {
    let (publisher, asked) = asked(|_| ());
    publisher.drawn_late(rect(0, 0, 1, 1));
    publisher.catch_up(Duration::from_millis(1));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}
