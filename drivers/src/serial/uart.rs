//! One port: a 16550A with a loop-back plug in its connector.
//!
//! Pure: registers in, registers and an interrupt line out. It does what the data sheet of the
//! PC16550D says. Where that leaves a choice, or the model differs from it:
//!
//! - **The wire has no delay.** A byte written to the transmitter is in the receiver when the
//!   write returns, if the receiver has room. What finds no room waits in the transmitter.
//! - **The transmitter is empty only if a byte would pass.** `THRE` and `TEMT` stay clear while
//!   bytes wait, and also while the receiver is full. So a driver that heeds `THRE` loses
//!   nothing. A byte written to a transmitter that is itself full is dropped.
//! - **With the FIFOs off** receiver and transmitter hold one byte each, by the same rules.
//! - **A character timeout needs no time.** It is pending whenever the receiver has bytes, but
//!   fewer than its trigger level, so that a driver gets the last bytes too.
//! - **`OUT2` does not gate the interrupt.** That is wiring of ISA cards, not part of the chip.
//! - **The plug** joins `TXD` to `RXD`, `RTS` to `CTS`, and `DTR` to `DSR` and `DCD`. Loop-back
//!   within the chip ([`mcr::LOOP`]) joins the modem lines otherwise; data takes the same way.
//! - **A break** comes back as one, unless the chip is in loop-back: that cuts it off from the
//!   plug. Nothing holds a break back, so it alone can overrun the receiver, and is then lost.

use super::fifo::Fifo;
use super::registers::iir::InterruptId;
use super::registers::{Register, fcr, ier, iir, lcr, lsr, mcr, msr};

mod state;
#[cfg(test)]
mod tests;

/// Bytes that receiver and transmitter hold each with the FIFOs on.
pub const FIFO_DEPTH: usize = 16;

/// Bytes that receiver and transmitter hold each with the FIFOs off.
const HOLDING_DEPTH: usize = 1;

/// The modem lines that the plug joins: an output, and the input that follows it.
const PLUG: &[(u8, u8)] = &[
    (mcr::RTS, msr::CTS),
    (mcr::DTR, msr::DSR),
    (mcr::DTR, msr::DCD),
];

/// The modem lines that [`mcr::LOOP`] joins in the place of the plug.
const LOOP_BACK: &[(u8, u8)] = &[
    (mcr::RTS, msr::CTS),
    (mcr::DTR, msr::DSR),
    (mcr::OUT1, msr::RI),
    (mcr::OUT2, msr::DCD),
];

/// One serial port.
#[derive(Clone, Debug)]
pub struct Uart {
    ier: u8,
    /// As last written; 0 with the FIFOs off, which makes the trigger level one byte.
    fcr: u8,
    lcr: u8,
    mcr: u8,
    scr: u8,
    dll: u8,
    dlm: u8,
    /// The low half of the modem status: what has changed since it was last read.
    modem_changes: u8,
    /// A break was lost since the line status was last read.
    has_overrun: bool,
    /// What [`lsr::THRE`] says.
    is_thr_empty: bool,
    /// The transmitter became empty, and no read of the interrupt identification has said so.
    is_thre_pending: bool,
    transmitter: Fifo<u8>,
    /// Full whenever the transmitter is not empty.
    receiver: Fifo<Received>,
}

/// What arrived on the line.
#[derive(Clone, Copy, Debug)]
struct Received {
    byte: u8,
    /// It is a break that the line status has not told of yet.
    is_break: bool,
}

impl Received {
    /// A break arrives as one character of zeros (Line Status Register, bit 4).
    const BREAK: Self = Self {
        byte: 0,
        is_break: true,
    };

    fn data(byte: u8) -> Self {
        Self {
            byte,
            is_break: false,
        }
    }
}

impl Default for Uart {
    fn default() -> Self {
        Self::new()
    }
}

