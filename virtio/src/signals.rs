//! What the device tells its driver without being asked: interrupts, and that it needs a reset.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mdev::irq::{Interrupts, IrqIndex};

/// No vector; `VIRTIO_MSI_NO_VECTOR`.
pub(crate) const NO_VECTOR: u16 = 0xffff;

/// Bits of the ISR status (Virtio 1.2, section 4.1.4.5).
pub(crate) mod isr {
    pub(crate) const QUEUE: u8 = 1;
    pub(crate) const CONFIG: u8 = 2;
}

/// The interrupts of one device, for the session's thread and that of the queues.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupts: Interrupts,
    /// The ISR status; the pin is asserted while it is not 0. Locked while the pin changes.
    isr: Mutex<u8>,
    /// For changes of the configuration.
    config_vector: AtomicU16,
    needs_reset: AtomicBool,
}

impl Signals {
    pub(crate) fn new(interrupts: Interrupts) -> Self {
        Self {
            interrupts,
            isr: Mutex::default(),
            config_vector: AtomicU16::new(NO_VECTOR),
            needs_reset: AtomicBool::default(),
        }
    }

    fn isr(&self) -> MutexGuard<'_, u8> {
        self.isr.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By MSI-X, if the guest has set that up; else by the pin.
    fn signal(&self, vector: u16, cause: u8) {
        if self.interrupts.is_enabled(IrqIndex::Msix) {
            self.interrupts.trigger(IrqIndex::Msix, vector.into());
            return;
        }
        let mut isr = self.isr();
        *isr |= cause;
        self.interrupts.set_intx(true);
    }

    /// Chains of a queue with this vector were used.
    pub(crate) fn queue(&self, vector: u16) {
        self.signal(vector, isr::QUEUE);
    }

    /// The configuration has changed.
    pub(crate) fn config(&self) {
        self.signal(self.config_vector.load(Ordering::Relaxed), isr::CONFIG);
    }

    pub(crate) fn set_config_vector(&self, vector: u16) {
        self.config_vector.store(vector, Ordering::Relaxed);
    }

    /// The ISR status. To read it is to acknowledge it.
    pub(crate) fn take_isr(&self) -> u8 {
        let mut isr = self.isr();
        self.interrupts.set_intx(false);
        std::mem::take(&mut *isr)
    }

    /// The ISR status, for who only looks.
    pub(crate) fn look_at_isr(&self) -> u8 {
        *self.isr()
    }

    /// The driver has done what leaves the device unable to go on.
    pub(crate) fn need_reset(&self) {
        if !self.needs_reset.swap(true, Ordering::AcqRel) {
            self.config();
        }
    }

    pub(crate) fn needs_reset(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire)
    }

    /// As after a reset, or as saved.
    pub(crate) fn restore(&self, isr: u8, needs_reset: bool) {
        let mut current = self.isr();
        *current = isr;
        self.interrupts.set_intx(isr != 0);
        self.needs_reset.store(needs_reset, Ordering::Release);
    }
}
