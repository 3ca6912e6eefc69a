//! The registers of BAR0 and their bits: `docs/specs/edu.rst` of QEMU, "MMIO area spec".

/// Bytes of BAR0 ("PCI specs"). Nearly all of it is empty.
pub const BAR_SIZE: u32 = 1 << 20;

/// A register, and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Register {
    /// Read only: [`IDENTIFICATION`].
    Identification = 0x00,
    /// Reads the inversion of what was written.
    Liveness = 0x04,
    /// A number is written, and its factorial read once [`status::COMPUTING`] is clear.
    Factorial = 0x08,
    /// See [`status`].
    Status = 0x20,
    /// Read only: the causes that are pending.
    InterruptStatus = 0x24,
    /// Write only: adds causes, and interrupts.
    InterruptRaise = 0x60,
    /// Write only: takes causes away.
    InterruptAcknowledge = 0x64,
    /// Where a transfer reads.
    DmaSource = 0x80,
    /// Where a transfer writes.
    DmaDestination = 0x88,
    /// Bytes of a transfer.
    DmaCount = 0x90,
    /// See [`command`].
    DmaCommand = 0x98,
    /// Read only, and not in QEMU's device: the errno of the last transfer that has ended, 0 for
    /// success.
    DmaError = 0xa0,
    /// Read only, and not in QEMU's device: how many transfers have failed since the last reset.
    DmaFailures = 0xa8,
    /// Write only, and not in QEMU's device: a write of anything gives the last [`command`] again.
    /// A client may write it by an eventfd.
    DmaDoorbell = 0xb0,
    /// Not in QEMU's device, and only there if the attribute `spin-register` is on. See [`spin`].
    Spin = 0xc8,
    /// The same, read only: how many spins have ended since the last reset. What takes over from a
    /// process that died may end one once more.
    SpinsEnded = 0xd0,
}

/// Not in QEMU's device: a write of anything there ends the process, if the attribute
/// `panic-register` is on. Else there is no register.
pub const PANIC: u64 = 0xc0;

/// From here on registers have eight bytes, and take accesses of four to their low half.
const FIRST_WIDE: u64 = 0x80;

impl Register {
    /// All registers, in order of their places.
    pub const ALL: [Self; 16] = [
        Self::Identification,
        Self::Liveness,
        Self::Factorial,
        Self::Status,
        Self::InterruptStatus,
        Self::InterruptRaise,
        Self::InterruptAcknowledge,
        Self::DmaSource,
        Self::DmaDestination,
        Self::DmaCount,
        Self::DmaCommand,
        Self::DmaError,
        Self::DmaFailures,
        Self::DmaDoorbell,
        Self::Spin,
        Self::SpinsEnded,
    ];

    /// The register of an access of `len` bytes; `None` if none takes such an access there.
    pub fn find(offset: u64, len: usize) -> Option<Self> {
        let takes = len == 4 || (len == 8 && offset >= FIRST_WIDE);
        let mut registers = Self::ALL.into_iter().filter(|_| takes);
        registers.find(|&register| register as u64 == offset)
    }
}

/// Version 1.0 of the card that QEMU's device resembles; "edu", as near as digits come to it.
pub const IDENTIFICATION: u32 = 0x0100_00ed;

/// Status register.
pub mod status {
    /// Read only: a factorial is being computed. What is written to it meanwhile is dropped.
    pub const COMPUTING: u32 = 0x01;
    /// Interrupt by [`super::cause::FACTORIAL`] once that is done. QEMU's code: `IRQFACT`.
    pub const INTERRUPT_AFTER_FACTORIAL: u32 = 0x80;
}

/// DMA command register. While a transfer runs, nothing that is written to any of the four DMA
/// registers has an effect.
pub mod command {
    /// Starts a transfer; reads 1 until it has ended. A command without it is dropped.
    pub const START: u64 = 0x01;
    /// From the buffer to RAM; else from RAM to the buffer.
    pub const TO_RAM: u64 = 0x02;
    /// Interrupt by [`super::cause::DMA`] once it has ended.
    pub const INTERRUPT: u64 = 0x04;
}

/// Spin register: a write has the engine be busy, a read tells how many spins have not ended.
pub mod spin {
    /// For so many microseconds; [`LONGEST`] if that is more.
    pub const MICROSECONDS: u32 = 0x3fff_ffff;
    /// As the display class: it is short, and somebody looks at it.
    pub const DISPLAY: u32 = 0x4000_0000;
    /// Interrupt by [`super::cause::SPIN`] once it has ended.
    pub const INTERRUPT: u32 = 0x8000_0000;
    /// Longest spin in microseconds.
    pub const LONGEST: u32 = 10_000_000;
    /// So many wait or run; what is written beyond that is dropped.
    pub const MOST: usize = 16;
}

/// Causes of interrupts that the device itself raises. A guest may raise any others.
pub mod cause {
    /// A factorial is done.
    pub const FACTORIAL: u32 = 0x001;
    /// A transfer has ended.
    pub const DMA: u32 = 0x100;
    /// A spin has ended.
    pub const SPIN: u32 = 0x200;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_registers_from_0x80_on_take_eight_bytes() {
        for offset in 0..0x200 {
            let register = Register::ALL.into_iter().find(|&r| r as u64 == offset);
            let wide = register.filter(|_| offset >= 0x80);
            assert_eq!(Register::find(offset, 4), register, "{offset:#x}");
            assert_eq!(Register::find(offset, 8), wide, "{offset:#x}");
            for len in [0, 1, 2, 3, 5, 6, 7, 9, 16] {
                assert_eq!(Register::find(offset, len), None, "{len} at {offset:#x}");
            }
        }
        assert_eq!(Register::find(u64::MAX, 4), None);
    }
}
