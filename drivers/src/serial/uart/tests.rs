//! The rules of the registers, and of the way of the bytes.

use proptest::prelude::*;

use super::*;

mod flow;
mod stock_driver;

const DATA: Register = Register::Data;
const IER: Register = Register::Ier;
const IIR: Register = Register::IirFcr;
const FCR: Register = Register::IirFcr;
const LCR: Register = Register::Lcr;
const MCR: Register = Register::Mcr;
const LSR: Register = Register::Lsr;
const MSR: Register = Register::Msr;
const SCR: Register = Register::Scr;

/// A port after these writes.
fn after(writes: &[(Register, u8)]) -> Uart {
    let mut uart = Uart::new();
    for &(register, value) in writes {
        uart.write(register, value);
    }
    uart
}

/// A port with its FIFOs on and `count` bytes written to it.
fn holding(count: usize) -> Uart {
    let mut uart = after(&[(FCR, fcr::ENABLE_FIFO)]);
    for _ in 0..count {
        uart.write(DATA, b'x');
    }
    uart
}

/// What the port says is the most urgent interrupt. FIFOs must be on.
fn pending(uart: &mut Uart) -> u8 {
    let iir = uart.read(IIR);
    assert_eq!(iir & iir::FIFOS_ENABLED, iir::FIFOS_ENABLED);
    iir & !iir::FIFOS_ENABLED
}

#[test]
fn registers_after_reset() {
    for (register, expected) in [
        (DATA, 0x00),
        (IER, 0x00),
        (IIR, 0x01),
        (LCR, 0x00),
        (MCR, 0x00),
        (LSR, 0x60),
        (MSR, 0x00),
        (SCR, 0x00),
    ] {
        assert_eq!(Uart::new().read(register), expected, "{register:?}");
    }
}

#[test]
fn a_register_keeps_the_bits_it_has() {
    for (register, writable) in [
        (IER, 0x0f),
        (LCR, 0xff),
        (MCR, 0x1f),
        (LSR, 0x00),
        (MSR, 0x00),
        (SCR, 0xff),
    ] {
        let mut uart = Uart::new();
        let fixed = uart.read(register);
        for value in [0xff, 0xa5, 0x5a, 0x00] {
            uart.write(LCR, 0);
            uart.write(register, value);
            let expected = fixed | value & writable;
            assert_eq!(uart.read(register), expected, "{register:?} = {value:#x}");
        }
    }
}

#[test]
fn the_divisor_latch_keeps_the_last_value_and_hides_two_registers() {
    let mut uart = after(&[(IER, ier::MSI)]);
    for (dll, dlm) in [(0x0c, 0x00), (0x01, 0x00), (0x80, 0x25), (0x00, 0x00)] {
        uart.write(LCR, lcr::DLAB);
        uart.write(DATA, dll);
        uart.write(IER, dlm);
        assert_eq!((uart.read(DATA), uart.read(IER)), (dll, dlm));
        uart.write(LCR, 0);
        assert_eq!(uart.read(IER), ier::MSI);
        assert_eq!(uart.read(LSR) & lsr::DR, 0, "the divisor is not sent");
        uart.write(LCR, lcr::DLAB);
        assert_eq!((uart.read(DATA), uart.read(IER)), (dll, dlm));
    }
}

#[test]
fn the_fifo_bits_of_iir_follow_the_enable_bit_of_fcr() {
    for (fcr, expected) in [
        (0x00, 0x00),
        (0x01, 0xc0),
        (0xc1, 0xc0),
        (0xff, 0xc0),
        (0xfe, 0x00),
        (0xc0, 0x00),
    ] {
        let mut uart = after(&[(FCR, fcr)]);
        assert_eq!(uart.read(IIR), expected | 0x01, "FCR {fcr:#x}");
    }
}

