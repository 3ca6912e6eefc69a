//! A worker that is none: it shows what a test wants it to, and dies when it is told to.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use mdev::scanout::{Geometry, PixelFormat, ScanoutPublisher, Watch};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::pwrite;
use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown};
use worker::protocol::{Answer, CursorImage, Envelope, Request};
use worker::seqpacket;

/// Its control socket, and what it shows.
pub(crate) struct Fake {
    pub(crate) publisher: ScanoutPublisher,
    /// The sizes that were asked for, and what is said to the next one that is.
    pub(crate) wishes: Arc<Mutex<Wishes>>,
    path: PathBuf,
    listener: Arc<OwnedFd>,
    askers: Arc<Mutex<Vec<Arc<OwnedFd>>>>,
    accepting: Option<JoinHandle<()>>,
}

/// Sizes that its guest was to have.
#[derive(Default)]
pub(crate) struct Wishes {
    pub(crate) asked: Vec<(u32, u32)>,
    pub(crate) refuse_by: Option<&'static str>,
}

impl Fake {
    pub(crate) fn start(folder: &Path) -> Self {
        let path = folder.join("control");
        let listener = Arc::new(seqpacket::listen_at(&path).unwrap());
        let publisher = ScanoutPublisher::default();
        let askers = Arc::new(Mutex::new(Vec::new()));
        let wishes = Arc::new(Mutex::new(Wishes::default()));
        let accepting = {
            let (listener, publisher) = (Arc::clone(&listener), publisher.clone());
            let (askers, wishes) = (Arc::clone(&askers), Arc::clone(&wishes));
            thread::spawn(move || {
                while let Ok(asker) = accept_with(listener.as_fd(), SocketFlags::CLOEXEC) {
                    let asker = Arc::new(asker);
                    askers.lock().unwrap().push(Arc::clone(&asker));
                    let (publisher, wishes) = (publisher.clone(), Arc::clone(&wishes));
                    thread::spawn(move || serve(&asker, &publisher, &wishes));
                }
            })
        };
        Self {
            publisher,
            wishes,
            path,
            listener,
            askers,
            accepting: Some(accepting),
        }
    }

    /// Shows a picture in a memory file of its own, which is given back.
    pub(crate) fn show(&self, width: u32, height: u32, pixels: &[u32]) -> Arc<OwnedFd> {
        let memory = memory(pixels);
        self.publish(&memory, geometry(width, height));
        memory
    }

    pub(crate) fn publish(&self, memory: &Arc<OwnedFd>, geometry: Geometry) {
        self.publisher.publish(Arc::clone(memory), geometry);
    }
}

impl Drop for Fake {
    /// As a worker that was killed: nothing is removed but what the next one needs.
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
        shutdown(self.listener.as_fd(), Shutdown::Both).unwrap();
        self.accepting.take().unwrap().join().unwrap();
        for asker in self.askers.lock().unwrap().drain(..) {
            let _ = shutdown(asker.as_fd(), Shutdown::Both);
        }
    }
}

fn serve(asker: &OwnedFd, first: &ScanoutPublisher, wishes: &Mutex<Wishes>) {
    let mut watch: Option<(u32, Watch)> = None;
    while let Ok(Some((document, _))) = seqpacket::receive(asker) {
        let envelope: Envelope = serde_json::from_slice(&document).unwrap();
        let (answer, fd) = match (envelope.request, &watch) {
            (Request::Watch { head }, None) => {
                let begun = first.head(head).unwrap().watch().unwrap();
                let eventfd = Arc::clone(begun.eventfd());
                watch = Some((head, begun));
                (Answer::Done, Some(eventfd))
            }
            (Request::Scanout { head }, Some((watched, watch))) if head == *watched => {
                scanout(&first.head(head).unwrap(), watch)
            }
            (Request::Cursor { head }, Some((watched, _))) if head == *watched => {
                cursor(&first.head(head).unwrap())
            }
            (Request::Resize { width, height, .. }, Some(_)) => {
                let mut wishes = wishes.lock().unwrap();
                wishes.asked.push((width, height));
                (wishes.refuse_by.map_or(Answer::Done, refusal), None)
            }
            _ => (refusal("EPERM"), None),
        };
        let document = serde_json::to_vec(&answer).unwrap();
        let fd = fd.as_ref().map(|fd| fd.as_fd());
        if seqpacket::send(asker, &document, fd).is_err() {
            return;
        }
    }
}

fn scanout(publisher: &ScanoutPublisher, watch: &Watch) -> (Answer, Option<Arc<OwnedFd>>) {
    let drawn = publisher.take_drawn(watch);
    let Some(scanout) = publisher.current() else {
        return (refusal("ENODATA"), None);
    };
    let answer = Answer::Scanout {
        geometry: scanout.geometry,
        sequence: scanout.sequence,
        drawn,
        cursor: publisher.cursor().1,
    };
    (answer, Some(scanout.memory))
}

fn cursor(publisher: &ScanoutPublisher) -> (Answer, Option<Arc<OwnedFd>>) {
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

fn refusal(errno: &str) -> Answer {
    Answer::Error {
        errno: errno.to_owned(),
        message: "no".to_owned(),
    }
}

/// A memory file with these pixels.
pub(crate) fn memory(pixels: &[u32]) -> Arc<OwnedFd> {
    let memory = memfd_create("picture", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memory, pixels.len() as u64 * 4).unwrap();
    draw(&memory, pixels);
    Arc::new(memory)
}

/// Draws from the start of the picture on.
pub(crate) fn draw(memory: &OwnedFd, pixels: &[u32]) {
    let bytes: Vec<u8> = pixels
        .iter()
        .flat_map(|pixel| pixel.to_le_bytes())
        .collect();
    assert_eq!(pwrite(memory, &bytes, 0), Ok(bytes.len()));
}

pub(crate) fn geometry(width: u32, height: u32) -> Geometry {
    Geometry {
        width,
        height,
        stride: width.wrapping_mul(4),
        offset: 0,
        format: PixelFormat::Xrgb8888,
    }
}
