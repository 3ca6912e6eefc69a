//! The causes that are pending, and their way to the guest.

use std::sync::{Mutex, MutexGuard, PoisonError};

use mdev::irq::{Interrupts, IrqIndex};

use super::registers::cause;

/// The vector of MSI for a cause, of those devices that have several.
fn vector_of(causes: u32) -> u32 {
    match causes {
        cause::FACTORIAL => 0,
        cause::DMA => 1,
        _ => 2,
    }
}

/// The interrupt of the device, for the session's thread and the engine's.
#[derive(Debug)]
pub(super) struct Interrupt {
    interrupts: Interrupts,
    /// Locked for as long as the guest is told, so that it hears of changes in their order.
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    causes: u32,
    /// The level of INTA.
    asserted: bool,
}

impl Interrupt {
    pub(super) fn new(interrupts: Interrupts) -> Self {
        Self {
            interrupts,
            pending: Mutex::default(),
        }
    }

    /// Adds causes, and interrupts if any is pending then: by MSI, a message for each call, if the
    /// guest has set that up; else by INTA, until every cause is acknowledged.
    pub(super) fn raise(&self, causes: u32) {
        let mut pending = self.pending();
        pending.causes |= causes;
        if pending.causes == 0 {
            return;
        }
        if self.interrupts.is_enabled(IrqIndex::Msi) {
            let own = vector_of(causes);
            let vector = match self.interrupts.is_set(IrqIndex::Msi, own) {
                true => own,
                false => 0,
            };
            self.interrupts.trigger(IrqIndex::Msi, vector);
        } else {
            self.set_level(&mut pending, true);
        }
    }

    /// Takes causes away, and lowers INTA with the last.
    pub(super) fn acknowledge(&self, causes: u32) {
        let mut pending = self.pending();
        pending.causes &= !causes;
        if pending.causes == 0 {
            self.set_level(&mut pending, false);
        }
    }

    /// The causes that are pending.
    pub(super) fn causes(&self) -> u32 {
        self.pending().causes
    }

    /// Whether INTA is asserted.
    pub(super) fn is_asserted(&self) -> bool {
        self.pending().asserted
    }

    /// Takes a state that was saved.
    pub(super) fn restore(&self, causes: u32, asserted: bool) {
        let mut pending = self.pending();
        pending.causes = causes;
        self.set_level(&mut pending, asserted);
    }

    fn set_level(&self, pending: &mut Pending, asserted: bool) {
        pending.asserted = asserted;
        self.interrupts.set_intx(asserted);
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