#[test]
fn a_character_timeout_is_pending_below_the_trigger_level_and_received_data_from_it_on() {
    let timeout = InterruptId::CharacterTimeout as u8;
    let received = InterruptId::ReceivedData as u8;
    for (fcr, trigger) in [(0x01, 1), (0x41, 4), (0x81, 8), (0xc1, 14)] {
        let mut uart = after(&[(FCR, fcr), (IER, ier::RDI)]);
        assert_eq!(pending(&mut uart), InterruptId::None as u8);
        for fill in 1..=FIFO_DEPTH {
            uart.write(DATA, 0);
            let expected = if fill < trigger { timeout } else { received };
            assert_eq!(pending(&mut uart), expected, "{fill} bytes of {trigger}");
        }
    }
}

#[test]
fn with_the_fifos_off_one_byte_is_received_data_whatever_fcr_says() {
    for fcr in [0x00, 0xc0, 0xfe] {
        let mut uart = after(&[(IER, ier::RDI), (DATA, b'x'), (FCR, fcr)]);
        assert_eq!(uart.read(IIR), InterruptId::ReceivedData as u8);
        assert_eq!(uart.read(DATA), b'x', "FCR {fcr:#x}");
        assert_eq!(uart.read(IIR), InterruptId::None as u8);
    }
}

#[test]
fn the_most_urgent_interrupt_is_reported_until_its_cause_is_gone() {
    let mut uart = after(&[
        (FCR, fcr::ENABLE_FIFO),
        (MCR, mcr::RTS),
        (LCR, lcr::SBC),
        (IER, ier::ALL),
    ]);
    let steps: [(InterruptId, Register); 4] = [
        (InterruptId::LineStatus, LSR),
        (InterruptId::ReceivedData, DATA),
        (InterruptId::TransmitterEmpty, IIR),
        (InterruptId::ModemStatus, MSR),
    ];
    for (id, cleared_by) in steps {
        assert!(uart.interrupt(), "{id:?}");
        assert_eq!(uart.interrupt_id(), id);
        uart.read(cleared_by);
    }
    assert_eq!(uart.interrupt_id(), InterruptId::None);
    assert!(!uart.interrupt());
}

#[test]
fn an_interrupt_needs_its_enable_bit() {
    let cause_all = [(FCR, fcr::ENABLE_FIFO), (MCR, mcr::RTS), (LCR, lcr::SBC)];
    for (enable, expected) in [
        (0, InterruptId::None),
        (ier::RDI, InterruptId::ReceivedData),
        (ier::THRI, InterruptId::TransmitterEmpty),
        (ier::RLSI, InterruptId::LineStatus),
        (ier::MSI, InterruptId::ModemStatus),
    ] {
        let mut uart = after(&cause_all);
        uart.write(IER, enable);
        assert_eq!(uart.interrupt_id(), expected, "IER {enable:#x}");
    }
}

#[test]
fn reading_iir_clears_the_transmitter_interrupt_only_when_it_reports_it() {
    let mut uart = after(&[(FCR, fcr::ENABLE_FIFO), (IER, ier::RDI | ier::THRI)]);
    uart.write(DATA, b'x');
    assert_eq!(pending(&mut uart), InterruptId::ReceivedData as u8);
    uart.read(DATA);
    assert_eq!(pending(&mut uart), InterruptId::TransmitterEmpty as u8);
    assert_eq!(pending(&mut uart), InterruptId::None as u8);
}

#[test]
fn enabling_the_transmitter_interrupt_raises_it_whenever_the_transmitter_is_empty() {
    let mut uart = holding(0);
    for round in 0..3 {
        uart.write(IER, ier::THRI);
        let expected = InterruptId::TransmitterEmpty as u8;
        assert_eq!(pending(&mut uart), expected, "round {round}");
        uart.write(IER, ier::THRI);
        let expected = InterruptId::None as u8;
        assert_eq!(pending(&mut uart), expected, "it was enabled already");
        uart.write(IER, 0);
    }
    let mut full = holding(FIFO_DEPTH);
    full.write(IER, ier::THRI);
    assert!(!full.interrupt());
}

