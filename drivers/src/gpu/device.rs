//! What the session's thread does: configuration, attributes, resets.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mdev::Services;
use mdev::device::{AttributeError, Reset, ResizeError};
use mdev::keep::Keep;
use mdev::pci::Class;
use mdev::region_memory::RegionMemory;
use mdev::scanout::{Rect, ScanoutPublisher};
use mdev::state::{Fields, StateError};
use virtio::{Cancelled, Chain, DeviceType, QueueHandler, Waker};

use super::adapter::{Adapter, CONTROL};
use super::cursors::Cursors;
use super::display::Display;
use super::journal::Journal;
use super::model::{BLOB, HEADS, MAX_HEADS, MODE, Model};
use super::places::Places;
use super::protocol::{Reader, feature};
use super::table::Table;
use super::vram::Vram;
use crate::switch;

/// Virtio's number for a GPU.
const GPU: u16 = 16;

/// The control queue and the cursor's.
const QUEUE_SIZES: [u16; 2] = [256, 16];

/// Where the configuration takes note that events were heard of.
const EVENTS_CLEAR: usize = 4;

/// One GPU.
pub(super) struct Gpu {
    model: Model,
    has_blobs: bool,
    display: Arc<Mutex<Display>>,
    adapter: Arc<Mutex<Adapter>>,
    /// As the adapter's, for whoever saves it.
    memory: Option<Arc<RegionMemory>>,
    keep: Keep,
    scanout: ScanoutPublisher,
    is_asked: Arc<AtomicBool>,
}

/// The end of it on the thread that serves the queues.
struct Handler {
    adapter: Arc<Mutex<Adapter>>,
    /// Somebody looks.
    is_asked: Arc<AtomicBool>,
}

impl QueueHandler for Handler {
    fn attend(&mut self) {
        if self.is_asked.swap(false, Ordering::AcqRel) {
            lock(&self.adapter).catch_up();
        }
    }

    fn handle(
        &mut self,
        queue: u16,
        position: u64,
        chain: &mut Chain<'_>,
    ) -> Result<u32, Cancelled> {
        lock(&self.adapter).handle(queue, position, chain)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// A GPU as it is just after power-on.
    pub(super) fn new(
        model: Model,
        display: Display,
        has_blobs: bool,
        services: &Services,
    ) -> io::Result<Self> {
        let display = Arc::new(Mutex::new(display));
        let vram = Vram::open(Places::room(model.budget), &services.keep)?;
        let memory = Arc::clone(vram.memory());
        let scanout = &services.scanout;
        scanout.set_heads(model.heads as u32);
        let scanouts: Vec<_> = (0..model.heads as u32)
            .filter_map(|head| scanout.head(head))
            .inspect(ScanoutPublisher::promise_drawn)
            .collect();
        let adapter = Adapter {
            model,
            has_blobs,
            table: Table::new(model.budget, model.heads),
            vram: Some(vram),
            cursors: Cursors::open(model.heads, &services.keep)?,
            journal: Journal::open(&services.keep)?,
            applied: None,
            stale: vec![false; model.heads],
            late: vec![Rect::default(); model.heads],
            memory: services.memory.clone(),
            scanouts,
            display: Arc::clone(&display),
        };
        Ok(Self {
            model,
            has_blobs,
            display,
            adapter: Arc::new(Mutex::new(adapter)),
            memory: Some(memory),
            keep: services.keep.clone(),
            scanout: services.scanout.clone(),
            is_asked: Arc::default(),
        })
    }

    /// Takes fresh memory for the next client. If there is none to be had, that client gets no
    /// resources, and never the memory of the last one.
    fn renew_vram(&mut self) {
        let room = Places::room(self.model.budget);
        let vram = Vram::open(room, &self.keep)
            .inspect_err(|error| tracing::error!(%error, "cannot allocate fresh video memory"))
            .ok();
        self.memory = vram.as_ref().map(|vram| Arc::clone(vram.memory()));
        lock(&self.adapter).vram = vram;
    }
}

impl DeviceType for Gpu {
    fn id(&self) -> u16 {
        GPU
    }

