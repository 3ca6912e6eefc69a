//! The causes that are pending, and their way to the guest.

use std::sync::{Mutex, MutexGuard, PoisonError};

use mdev::irq::{Interrupts, IrqIndex};

/// The one vector of MSI.
const VECTOR: u32 = 0;

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
            self.interrupts.trigger(IrqIndex::Msi, VECTOR);
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

    fn set_level(&self, pending: &mut Pending, asserted: bool) {
        pending.asserted = asserted;
        self.interrupts.set_intx(asserted);
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
