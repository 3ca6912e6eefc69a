//! The registers of a 16550A and their bits.
//!
//! What each does is in National Semiconductor's data sheet of the PC16550D, in the section of the
//! register's name. Bits are called as in `linux/serial_reg.h`, without its prefixes.

/// A place among the eight addresses of a port.
///
/// Some places are several registers: which one is reached depends on the direction of the
/// access and on [`lcr::DLAB`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// Receiver Buffer when read, Transmitter Holding Register when written; with DLAB, the low
    /// byte of the Divisor Latch.
    Data,
    /// Interrupt Enable Register; with DLAB, the high byte of the Divisor Latch.
    Ier,
    /// Interrupt Identification Register when read, FIFO Control Register when written.
    IirFcr,
    /// Line Control Register.
    Lcr,
    /// Modem Control Register.
    Mcr,
    /// Line Status Register.
    Lsr,
    /// Modem Status Register.
    Msr,
    /// Scratch Register.
    Scr,
}

impl Register {
    /// All registers, in the order of their addresses.
    pub const ALL: [Self; 8] = [
        Self::Data,
        Self::Ier,
        Self::IirFcr,
        Self::Lcr,
        Self::Mcr,
        Self::Lsr,
        Self::Msr,
        Self::Scr,
    ];
}

/// Interrupt Enable Register.
pub mod ier {
    /// Received data available, and character timeout.
    pub const RDI: u8 = 1 << 0;
    /// Transmitter holding register empty.
    pub const THRI: u8 = 1 << 1;
    /// Receiver line status.
    pub const RLSI: u8 = 1 << 2;
    /// Modem status.
    pub const MSI: u8 = 1 << 3;
    /// The bits that exist; the others read as 0.
    pub const ALL: u8 = RDI | THRI | RLSI | MSI;
}

/// Interrupt Identification Register.
pub mod iir {
    /// Both bits say that the FIFOs are on. One alone would mean the broken FIFOs of a 16550.
    pub const FIFOS_ENABLED: u8 = 0b11 << 6;

    /// The most urgent interrupt that is pending: the low half of the register.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(u8)]
    pub enum InterruptId {
        /// Nothing is pending.
        None = 0b0001,
        /// An error or a break: [`super::lsr::OE`], [`super::lsr::BI`].
        LineStatus = 0b0110,
        /// The receiver has reached its trigger level.
        ReceivedData = 0b0100,
        /// The receiver has bytes, but fewer than its trigger level.
        CharacterTimeout = 0b1100,
        /// The transmitter has become empty.
        TransmitterEmpty = 0b0010,
        /// A modem line has changed.
        ModemStatus = 0b0000,
    }
}

/// FIFO Control Register.
pub mod fcr {
    /// Both FIFOs are on. Without it no other bit of the register counts.
    pub const ENABLE_FIFO: u8 = 1 << 0;
    /// Empties the receive FIFO.
    pub const CLEAR_RCVR: u8 = 1 << 1;
    /// Empties the transmit FIFO.
    pub const CLEAR_XMIT: u8 = 1 << 2;
    /// Selects the trigger level: see [`receive_trigger`].
    pub const TRIGGER_MASK: u8 = 0b11 << 6;

    /// How many bytes the receive FIFO holds when it interrupts.
    pub fn receive_trigger(fcr: u8) -> usize {
        match (fcr & TRIGGER_MASK) >> TRIGGER_MASK.trailing_zeros() {
            0b00 => 1,
            0b01 => 4,
            0b10 => 8,
            _ => 14,
        }
    }
}

/// Line Control Register. Word length, stop bits and parity are kept, unused.
pub mod lcr {
    /// Set Break Control: holds the line in the spacing state.
    pub const SBC: u8 = 1 << 6;
    /// Divisor Latch Access Bit.
    pub const DLAB: u8 = 1 << 7;
}

/// Modem Control Register.
pub mod mcr {
    /// Data Terminal Ready.
    pub const DTR: u8 = 1 << 0;
    /// Request To Send.
    pub const RTS: u8 = 1 << 1;
    /// An output for any use.
    pub const OUT1: u8 = 1 << 2;
    /// An output for any use; ISA cards let their interrupt through with it.
    pub const OUT2: u8 = 1 << 3;
    /// Loop-back within the chip.
    pub const LOOP: u8 = 1 << 4;
    /// The bits that exist; the others read as 0.
    pub const ALL: u8 = DTR | RTS | OUT1 | OUT2 | LOOP;
}

/// Line Status Register.
pub mod lsr {
    /// Data Ready.
    pub const DR: u8 = 1 << 0;
    /// Overrun Error.
    pub const OE: u8 = 1 << 1;
    /// Break Interrupt: the oldest byte of the receiver stands for a break.
    pub const BI: u8 = 1 << 4;
    /// Transmitter Holding Register Empty: as many bytes may be written as the transmitter holds.
    pub const THRE: u8 = 1 << 5;
    /// Transmitter Empty.
    pub const TEMT: u8 = 1 << 6;
    /// There is an error or a break somewhere in the receive FIFO.
    pub const FIFOE: u8 = 1 << 7;
}

/// Modem Status Register.
pub mod msr {
    /// Clear To Send has changed.
    pub const DCTS: u8 = 1 << 0;
    /// Data Set Ready has changed.
    pub const DDSR: u8 = 1 << 1;
    /// Trailing Edge of Ring Indicator.
    pub const TERI: u8 = 1 << 2;
    /// Data Carrier Detect has changed.
    pub const DDCD: u8 = 1 << 3;
    /// Clear To Send.
    pub const CTS: u8 = 1 << 4;
    /// Data Set Ready.
    pub const DSR: u8 = 1 << 5;
    /// Ring Indicator.
    pub const RI: u8 = 1 << 6;
    /// Data Carrier Detect.
    pub const DCD: u8 = 1 << 7;
}
