//! Reports, as they come in, on whatever thread they come.

use std::sync::{Arc, Mutex};

use mdev::input::{Report, Taker};
use virtio::Waker;

use super::device::lock;
use super::model::Model;
use super::queues::EVENTS_QUEUE;
use super::tape::Tape;

/// Takes reports for one device.
pub(super) struct Intake {
    pub(super) model: Model,
    pub(super) tape: Arc<Mutex<Tape>>,
    pub(super) waker: Waker,
}

impl Taker for Intake {
    fn knows(&self, report: &Report) -> bool {
        self.model.knows(report)
    }

    fn take(&mut self, stream: u64, number: u64, report: &Report) {
        lock(&self.tape).take(stream, number, report);
        self.waker.wake(EVENTS_QUEUE);
    }

    fn remembers(&self, stream: u64) -> bool {
        lock(&self.tape).remembers(stream)
    }

    fn pressed(&self) -> Vec<u16> {
        lock(&self.tape).pressed()
    }
}