#[test]
fn a_written_byte_raises_the_transmitter_interrupt_again_once_it_has_left() {
    let mut uart = after(&[(FCR, fcr::ENABLE_FIFO), (IER, ier::THRI)]);
    for _ in 1..FIFO_DEPTH {
        uart.write(DATA, b'x');
        assert_eq!(pending(&mut uart), InterruptId::TransmitterEmpty as u8);
    }
    uart.write(DATA, b'x');
    assert_eq!(
        pending(&mut uart),
        InterruptId::None as u8,
        "it cannot leave"
    );
    uart.read(DATA);
    assert_eq!(pending(&mut uart), InterruptId::TransmitterEmpty as u8);
}

#[test]
fn loop_back_joins_the_modem_lines_within_the_chip_and_the_plug_outside() {
    for (mcr, looped, plugged) in [
        (0, 0, 0),
        (mcr::DTR, msr::DSR, msr::DSR | msr::DCD),
        (mcr::RTS, msr::CTS, msr::CTS),
        (mcr::OUT1, msr::RI, 0),
        (mcr::OUT2, msr::DCD, 0),
    ] {
        for (mcr, expected) in [(mcr | mcr::LOOP, looped), (mcr, plugged)] {
            let mut uart = after(&[(MCR, mcr)]);
            uart.read(MSR);
            assert_eq!(uart.read(MSR), expected, "MCR {mcr:#x}");
        }
    }
}

#[test]
fn a_changed_modem_line_is_reported_once_and_a_ring_at_its_end() {
    let mut uart = after(&[(MCR, mcr::LOOP)]);
    for (mcr, expected) in [
        (mcr::DTR, msr::DSR | msr::DDSR),
        (mcr::RTS, msr::CTS | msr::DCTS | msr::DDSR),
        (mcr::OUT1, msr::RI | msr::DCTS),
        (mcr::OUT2, msr::DCD | msr::DDCD | msr::TERI),
        (0, msr::DDCD),
        (0, 0),
    ] {
        uart.write(MCR, mcr | mcr::LOOP);
        assert_eq!(uart.read(MSR), expected, "MCR {mcr:#x}");
    }
}

#[test]
fn changes_of_modem_lines_add_up_until_they_are_read() {
    let outputs = [mcr::RTS, mcr::RTS | mcr::DTR, mcr::DTR, 0];
    let mut uart = after(&outputs.map(|outputs| (MCR, outputs)));
    assert_eq!(uart.read(MSR), msr::DCTS | msr::DDSR | msr::DDCD);
}

#[test]
fn a_break_is_received_as_a_break_unless_the_chip_is_in_loop_back() {
    let mut uart = after(&[(FCR, fcr::ENABLE_FIFO), (DATA, b'a'), (LCR, lcr::SBC)]);
    uart.write(DATA, b'b');
    let idle = lsr::THRE | lsr::TEMT;
    for (lsr, byte) in [
        (lsr::DR | lsr::FIFOE, b'a'),
        (lsr::DR | lsr::FIFOE | lsr::BI, 0),
        (lsr::DR, b'b'),
    ] {
        assert_eq!(uart.read(LSR), idle | lsr);
        assert_eq!(uart.read(LSR) & lsr::BI, 0, "reading clears it");
        assert_eq!(uart.read(DATA), byte);
    }
    let mut looped = after(&[(MCR, mcr::LOOP), (LCR, lcr::SBC)]);
    assert_eq!(looped.read(LSR), idle);
}

#[test]
fn a_break_is_received_once_each_time_it_is_set() {
    let mut uart = after(&[(FCR, fcr::ENABLE_FIFO)]);
    for lcr in [lcr::SBC, lcr::SBC | 0x03, 0x03, lcr::SBC] {
        uart.write(LCR, lcr);
    }
    for _ in 0..2 {
        assert_eq!(uart.read(LSR) & lsr::BI, lsr::BI);
        uart.read(DATA);
    }
    assert_eq!(uart.read(LSR) & lsr::DR, 0);
}

