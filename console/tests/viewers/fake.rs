//! A worker that is none: it shows what a test wants it to, and dies when it is told to.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use mdev::scanout::{Geometry, PixelFormat, ScanoutPublisher};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::pwrite;
use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown};
use worker::protocol::{Answer, Envelope, Request};
use worker::seqpacket;

/// Its control socket, and what it shows.
pub(crate) struct Fake {
    pub(crate) publisher: ScanoutPublisher,
    path: PathBuf,
    listener: Arc<OwnedFd>,
    askers: Arc<Mutex<Vec<Arc<OwnedFd>>>>,
    accepting: Option<JoinHandle<()>>,
}

impl Fake {
    pub(crate) fn start(folder: &Path) -> Self {
        let path = folder.join("control");
        let listener = Arc::new(seqpacket::listen_at(&path).unwrap());
        let publisher = ScanoutPublisher::default();
        let askers = Arc::new(Mutex::new(Vec::new()));
        let accepting = {
            let (listener, publisher) = (Arc::clone(&listener), publisher.clone());
            let askers = Arc::clone(&askers);
            thread::spawn(move || {
                while let Ok(asker) = accept_with(listener.as_fd(), SocketFlags::CLOEXEC) {
                    let asker = Arc::new(asker);
                    askers.lock().unwrap().push(Arc::clone(&asker));
                    let publisher = publisher.clone();
                    thread::spawn(move || serve(&asker, &publisher));
                }
            })
        };
        Self {
            publisher,
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

fn serve(asker: &OwnedFd, publisher: &ScanoutPublisher) {
    let mut watch = None;
    while let Ok(Some((document, _))) = seqpacket::receive(asker) {
        let envelope: Envelope = serde_json::from_slice(&document).unwrap();
        let (answer, fd) = match (envelope.request, publisher.current()) {
            (Request::Watch { head: 0 }, _) => {
                let begun = publisher.watch().unwrap();
                let eventfd = Arc::clone(begun.eventfd());
                watch = Some(begun);
                (Answer::Done, Some(eventfd))
            }
            (Request::Scanout { head: 0 }, Some(scanout)) if watch.is_some() => (
                Answer::Scanout {
                    geometry: scanout.geometry,
                    sequence: scanout.sequence,
                    drawn: watch.as_ref().and_then(|watch| publisher.take_drawn(watch)),
                    cursor: publisher.cursor().1,
                },
                Some(scanout.memory),
            ),
            (Request::Scanout { .. }, None) => (refusal("ENODATA"), None),
            _ => (refusal("EPERM"), None),
        };
        let document = serde_json::to_vec(&answer).unwrap();
        let fd = fd.as_ref().map(|fd| fd.as_fd());
        if seqpacket::send(asker, &document, fd).is_err() {
            return;
        }
    }
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