impl Uart {
    /// A port just after reset. The chip leaves scratch and divisor as they were; here all are 0.
    pub fn new() -> Self {
        Self {
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            scr: 0,
            dll: 0,
            dlm: 0,
            modem_changes: 0,
            has_overrun: false,
            is_thr_empty: true,
            is_thre_pending: false,
            transmitter: Fifo::new(HOLDING_DEPTH),
            receiver: Fifo::new(HOLDING_DEPTH),
        }
    }

    /// Reads a register, with the effects that this has on the chip.
    pub fn read(&mut self, register: Register) -> u8 {
        match register {
            Register::Data if self.is_divisor_accessed() => self.dll,
            Register::Data => self.read_rbr(),
            Register::Ier if self.is_divisor_accessed() => self.dlm,
            Register::Ier => self.ier,
            Register::IirFcr => self.read_iir(),
            Register::Lcr => self.lcr,
            Register::Mcr => self.mcr,
            Register::Lsr => self.read_lsr(),
            Register::Msr => self.read_msr(),
            Register::Scr => self.scr,
        }
    }

    /// Writes a register. The status registers ignore it.
    pub fn write(&mut self, register: Register, value: u8) {
        match register {
            Register::Data if self.is_divisor_accessed() => self.dll = value,
            Register::Data => self.write_thr(value),
            Register::Ier if self.is_divisor_accessed() => self.dlm = value,
            Register::Ier => self.write_ier(value),
            Register::IirFcr => self.write_fcr(value),
            Register::Lcr => self.write_lcr(value),
            Register::Mcr => self.write_mcr(value),
            Register::Lsr | Register::Msr => {}
            Register::Scr => self.scr = value,
        }
    }

    /// The level of the interrupt line.
    pub fn interrupt(&self) -> bool {
        self.interrupt_id() != InterruptId::None
    }

    /// The most urgent interrupt that is both enabled and pending: the order is
    /// that of the data sheet's "Interrupt Control Functions".
    fn interrupt_id(&self) -> InterruptId {
        let is_enabled = |interrupt| self.ier & interrupt != 0;
        if is_enabled(ier::RLSI) && self.line_errors() != 0 {
            InterruptId::LineStatus
        } else if is_enabled(ier::RDI) && self.receiver.len() >= fcr::receive_trigger(self.fcr) {
            InterruptId::ReceivedData
        } else if is_enabled(ier::RDI) && !self.receiver.is_empty() {
            InterruptId::CharacterTimeout
        } else if is_enabled(ier::THRI) && self.is_thre_pending {
            InterruptId::TransmitterEmpty
        } else if is_enabled(ier::MSI) && self.modem_changes != 0 {
            InterruptId::ModemStatus
        } else {
            InterruptId::None
        }
    }

    /// Takes the oldest byte; 0 if there is none.
    fn read_rbr(&mut self) -> u8 {
        let received = self.receiver.pop();
        self.transfer();
        received.map_or(0, |received| received.byte)
    }

    fn write_thr(&mut self, byte: u8) {
        // A full transmitter drops the byte: the driver did not wait for THRE.
        let _ = self.transmitter.push(byte);
        // The byte may leave at once, but the transmitter was not empty for that moment.
        self.is_thr_empty = false;
        self.transfer();
    }

    /// Moves bytes along the wire while the receiver has room, and notes whether the transmitter
    /// is now empty. Called after each change to what either of them holds.
    fn transfer(&mut self) {
        while !self.receiver.is_full()
            && let Some(byte) = self.transmitter.pop()
        {
            // Cannot fail: there is room.
            let _ = self.receiver.push(Received::data(byte));
        }
        let was_thr_empty = self.is_thr_empty;
        self.is_thr_empty = self.transmitter.is_empty() && !self.receiver.is_full();
        if !self.is_thr_empty {
            self.is_thre_pending = false;
        } else if !was_thr_empty {
            self.is_thre_pending = true;
        }
    }

