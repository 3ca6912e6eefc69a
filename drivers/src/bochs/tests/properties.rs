//! What holds whatever a guest does.

use mdev::device::Reset;
use proptest::prelude::*;

use super::*;

/// Of the `bochs-4m` type.
const VRAM: u64 = 4 << 20;
const DISPI_REGISTERS: u64 = 11;

#[derive(Clone, Debug)]
enum Step {
    Write(RegionIndex, u64, Vec<u8>),
    Read(RegionIndex, u64, usize),
    Reset(Reset),
}

/// Anything at all, but often what a driver would do: else hardly any mode would be valid.
fn step() -> impl Strategy<Value = Step> {
    let region = prop::sample::select(&RegionIndex::ALL[..]);
    let offset = prop_oneof![0..0x1010_u64, VRAM - 0x20..VRAM + 0x20, any::<u64>()];
    let bytes = prop::collection::vec(any::<u8>(), 0..17);
    let register = (0..DISPI_REGISTERS).prop_map(|index| DISPI + 2 * index);
    let value = prop_oneof![
        Just(32_u16),
        Just(0x41),
        0..70_u16,
        500..1100_u16,
        any::<u16>()
    ];
    let reset = prop::sample::select(vec![Reset::Device, Reset::Function, Reset::Close]);
    prop_oneof![
        8 => (register, value).prop_map(|(at, value)| {
            Step::Write(Bar2, at, value.to_le_bytes().to_vec())
        }),
        2 => Just(Step::Write(Bar2, BPP, vec![32, 0, 0x41, 0])),
        2 => (region.clone(), offset.clone(), bytes)
            .prop_map(|(region, at, data)| Step::Write(region, at, data)),
        2 => (region, offset, 0..17_usize).prop_map(|(region, at, len)| Step::Read(region, at, len)),
        1 => reset.prop_map(Step::Reset),
    ]
}

proptest! {
    #[test]
    fn nothing_panics_and_the_picture_lies_inside_the_memory(
        steps in prop::collection::vec(step(), 1..60),
        is_enabled in any::<bool>(),
    ) {
        let mut display = Display::new("bochs-4m");
        if is_enabled {
            display.write(&[0x00, 0x03, 0x00, 0x02, 32, 0, 0x41, 0], XRES);
            prop_assert!(display.picture().is_some());
        }
        for step in steps {
            match step {
                Step::Write(region, at, data) => _ = display.device.write(region, at, &data),
                Step::Read(region, at, len) => {
                    _ = display.device.read(region, at, &mut vec![0; len]);
                }
                Step::Reset(cause) => display.device.reset(cause),
            }
            if let Some(scanout) = display.scanout.current() {
                let size = rustix::fs::fstat(&scanout.memory).unwrap().st_size;
                prop_assert_eq!(u64::try_from(size), Ok(VRAM));
                prop_assert!(scanout.geometry.end().unwrap() <= VRAM);
            }
        }
    }
}
