//! What the session's thread does: configuration, resets, what is saved.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mdev::Services;
use mdev::device::{AttributeError, Reset};
use mdev::input::InputPort;
use mdev::pci::Class;
use mdev::region_memory::RegionMemory;
use mdev::state::{Fields, StateError};
use virtio::{DeviceType, QueueHandler, Waker};

use super::config::Selection;
use super::intake::Intake;
use super::model::Model;
use super::queues::{Handler, QUEUE_SIZES};
use super::tape::Tape;

/// Virtio's number for input devices.
const INPUT: u16 = 18;

/// One keyboard or tablet.
pub(super) struct Input {
    model: Model,
    selection: Selection,
    tape: Arc<Mutex<Tape>>,
    port: InputPort,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Input {
    /// A device as it is just after power-on.
    pub(super) fn new(model: Model, services: &Services) -> io::Result<Self> {
        let tape = Tape::open(model, &services.keep)?;
        Ok(Self {
            model,
            selection: Selection::default(),
            tape: Arc::new(Mutex::new(tape)),
            port: services.input.clone(),
        })
    }

    fn save_selection(&self, out: &mut Vec<u8>) {
        out.extend([self.selection.what, self.selection.which]);
    }
}

fn load_selection(saved: &mut Fields<'_>) -> Result<Selection, StateError> {
    Ok(Selection {
        what: saved.u8()?,
        which: saved.u8()?,
    })
}

impl DeviceType for Input {
    fn id(&self) -> u16 {
        INPUT
    }

    fn class(&self) -> Class {
        Class {
            base: 0x09, // input
            sub: self.model.class,
            interface: 0,
        }
    }

    fn kind(&self) -> &str {
        self.model.name
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> Vec<u8> {
        self.selection.config(&self.model)
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.selection.write(offset, data);
    }

    fn handler(&mut self) -> Box<dyn QueueHandler> {
        Box::new(Handler(Arc::clone(&self.tape)))
    }

    fn wake_with(&mut self, waker: Waker) {
        self.port.attach(Box::new(Intake {
            model: self.model,
            tape: Arc::clone(&self.tape),
            waker,
        }));
    }

    fn reset(&mut self, _: Reset) {
        self.selection = Selection::default();
        lock(&self.tape).reset();
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn set_attribute(&mut self, name: &str, _: &str) -> Result<bool, AttributeError> {
        Err(AttributeError::Unknown(name.to_owned()))
    }

    fn memories(&self) -> Vec<&RegionMemory> {
        Vec::new()
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.save_selection(out);
        lock(&self.tape).save(out);
    }

    fn restore(&mut self, saved: &mut Fields<'_>) -> Result<(), StateError> {
        let selection = load_selection(saved)?;
        let mut tape = lock(&self.tape);
        let state = tape.parse(saved)?;
        if !saved.is_empty() {
            return Err(StateError::registers("something follows the events"));
        }
        tape.restore(&state);
        self.selection = selection;
        Ok(())
    }

    fn restored(&mut self) {}

    fn checkpoint(&self, out: &mut Vec<u8>) {
        self.save_selection(out);
    }

    fn recall(&mut self, told: &mut Fields<'_>) -> Result<(), StateError> {
        self.selection = load_selection(told)?;
        Ok(())
    }
}
