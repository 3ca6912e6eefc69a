//! What stock drivers do with a 16550A: the probe of Linux's 8250 driver, and its interrupt
//! handler. Ours in words; the steps and their order are theirs.

use super::*;

/// `UART_LCR_CONF_MODE_A` and `_B`: DLAB set, and a value that later chips take for a key.
const CONF_MODE_A: u8 = 0x80;
const CONF_MODE_B: u8 = 0xbf;
/// The enhanced feature register of later chips lies where FCR and IIR are.
const EFR: Register = Register::IirFcr;
/// `UART_FCR7_64BYTE` and `UART_IIR_64BYTE_FIFO` of a 16750.
const LONG_FIFO: u8 = 1 << 5;

fn probed() -> Uart {
    after(&[(LCR, CONF_MODE_B), (EFR, 0), (LCR, 0), (FCR, 0x01)])
}

#[test]
fn the_probe_finds_a_port_by_its_interrupt_enable_bits() {
    let mut uart = Uart::new();
    for value in [0x00, 0x0f] {
        uart.write(IER, value);
        assert_eq!(uart.read(IER), value);
    }
}

#[test]
fn the_probe_finds_the_modem_lines_looped_back() {
    let mut uart = after(&[(MCR, mcr::LOOP | 0x0a)]);
    assert_eq!(uart.read(MSR) & 0xf0, 0x90);
}

#[test]
fn the_probe_finds_a_16550a() {
    let mut uart = probed();
    assert_eq!(uart.read(IIR) & 0xc0, 0xc0);
    for value in [0xa5, 0x5a] {
        uart.write(SCR, value);
        assert_eq!(uart.read(SCR), value, "an 8250 has no scratch register");
    }
}

#[test]
fn the_probe_does_not_find_a_16650_or_16850() {
    for lcr in [CONF_MODE_A, CONF_MODE_B] {
        let mut uart = probed();
        uart.write(LCR, lcr);
        assert_ne!(uart.read(EFR), 0, "LCR {lcr:#x}");
    }
}

#[test]
fn the_probe_does_not_find_a_16750() {
    for lcr in [0, CONF_MODE_A] {
        let mut uart = probed();
        uart.write(LCR, lcr);
        uart.write(FCR, fcr::ENABLE_FIFO | LONG_FIFO);
        assert_eq!(uart.read(IIR) & LONG_FIFO, 0, "LCR {lcr:#x}");
    }
}

#[test]
fn the_probe_does_not_find_a_national_superio() {
    let mut uart = probed();
    for mcr in [0, mcr::LOOP] {
        uart.write(LCR, 0);
        uart.write(MCR, mcr);
        uart.write(LCR, 0xe0);
        let exchanged = uart.read(EFR);
        assert_eq!(exchanged & mcr::LOOP, 0, "it does not follow MCR {mcr:#x}");
    }
}

#[test]
fn the_probe_does_not_find_an_xscale() {
    let uart_unit_enable = 1 << 6;
    let mut uart = probed();
    uart.write(IER, uart_unit_enable);
    assert_eq!(uart.read(IER) & uart_unit_enable, 0);
}

/// `serial8250_THRE_test`: a driver needs a timer for a chip that fails here.
#[test]
fn the_startup_test_finds_the_transmitter_interrupt_raised_each_time_it_is_enabled() {
    let mut uart = probed();
    for attempt in 0..2 {
        assert_eq!(uart.read(LSR) & lsr::THRE, lsr::THRE);
        uart.write(IER, ier::THRI);
        assert_eq!(uart.read(IIR) & 0x01, 0, "attempt {attempt}");
        uart.write(IER, 0);
    }
}

/// A driver that acts only when it is interrupted.
struct Driver {
    outgoing: std::vec::IntoIter<u8>,
    received: Vec<u8>,
    /// Bytes it writes for one THRE.
    load: usize,
    /// Bytes it reads for one interrupt.
    budget: usize,
}

impl Driver {
    fn start(&self, uart: &mut Uart) {
        uart.write(IER, ier::RLSI | ier::RDI);
        uart.write(IER, ier::RLSI | ier::RDI | ier::THRI);
    }

    /// `serial8250_handle_irq`.
    fn handle_irq(&mut self, uart: &mut Uart) {
        if uart.read(IIR) & 0x01 != 0 {
            return;
        }
        let mut status = uart.read(LSR);
        for _ in 0..self.budget {
            if status & lsr::DR == 0 {
                break;
            }
            self.received.push(uart.read(DATA));
            status = uart.read(LSR);
            assert_eq!(status & (lsr::OE | lsr::BI), 0);
        }
        if status & lsr::THRE != 0 && uart.read(IER) & ier::THRI != 0 {
            self.transmit(uart);
        }
    }

    fn transmit(&mut self, uart: &mut Uart) {
        for byte in self.outgoing.by_ref().take(self.load) {
            uart.write(DATA, byte);
        }
        if self.outgoing.len() == 0 {
            uart.write(IER, ier::RLSI | ier::RDI);
        }
    }
}

#[test]
fn a_driver_that_acts_only_on_interrupts_gets_64_kib_through() {
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(64 << 10).collect();
    for (fcr, load, budget) in [
        (0x00, 1, 256),
        (0x01, 16, 256),
        (0x41, 16, 256),
        (0x81, 16, 256),
        (0xc1, 16, 256),
        (0xc1, 16, 3),
        (0x81, 1, 1),
        (0x01, 16, 17),
    ] {
        let mut uart = after(&[(FCR, fcr)]);
        let mut driver = Driver {
            outgoing: bytes.clone().into_iter(),
            received: Vec::new(),
            load,
            budget,
        };
        driver.start(&mut uart);
        let mut interrupts = 0;
        while uart.interrupt() && interrupts <= 2 * bytes.len() {
            driver.handle_irq(&mut uart);
            interrupts += 1;
        }
        let case = format!("FCR {fcr:#x}, load {load}, budget {budget}");
        assert!(!uart.interrupt(), "{case}: it never ends");
        assert!(driver.received == bytes, "{case}: bytes were lost");
    }
}
