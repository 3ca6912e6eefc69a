//! What the session's thread does: configuration, attributes, resets.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mdev::Services;
use mdev::device::{AttributeError, Reset};
use mdev::keep::Keep;
use mdev::pci::Class;
use mdev::region_memory::RegionMemory;
use mdev::state::{Fields, StateError};
use virtio::{Cancelled, Chain, DeviceType, QueueHandler};

use super::adapter::{Adapter, Display};
use super::journal::Journal;
use super::model::{MODE, Model};
use super::places::Places;
use super::protocol::{EVENT_DISPLAY, FEATURE_EDID, Reader};
use super::table::Table;
use super::vram::Vram;
use crate::monitor::Mode;

/// Virtio's number for a GPU.
const GPU: u16 = 16;

/// The control queue and the cursor's.
const QUEUE_SIZES: [u16; 2] = [256, 16];

/// Where the configuration takes note that events were heard of.
const EVENTS_CLEAR: usize = 4;

/// One GPU.
pub(super) struct Gpu {
    pub(super) model: Model,
    pub(super) heads: usize,
    pub(super) display: Arc<Mutex<Display>>,
    pub(super) adapter: Arc<Mutex<Adapter>>,
    /// As the adapter's, for whoever saves it.
    pub(super) memory: Option<Arc<RegionMemory>>,
    keep: Keep,
}

/// The end of it on the thread that serves the queues.
struct Handler(Arc<Mutex<Adapter>>);

impl QueueHandler for Handler {
    fn handle(
        &mut self,
        queue: u16,
        position: u64,
        chain: &mut Chain<'_>,
    ) -> Result<u32, Cancelled> {
        lock(&self.0).handle(queue, position, chain)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// A GPU as it is just after power-on.
    pub(super) fn new(model: Model, mode: Mode, services: &Services) -> io::Result<Self> {
        let heads = 1;
        let display = Arc::new(Mutex::new(Display { mode, events: 0 }));
        let vram = Vram::open(Places::room(model.budget), &services.keep)?;
        let memory = Arc::clone(vram.memory());
        let adapter = Adapter {
            model,
            table: Table::new(model.budget, heads),
            vram: Some(vram),
            journal: Journal::open(&services.keep)?,
            applied: None,
            scanout: services.scanout.clone(),
            display: Arc::clone(&display),
        };
        Ok(Self {
            model,
            heads,
            display,
            adapter: Arc::new(Mutex::new(adapter)),
            memory: Some(memory),
            keep: services.keep.clone(),
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
        FEATURE_EDID
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    /// `struct virtio_gpu_config`.
    fn config(&self) -> Vec<u8> {
        let words = [lock(&self.display).events, 0, self.heads as u32, 0];
        words.map(u32::to_le_bytes).concat()
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        if offset == EVENTS_CLEAR {
            lock(&self.display).events &= !Reader(data).u32();
        }
    }

    fn handler(&mut self) -> Box<dyn QueueHandler> {
        Box::new(Handler(Arc::clone(&self.adapter)))
    }

    fn reset(&mut self, cause: Reset) {
        lock(&self.display).events = 0;
        let mut adapter = lock(&self.adapter);
        adapter.empty();
        if cause == Reset::Close {
            // The picture stays where it is.
            drop(adapter);
            self.renew_vram();
            return;
        }
        adapter.scanout.blank();
        if let Some(vram) = &mut adapter.vram {
            let len = vram.memory().len();
            vram.clear(0, len);
        }
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![(MODE, lock(&self.display).mode.to_string())]
    }

    fn set_attribute(&mut self, name: &str, value: &str) -> Result<bool, AttributeError> {
        if name != MODE {
            return Err(AttributeError::Unknown(name.to_owned()));
        }
        let mode = self.model.parse_mode(value)?;
        let mut display = lock(&self.display);
        let has_changed = display.mode != mode;
        display.mode = mode;
        if has_changed {
            display.events |= EVENT_DISPLAY;
        }
        Ok(has_changed)
    }

    fn memories(&self) -> Vec<&RegionMemory> {
        self.memory.iter().map(AsRef::as_ref).collect()
    }

    /// Without video memory there is nothing that another device could go on with.
    fn is_whole(&self) -> bool {
        self.memory.is_some()
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.save_display(out);
        lock(&self.adapter).save(out);
    }

    fn restore(&mut self, saved: &mut Fields<'_>) -> Result<(), StateError> {
        let display = self.load_display(saved)?;
        lock(&self.adapter).restore(saved)?;
        *lock(&self.display) = display;
        Ok(())
    }

    fn restored(&mut self) {
        lock(&self.adapter).show();
    }

    fn checkpoint(&self, out: &mut Vec<u8>) {
        self.save_display(out);
    }

    fn recall(&mut self, told: &mut Fields<'_>) -> Result<(), StateError> {
        let display = self.load_display(told)?;
        lock(&self.adapter).recall()?;
        *lock(&self.display) = display;
        Ok(())
    }
}