#[test]
fn with_the_fifos_off_a_break_is_not_in_a_fifo() {
    let mut uart = after(&[(LCR, lcr::SBC)]);
    assert_eq!(uart.read(LSR), lsr::DR | lsr::BI);
}

#[test]
fn a_break_overruns_a_full_receiver_and_is_lost() {
    let mut uart = holding(FIFO_DEPTH);
    uart.write(LCR, lcr::SBC);
    assert_eq!(uart.read(LSR), lsr::DR | lsr::OE);
    assert_eq!(uart.read(LSR), lsr::DR, "reading clears it");
    for _ in 0..FIFO_DEPTH {
        assert_eq!(uart.read(DATA), b'x');
    }
    assert_eq!(uart.read(LSR), lsr::THRE | lsr::TEMT);
}

#[test]
fn an_overrun_is_reported_even_if_a_later_break_arrives() {
    let mut uart = holding(FIFO_DEPTH);
    uart.write(LCR, lcr::SBC);
    uart.read(DATA);
    uart.write(LCR, 0);
    uart.write(LCR, lcr::SBC);
    assert_eq!(uart.read(LSR), lsr::DR | lsr::FIFOE | lsr::OE);
}

#[test]
fn fcr_empties_the_fifos_it_names_and_both_when_it_switches_them() {
    let enable = fcr::ENABLE_FIFO;
    let received_and_waiting = 2 * FIFO_DEPTH;
    for (fcr, left) in [
        (enable, received_and_waiting),
        (enable | fcr::CLEAR_XMIT, FIFO_DEPTH),
        (enable | fcr::CLEAR_RCVR, FIFO_DEPTH),
        (enable | fcr::CLEAR_RCVR | fcr::CLEAR_XMIT, 0),
        (0, 0),
        // Without the enable bit the others do not count, but it is itself a switch.
        (fcr::CLEAR_RCVR, 0),
    ] {
        let mut uart = holding(received_and_waiting);
        uart.write(FCR, fcr);
        let mut found = 0;
        while uart.read(LSR) & lsr::DR != 0 {
            uart.read(DATA);
            found += 1;
        }
        assert_eq!(found, left, "FCR {fcr:#x}");
        assert_eq!(uart.read(LSR), lsr::THRE | lsr::TEMT, "FCR {fcr:#x}");
    }
}

#[test]
fn an_empty_receiver_reads_as_zero_and_interrupts_nobody() {
    let mut uart = after(&[(FCR, fcr::ENABLE_FIFO), (IER, ier::RDI)]);
    assert_eq!(uart.read(DATA), 0);
    assert!(!uart.interrupt());
}

fn any_register() -> impl Strategy<Value = Register> {
    prop::sample::select(&Register::ALL[..])
}

proptest! {
    /// Whatever a guest does, nothing panics, and the port stays one that could be built.
    #[test]
    fn every_sequence_of_accesses_leaves_a_sound_port(
        accesses in prop::collection::vec((any_register(), any::<Option<u8>>()), 0..400),
    ) {
        let mut uart = Uart::new();
        for (register, written) in accesses {
            match written {
                Some(value) => uart.write(register, value),
                None => drop(uart.read(register)),
            }
            let depth = if uart.are_fifos_enabled() { FIFO_DEPTH } else { HOLDING_DEPTH };
            prop_assert!(uart.receiver.len() <= depth && uart.transmitter.len() <= depth);
            prop_assert!(uart.transmitter.is_empty() || uart.receiver.is_full());
            let is_ready = uart.transmitter.is_empty() && !uart.receiver.is_full();
            prop_assert_eq!(uart.is_thr_empty, is_ready);
            prop_assert!(is_ready || !uart.is_thre_pending);
            let asserted = uart.interrupt();
            let none = InterruptId::None as u8;
            prop_assert_eq!(asserted, uart.clone().read(IIR) & none == 0);
        }
    }
}
