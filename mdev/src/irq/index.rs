//! Which interrupts a PCI device has.

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