    /// Enabling the interrupt of an empty transmitter makes it pending, even if it was told of
    /// before. Drivers start to transmit by this.
    fn write_ier(&mut self, value: u8) {
        let enabled = value & !self.ier;
        if enabled & ier::THRI != 0 && self.is_thr_empty {
            self.is_thre_pending = true;
        }
        self.ier = value & ier::ALL;
    }

    /// Reading clears the transmitter's interrupt, but only if it is the one that is reported.
    fn read_iir(&mut self) -> u8 {
        let id = self.interrupt_id();
        if id == InterruptId::TransmitterEmpty {
            self.is_thre_pending = false;
        }
        id as u8 | bits_if(self.are_fifos_enabled(), iir::FIFOS_ENABLED)
    }

    fn write_fcr(&mut self, value: u8) {
        let enable = value & fcr::ENABLE_FIFO != 0;
        let value = if enable { value } else { 0 };
        if enable != self.are_fifos_enabled() {
            let depth = if enable { FIFO_DEPTH } else { HOLDING_DEPTH };
            self.transmitter = Fifo::new(depth);
            self.receiver = Fifo::new(depth);
        }
        if value & fcr::CLEAR_XMIT != 0 {
            self.transmitter.clear();
        }
        if value & fcr::CLEAR_RCVR != 0 {
            self.receiver.clear();
        }
        self.fcr = value;
        self.transfer();
    }

    fn write_lcr(&mut self, value: u8) {
        let set = value & !self.lcr;
        self.lcr = value;
        if set & lcr::SBC != 0 && !self.is_looped_back() {
            self.has_overrun |= self.receiver.push(Received::BREAK).is_err();
            self.transfer();
        }
    }

    fn write_mcr(&mut self, value: u8) {
        let before = self.modem_inputs();
        self.mcr = value & mcr::ALL;
        let now = self.modem_inputs();
        let changed = before ^ now;
        self.modem_changes |= bits_if(changed & msr::CTS != 0, msr::DCTS)
            | bits_if(changed & msr::DSR != 0, msr::DDSR)
            | bits_if(before & !now & msr::RI != 0, msr::TERI)
            | bits_if(changed & msr::DCD != 0, msr::DDCD);
    }

    /// Reading clears the errors that it reports.
    fn read_lsr(&mut self) -> u8 {
        let has_break = self.receiver.iter().any(|received| received.is_break);
        let status = self.line_errors()
            | bits_if(!self.receiver.is_empty(), lsr::DR)
            | bits_if(self.is_thr_empty, lsr::THRE | lsr::TEMT)
            | bits_if(self.are_fifos_enabled() && has_break, lsr::FIFOE);
        self.has_overrun = false;
        if let Some(oldest) = self.receiver.front_mut() {
            oldest.is_break = false;
        }
        status
    }

    /// Reading clears the changes that it reports.
    fn read_msr(&mut self) -> u8 {
        let status = self.modem_inputs() | self.modem_changes;
        self.modem_changes = 0;
        status
    }

    /// The bits of the line status that interrupt. A break counts once its character is the
    /// oldest.
    fn line_errors(&self) -> u8 {
        let is_break = self.receiver.front().is_some_and(|oldest| oldest.is_break);
        bits_if(self.has_overrun, lsr::OE) | bits_if(is_break, lsr::BI)
    }

    /// The high half of the modem status.
    fn modem_inputs(&self) -> u8 {
        let wires = if self.is_looped_back() {
            LOOP_BACK
        } else {
            PLUG
        };
        wires.iter().fold(0, |inputs, &(output, input)| {
            inputs | bits_if(self.mcr & output != 0, input)
        })
    }

    fn is_divisor_accessed(&self) -> bool {
        self.lcr & lcr::DLAB != 0
    }

    fn are_fifos_enabled(&self) -> bool {
        self.fcr & fcr::ENABLE_FIFO != 0
    }

    fn is_looped_back(&self) -> bool {
        self.mcr & mcr::LOOP != 0
    }
}

/// `bits` if the condition holds, else 0.
fn bits_if(condition: bool, bits: u8) -> u8 {
    if condition { bits } else { 0 }
}
