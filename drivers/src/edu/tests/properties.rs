//! What holds whatever a guest does.

use mdev::device::Reset;
use mdev::dma::{Iova, IovaRange};
use mdev::region::RegionIndex;
use mdev::{MediatedDevice, Services};
use proptest::prelude::*;

use super::guest::build;
use crate::edu::registers::Register;
use crate::edu::transfer::BUFFER;

#[derive(Clone, Debug)]
enum Step {
    Write(RegionIndex, u64, Vec<u8>),
    Read(RegionIndex, u64, usize),
    Config(u64, Vec<u8>),
    Unmap(u64, u64),
    Reset(Reset),
}

/// Anything at all, but often what a driver would do: else hardly any transfer would begin.
fn step() -> impl Strategy<Value = Step> {
    let region = prop::sample::select(&RegionIndex::ALL[..]);
    let offset = prop_oneof![0..0x110_u64, any::<u64>()];
    let bytes = prop::collection::vec(any::<u8>(), 0..17);
    let register = prop::sample::select(&Register::ALL[..]);
    let value = prop_oneof![
        0..8_u64,
        0x80..0x88_u64,
        BUFFER - 1..BUFFER + 0x1002,
        any::<u64>()
    ];
    let reset = prop::sample::select(vec![Reset::Device, Reset::Function, Reset::Close]);
    let range = (any::<u64>(), any::<u64>());
    prop_oneof![
        8 => (register.clone(), value.clone()).prop_map(|(register, value)| {
            let len = if register as u64 >= 0x80 { 8 } else { 4 };
            Step::Write(RegionIndex::Bar0, register as u64, value.to_le_bytes()[..len].to_vec())
        }),
        4 => register.prop_map(|register| Step::Read(RegionIndex::Bar0, register as u64, 4)),
        2 => (region.clone(), offset.clone(), bytes.clone())
            .prop_map(|(region, at, data)| Step::Write(region, at, data)),
        2 => (region, offset.clone(), 0..17_usize)
            .prop_map(|(region, at, len)| Step::Read(region, at, len)),
        1 => (offset, bytes).prop_map(|(at, data)| Step::Config(at, data)),
        1 => range.prop_map(|(start, len)| Step::Unmap(start, len)),
        1 => reset.prop_map(Step::Reset),
    ]
}

fn take(device: &mut dyn MediatedDevice, step: Step) {
    match step {
        Step::Write(region, at, data) => _ = device.write(region, at, &data),
        Step::Read(region, at, len) => _ = device.read(region, at, &mut vec![0; len]),
        Step::Config(at, data) => _ = device.config().write(at, &data),
        Step::Unmap(start, len) => {
            if let Some(range) = IovaRange::new(Iova(start), len) {
                device.dma_unmap(range);
            }
        }
        Step::Reset(cause) => device.reset(cause),
    }
}

fn read(device: &mut dyn MediatedDevice, register: Register) -> u32 {
    let mut value = [0; 4];
    let at = register as u64;
    device.read(RegionIndex::Bar0, at, &mut value).unwrap();
    u32::from_le_bytes(value)
}

proptest! {
    #[test]
    fn nothing_panics_and_a_reset_leaves_nothing(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut device = build(&[("spin-register", "on")], Services::default());
        for step in steps {
            take(device.as_mut(), step);
        }
        // The engine's thread is alive, and nothing is left to it.
        device.reset(Reset::Device);
        for register in Register::ALL {
            let expected = match register {
                Register::Identification => 0x0100_00ed,
                Register::InterruptRaise
                | Register::InterruptAcknowledge
                | Register::DmaDoorbell => continue,
                _ => 0,
            };
            prop_assert_eq!(read(device.as_mut(), register), expected, "{:?}", register);
        }
        device.write(RegionIndex::Bar0, Register::Factorial as u64, &[5, 0, 0, 0]).unwrap();
        while read(device.as_mut(), Register::Status) != 0 {
            std::thread::yield_now();
        }
        prop_assert_eq!(read(device.as_mut(), Register::Factorial), 120);
    }
}