    fn class(&self) -> Class {
        Class {
            base: 0x03, // display
            sub: 0x80,  // other: there is no VGA
            interface: 0,
        }
    }

    fn kind(&self) -> &str {
        self.model.name
    }

    fn features(&self) -> u64 {
        let blobs = if self.has_blobs {
            feature::RESOURCE_BLOB
        } else {
            0
        };
        feature::EDID | feature::RESOURCE_UUID | blobs
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    /// `struct virtio_gpu_config`.
    fn config(&self) -> Vec<u8> {
        let words = [lock(&self.display).events, 0, self.model.heads as u32, 0];
        words.map(u32::to_le_bytes).concat()
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        if offset == EVENTS_CLEAR {
            lock(&self.display).events &= !Reader(data).u32();
        }
    }

    fn handler(&mut self) -> Box<dyn QueueHandler> {
        Box::new(Handler {
            adapter: Arc::clone(&self.adapter),
            is_asked: Arc::clone(&self.is_asked),
        })
    }

    fn wake_with(&mut self, waker: Waker) {
        let is_asked = Arc::clone(&self.is_asked);
        self.scanout.ask_with(move || {
            is_asked.store(true, Ordering::Release);
            waker.wake(CONTROL);
        });
    }

    fn settle(&mut self) {
        lock(&self.adapter).catch_up();
    }

    fn reset(&mut self, cause: Reset) {
        let mut display = lock(&self.display);
        display.events = 0;
        if cause == Reset::Close {
            display.wishes = [None; MAX_HEADS];
        }
        drop(display);
        let mut adapter = lock(&self.adapter);
        if cause == Reset::Close {
            // What stays is what was drawn last.
            adapter.catch_up();
        }
        adapter.empty();
        if cause == Reset::Close {
            // The pictures stay where they are.
            drop(adapter);
            self.renew_vram();
            return;
        }
        adapter.scanouts.iter().for_each(ScanoutPublisher::blank);
        if let Some(vram) = &mut adapter.vram {
            let len = vram.memory().len();
            vram.clear(0, len);
        }
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let display = lock(&self.display);
        vec![
            (MODE, display.modes(&self.model)),
            (HEADS, display.heads.to_string()),
            (BLOB, switch::word(self.has_blobs)),
        ]
    }

    fn set_attribute(&mut self, name: &str, value: &str) -> Result<bool, AttributeError> {
        match name {
            MODE => {
                let modes = self.model.parse_modes(value)?;
                Ok(lock(&self.display).set_modes(modes))
            }
            HEADS => {
                let heads = self.model.parse_heads(value)?;
                Ok(lock(&self.display).set_heads(heads))
            }
            BLOB => {
                switch::parse(name, value)?;
                Err(AttributeError::Fixed(name.to_owned()))
            }
            _ => Err(AttributeError::Unknown(name.to_owned())),
        }
    }

    fn resize(&mut self, head: u32, width: u32, height: u32) -> Result<bool, ResizeError> {
        lock(&self.display).wish(&self.model, head, width, height)
    }

    fn memories(&self) -> Vec<&RegionMemory> {
        self.memory.iter().map(AsRef::as_ref).collect()
    }

    /// Without video memory there is nothing that another device could go on with.
    fn is_whole(&self) -> bool {
        self.memory.is_some()
    }

    fn save(&self, out: &mut Vec<u8>) {
        lock(&self.display).save(out);
        lock(&self.adapter).save(out);
    }

    fn restore(&mut self, saved: &mut Fields<'_>) -> Result<(), StateError> {
        let display = Display::load(&self.model, saved)?;
        lock(&self.adapter).restore(saved)?;
        *lock(&self.display) = display;
        Ok(())
    }

    fn restored(&mut self) {
        lock(&self.adapter).show();
    }

    fn checkpoint(&self, out: &mut Vec<u8>) {
        lock(&self.display).save(out);
    }

    fn recall(&mut self, told: &mut Fields<'_>) -> Result<(), StateError> {
        let display = Display::load(&self.model, told)?;
        lock(&self.adapter).recall()?;
        *lock(&self.display) = display;
        Ok(())
    }
}
