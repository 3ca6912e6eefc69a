//! Nothing is lost or doubled, and the transmitter says so in time.

use super::*;

#[test]
fn the_transmitter_is_not_empty_while_the_receiver_is_full() {
    for (fcr, depth) in [(fcr::ENABLE_FIFO, FIFO_DEPTH), (0, HOLDING_DEPTH)] {
        let mut uart = after(&[(FCR, fcr)]);
        let idle = lsr::THRE | lsr::TEMT;
        for fill in 1..depth {
            uart.write(DATA, 0);
            assert_eq!(uart.read(LSR), idle | lsr::DR, "{fill} of {depth}");
        }
        uart.write(DATA, 0);
        assert_eq!(uart.read(LSR), lsr::DR, "full, not empty: {depth}");
        uart.read(DATA);
        assert_eq!(uart.read(LSR) & idle, idle, "room again: {depth}");
    }
}

#[test]
fn a_full_load_written_to_a_nearly_full_receiver_waits_and_arrives() {
    let mut uart = after(&[(FCR, fcr::ENABLE_FIFO)]);
    let load: Vec<u8> = (0..31).collect();
    for &byte in &load {
        uart.write(DATA, byte);
    }
    for &byte in &load {
        assert_eq!(uart.read(LSR) & lsr::DR, lsr::DR);
        assert_eq!(uart.read(DATA), byte);
    }
    assert_eq!(uart.read(LSR), lsr::THRE | lsr::TEMT);
}

#[test]
fn a_byte_written_to_a_full_transmitter_is_dropped_and_no_other() {
    for (fcr, depth) in [(fcr::ENABLE_FIFO, FIFO_DEPTH), (0, HOLDING_DEPTH)] {
        let mut uart = after(&[(FCR, fcr)]);
        for byte in (0..).take(2 * depth).chain([99]) {
            uart.write(DATA, byte);
        }
        for byte in (0..).take(2 * depth) {
            assert_eq!(uart.read(DATA), byte, "depth {depth}");
        }
        assert_eq!(uart.read(LSR) & lsr::DR, 0, "depth {depth}");
    }
}

/// What a driver may do between two bytes without giving up any.
#[derive(Clone, Debug)]
enum Step {
    /// Writes as many bytes as the transmitter holds, or fewer, if THRE is set.
    Send(usize),
    /// Reads a byte, if there is one.
    Receive,
    /// Reads a register other than the receiver's.
    Look(Register),
    /// Writes one that does not empty a FIFO.
    Set(Register, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let register = || any_register().prop_filter("takes a byte", |&register| register != DATA);
    prop_oneof![
        3 => (1..=FIFO_DEPTH).prop_map(Step::Send),
        20 => Just(Step::Receive),
        3 => register().prop_map(Step::Look),
        3 => (register(), any::<u8>()).prop_map(|(register, value)| Step::Set(register, value)),
    ]
}

/// Values that do not change where bytes go: no divisor, no break, the FIFOs as they are.
fn harmless(register: Register, value: u8, fcr: u8) -> u8 {
    match register {
        LCR => value & !(lcr::DLAB | lcr::SBC),
        FCR => value & fcr::TRIGGER_MASK | fcr,
        _ => value,
    }
}

proptest! {
    /// A driver that writes only after THRE reads back just what it wrote.
    #[test]
    fn bytes_arrive_once_and_in_order_whatever_comes_between(
        steps in prop::collection::vec(step(), 0..600),
        has_fifos: bool,
    ) {
        let (fcr, depth) = if has_fifos {
            (fcr::ENABLE_FIFO, FIFO_DEPTH)
        } else {
            (0, HOLDING_DEPTH)
        };
        let mut uart = after(&[(FCR, fcr)]);
        let mut bytes = (0..=u8::MAX).cycle();
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Send(count) if uart.read(LSR) & lsr::THRE != 0 => {
                    for byte in bytes.by_ref().take(count.min(depth)) {
                        uart.write(DATA, byte);
                        sent.push(byte);
                    }
                }
                Step::Receive if uart.read(LSR) & lsr::DR != 0 => received.push(uart.read(DATA)),
                Step::Send(_) | Step::Receive => {}
                Step::Look(register) => drop(uart.read(register)),
                Step::Set(register, value) => uart.write(register, harmless(register, value, fcr)),
            }
            prop_assert_eq!(uart.read(LSR) & (lsr::OE | lsr::BI), 0);
        }
        while uart.read(LSR) & lsr::DR != 0 {
            received.push(uart.read(DATA));
        }
        prop_assert_eq!(received, sent);
        prop_assert_eq!(uart.read(LSR), lsr::THRE | lsr::TEMT);
    }
}
