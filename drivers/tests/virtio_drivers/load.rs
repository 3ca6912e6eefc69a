//! The crate's queues on our device: full, and for so long that every index wraps.

#![expect(unsafe_code, reason = "buffers are lent to the device")]

use std::collections::VecDeque;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceStatus, Transport};

use super::bus::{Bus, Pci};
use super::driven;
use super::memory::Ram;

/// Longer than the device ever takes for one.
const PATIENCE: Duration = Duration::from_secs(20);

/// As large as the control queue is.
const SIZE: usize = 256;

const INDIRECT: u64 = 1 << 28;
const EVENT_IDX: u64 = 1 << 29;
const VERSION_1: u64 = 1 << 32;

/// A command that is answered at once, and how: FLUSH of a resource that there is not.
const FLUSH: u32 = 0x104;
const NO_RESOURCE: u32 = 0x1203;
const FENCE: u32 = 1;

/// A request and the room for its answer, as the crate is lent them.
struct Request {
    token: u16,
    said: [u8; 48],
    answer: [u8; 24],
}

/// One queue, and what is in it.
struct Load {
    queue: VirtQueue<Ram, SIZE>,
    /// In the order they were sent.
    under_way: VecDeque<Box<Request>>,
    sent: u64,
    answered: u64,
    notified: u64,
}

impl Load {
    fn new(transport: &mut Pci, features: u64) -> Self {
        let (indirect, event_idx) = (features & INDIRECT != 0, features & EVENT_IDX != 0);
        Self {
            queue: VirtQueue::new(transport, 0, indirect, event_idx).unwrap(),
            under_way: VecDeque::new(),
            sent: 0,
            answered: 0,
            notified: 0,
        }
    }

    /// Sends one, with its number as its fence. `false` if the queue is full.
    fn send(&mut self) -> bool {
        let mut said = [0; 48];
        said[..4].copy_from_slice(&FLUSH.to_le_bytes());
        said[4..8].copy_from_slice(&FENCE.to_le_bytes());
        said[8..16].copy_from_slice(&self.sent.to_le_bytes());
        let mut request = Box::new(Request {
            token: 0,
            said,
            answer: [0; 24],
        });
        let parts = [&request.said[..24], &request.said[24..]];
        // SAFETY: the box stays where it is until the queue has given the buffers back.
        let added = unsafe { self.queue.add(&parts, &mut [&mut request.answer]) };
        let Ok(token) = added else {
            assert_eq!(added, Err(virtio_drivers::Error::QueueFull));
            return false;
        };
        request.token = token;
        self.under_way.push_back(request);
        self.sent += 1;
        true
    }

    /// Tells the device, if it wants to be told.
    fn notify(&mut self, transport: &mut Pci) {
        // The crate has no barrier between its index and the device's wish.
        fence(Ordering::SeqCst);
        // Nor does it see that indices wrap (0.13.0): just after that, the device is told unasked.
        let has_wrapped = usize::from(self.sent as u16) <= SIZE;
        if self.queue.should_notify() || has_wrapped {
            transport.notify(0);
            self.notified += 1;
        }
    }

    /// Takes one answer, and waits for it if need be.
    fn take(&mut self, transport: &Pci) {
        let begin = Instant::now();
        while !self.queue.can_pop() {
            assert!(
                begin.elapsed() < PATIENCE,
                "no answer to {}; {} sent, {} told; {:?}",
                self.answered,
                self.sent,
                self.notified,
                transport.get_status()
            );
            std::thread::yield_now();
        }
        let mut request = self.under_way.pop_front().unwrap();
        let parts = [&request.said[..24], &request.said[24..]];
        let token = request.token;
        // SAFETY: these are the buffers that were lent with this token.
        let popped = unsafe {
            self.queue
                .pop_used(token, &parts, &mut [&mut request.answer])
        };
        assert_eq!(popped, Ok(24), "answers come in order");
        let answer = request.answer;
        assert_eq!(answer[..4], NO_RESOURCE.to_le_bytes());
        assert_eq!(answer[8..16], self.answered.to_le_bytes(), "its own fence");
        self.answered += 1;
    }
}

fn set_up(bus: &Bus, features: u64) -> (Pci, Load) {
    let mut transport = Pci::find(bus);
    transport.set_status(DeviceStatus::empty());
    let status = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
    transport.set_status(status);
    let features = features | VERSION_1;
    assert_eq!(transport.read_device_features() & features, features);
    transport.write_driver_features(features);
    let status = status | DeviceStatus::FEATURES_OK;
    transport.set_status(status);
    assert_eq!(transport.get_status(), status);
    let load = Load::new(&mut transport, features);
    transport.finish_init();
    (transport, load)
}

/// As many as make the 16-bit indices wrap, and some.
const REQUESTS: u64 = 70_000;

/// Keeps a number of requests under way, and the device told only when it asks for it.
fn keep_busy(bus: &Bus, features: u64, depth: usize, requests: u64) {
    let (mut transport, mut load) = set_up(bus, features);
    while load.answered < requests {
        while load.under_way.len() < depth && load.sent < requests && load.send() {}
        load.notify(&mut transport);
        // As many as are there, and one at least: the rest goes on meanwhile.
        load.take(&transport);
        while load.queue.can_pop() {
            load.take(&transport);
        }
    }
    assert!(load.under_way.is_empty());
    assert!(!load.queue.can_pop(), "an answer to nothing");
    assert!(
        load.notified <= requests,
        "told more often than there were requests"
    );
}

#[test]
fn a_full_ring_is_answered_in_order_until_every_index_has_wrapped() {
    driven(|_, bus| {
        keep_busy(bus, EVENT_IDX | INDIRECT, SIZE, REQUESTS);
    });
}

#[test]
fn a_full_ring_without_events_and_tables_is_answered_in_order() {
    driven(|_, bus| {
        keep_busy(bus, 0, SIZE / 3, REQUESTS / 8);
    });
}

#[test]
fn a_ring_that_runs_empty_each_time_is_woken_each_time() {
    driven(|_, bus| {
        let (mut transport, mut load) = set_up(bus, EVENT_IDX | INDIRECT);
        for _ in 0..2_000 {
            assert!(load.send());
            load.notify(&mut transport);
            load.take(&transport);
        }
    });
}
