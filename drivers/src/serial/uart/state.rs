//! What a port holds, as bytes. It is what `mtty` saves: registers, divisor, FIFO; and what this
//! model keeps beside them.

use mdev::state::{Fields, StateError};

use super::{FIFO_DEPTH, Fifo, HOLDING_DEPTH, Received, Uart};
use crate::serial::registers::{fcr, ier, mcr};

/// Bits of [`Uart`]'s flags.
const OVERRUN: u8 = 1 << 0;
const THR_EMPTY: u8 = 1 << 1;
const THRE_PENDING: u8 = 1 << 2;

/// The low half of the modem status.
const MODEM_CHANGES: u8 = 0x0f;

impl Uart {
    /// Appends the state of the port.
    pub fn save(&self, out: &mut Vec<u8>) {
        let flag = |is_set, bit| if is_set { bit } else { 0 };
        let flags = flag(self.has_overrun, OVERRUN)
            | flag(self.is_thr_empty, THR_EMPTY)
            | flag(self.is_thre_pending, THRE_PENDING);
        out.extend([
            self.ier,
            self.fcr,
            self.lcr,
            self.mcr,
            self.scr,
            self.dll,
            self.dlm,
            self.modem_changes,
            flags,
        ]);
        // At most 16 entries each.
        out.push(self.receiver.len() as u8);
        for received in self.receiver.iter() {
            out.extend([received.byte, u8::from(received.is_break)]);
        }
        out.push(self.transmitter.len() as u8);
        out.extend(self.transmitter.iter());
    }

    /// A port with a saved state.
    pub fn restore(saved: &mut Fields<'_>) -> Result<Self, StateError> {
        let [ier, fcr, lcr, mcr, scr, dll, dlm, modem_changes, flags] = saved.array()?;
        let is_possible = ier & !ier::ALL == 0
            && mcr & !mcr::ALL == 0
            && modem_changes & !MODEM_CHANGES == 0
            && flags & !(OVERRUN | THR_EMPTY | THRE_PENDING) == 0
            && (fcr == 0 || fcr & fcr::ENABLE_FIFO != 0);
        if !is_possible {
            return Err(StateError::registers("a register of a port cannot be so"));
        }
        let depth = match fcr & fcr::ENABLE_FIFO {
            0 => HOLDING_DEPTH,
            _ => FIFO_DEPTH,
        };
        let receiver = restore_fifo(depth, saved, |saved| {
            Ok(Received {
                byte: saved.u8()?,
                is_break: saved.bool()?,
            })
        })?;
        let transmitter = restore_fifo(depth, saved, |saved| saved.u8())?;
        if !transmitter.is_empty() && !receiver.is_full() {
            return Err(StateError::registers("bytes wait though there is room"));
        }
        Ok(Self {
            ier,
            fcr,
            lcr,
            mcr,
            scr,
            dll,
            dlm,
            modem_changes,
            has_overrun: flags & OVERRUN != 0,
            is_thr_empty: flags & THR_EMPTY != 0,
            is_thre_pending: flags & THRE_PENDING != 0,
            transmitter,
            receiver,
        })
    }
}

fn restore_fifo<T>(
    depth: usize,
    saved: &mut Fields<'_>,
    mut entry: impl FnMut(&mut Fields<'_>) -> Result<T, StateError>,
) -> Result<Fifo<T>, StateError> {
    let mut fifo = Fifo::new(depth);
    for _ in 0..saved.u8()? {
        let full = |_| StateError::registers("a queue of a port is too long");
        fifo.push(entry(saved)?).map_err(full)?;
    }
    Ok(fifo)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::serial::registers::Register;

    fn saved(uart: &Uart) -> Vec<u8> {
        let mut bytes = Vec::new();
        uart.save(&mut bytes);
        bytes
    }

    fn restored(bytes: &[u8]) -> Result<Uart, StateError> {
        let mut fields = Fields::of_registers(bytes);
        let uart = Uart::restore(&mut fields)?;
        fields.end()?;
        Ok(uart)
    }

    fn accesses() -> impl Strategy<Value = Vec<(usize, Option<u8>)>> {
        prop::collection::vec((0..8_usize, any::<Option<u8>>()), 0..200)
    }

    fn run(uart: &mut Uart, accesses: &[(usize, Option<u8>)]) -> Vec<(u8, bool)> {
        let mut seen = Vec::new();
        for (register, written) in accesses {
            let register = Register::ALL[*register];
            let read = match written {
                Some(value) => {
                    uart.write(register, *value);
                    0
                }
                None => uart.read(register),
            };
            seen.push((read, uart.interrupt()));
        }
        seen
    }

    proptest! {
        #[test]
        fn a_restored_port_goes_on_as_the_saved_one_would(before in accesses(), after in accesses()) {
            let mut uart = Uart::new();
            run(&mut uart, &before);
            let bytes = saved(&uart);
            let mut other = restored(&bytes).unwrap();
            prop_assert_eq!(saved(&other), bytes);
            prop_assert_eq!(run(&mut other, &after), run(&mut uart, &after));
        }

        #[test]
        fn whatever_is_restored_keeps_the_invariants(bytes: Vec<u8>, after in accesses()) {
            if let Ok(mut uart) = restored(&bytes) {
                run(&mut uart, &after);
            }
        }
    }

    #[test]
    fn what_no_port_can_hold_is_refused() {
        let fresh = saved(&Uart::new());
        // Of the fresh port: the FIFOs off, nothing in them.
        let (receiver, transmitter) = (9, 10);
        for (what, at, value) in [
            ("an interrupt that there is not", 0, 0xf0),
            ("trigger levels without FIFOs", 1, 0xc0),
            ("a modem line that there is not", 3, 0x80),
            ("a modem input as a change", 7, 0x10),
            ("a flag that there is not", 8, 0x08),
            ("a receiver past its end", receiver, 1),
            ("a transmitter past its end", transmitter, 1),
        ] {
            let mut bytes = fresh.clone();
            bytes[at] = value;
            assert!(restored(&bytes).is_err(), "{what}");
        }
        let mut bytes = fresh.clone();
        bytes.extend([0]);
        assert!(restored(&bytes).is_err(), "more");
        bytes[transmitter] = 1;
        assert!(
            restored(&bytes).is_err(),
            "a byte waits, and the receiver is empty"
        );
    }
}
