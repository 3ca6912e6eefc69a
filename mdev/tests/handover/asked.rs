//! What a client may ask, at random.

use proptest::collection::vec;
use proptest::prelude::*;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Read(u32, u64, u32),
    Write(u32, u64, Vec<u8>, bool),
    Multi(Vec<(u32, u64, Vec<u8>)>),
    /// A write through what is mapped: region, offset, byte.
    Mapped(u32, u64, u8),
    /// Page, pages, page of the file or no file, flags.
    Map(u64, u64, Option<u64>, u32),
    Unmap(u64, u64),
    UnmapAll,
    /// Group, first vector, how many, whether they get eventfds.
    Assign(u32, u32, u32, bool),
    /// Group, first vector, flags, data.
    SetIrqs(u32, u32, u32, Vec<u8>),
    Reset,
    RegionInfo(u32, u32),
    IoFds(u32),
    IrqInfo(u32),
    /// A feature that is probed and asked for.
    Feature(u32),
    /// Stops the device and has it go on, by DEVICE_FEATURE.
    StopAndRun,
    Ring,
    Malformed(u16, Vec<u8>),
    HandOver,
    /// The device dies in the call after so many.
    Die(u32),
}

/// Region, offset and length of an access: most lie in their region.
fn place() -> impl Strategy<Value = (u32, u64, u32)> {
    let within = |region: u32, size: u64| (Just(region), 0..size, 0_u32..9);
    prop_oneof![
        4 => within(0, 34),
        2 => within(1, 0x1_0000),
        2 => within(2, 0x2010),
        1 => within(4, 0x1000),
        1 => within(6, 0x1000),
        4 => within(7, 0x100),
        1 => (0_u32..12, any::<u64>(), any::<u16>().prop_map(u32::from)),
    ]
}

fn write() -> impl Strategy<Value = (u32, u64, Vec<u8>)> {
    (place(), vec(any::<u8>(), 8)).prop_map(|((region, offset, len), bytes)| {
        // The doorbell's register is written by its eventfd alone.
        let at_bell = region == 2 && offset + 8 > 0x2010;
        let len = if at_bell { 0 } else { (len as usize).min(8) };
        (region, offset, bytes[..len].to_vec())
    })
}

fn of_regions() -> impl Strategy<Value = Asked> {
    prop_oneof![
        4 => place().prop_map(|(region, offset, len)| Asked::Read(region, offset, len)),
        6 => (write(), any::<bool>())
            .prop_map(|((region, offset, data), posted)| Asked::Write(region, offset, data, posted)),
        2 => vec(write(), 0..4).prop_map(Asked::Multi),
        1 => (1_u32..3, 0_u64..0x2000, any::<u8>())
            .prop_map(|(region, at, byte)| Asked::Mapped(region, at, byte)),
        1 => (0_u32..10, prop_oneof![Just(32_u32), Just(200)])
            .prop_map(|(index, argsz)| Asked::RegionInfo(index, argsz)),
        1 => (0_u32..10).prop_map(Asked::IoFds),
        // Bus mastering and the pin on: memory and interrupts are reached.
        2 => Just(Asked::Write(7, 4, vec![6, 0], false)),
    ]
}

fn of_memory_and_irqs() -> impl Strategy<Value = Asked> {
    let file = prop_oneof![3 => (0_u64..16).prop_map(Some), 1 => Just(None)];
    prop_oneof![
        4 => (0_u64..16, 1_u64..4, file, 0_u32..4).prop_map(|(page, pages, file, flags)| {
            Asked::Map(page, pages, file, flags)
        }),
        2 => (0_u64..16, 1_u64..4).prop_map(|(page, pages)| Asked::Unmap(page, pages)),
        1 => Just(Asked::UnmapAll),
        3 => (0_u32..6, 0_u32..5, 1_u32..4, any::<bool>()).prop_map(
            |(group, start, count, given)| Asked::Assign(group, start, count, given)
        ),
        3 => (0_u32..6, 0_u32..3, 0_u32..0x40, vec(0_u8..2, 0..3)).prop_map(
            |(group, start, flags, data)| Asked::SetIrqs(group, start, flags, data)
        ),
        1 => (0_u32..7).prop_map(Asked::IrqInfo),
        // The pin: on, masked, unmasked.
        2 => (3_u32..6).prop_map(|action| Asked::SetIrqs(0, 0, 1 | 1 << action, vec![])),
        2 => (0_u8..2).prop_map(|level| Asked::Write(0, 0, vec![level], false)),
    ]
}

fn others() -> impl Strategy<Value = Asked> {
    prop_oneof![
        2 => Just(Asked::Reset),
        1 => (0_u32..12).prop_map(Asked::Feature),
        1 => Just(Asked::StopAndRun),
        1 => Just(Asked::Ring),
        2 => (0_u16..24, vec(any::<u8>(), 0..40))
            .prop_map(|(command, payload)| Asked::Malformed(command, payload)),
    ]
}

/// Whatever happens to one client.
pub(crate) fn anything() -> impl Strategy<Value = Vec<Asked>> {
    let asked = prop_oneof![
        6 => of_regions(),
        5 => of_memory_and_irqs(),
        2 => others(),
        1 => Just(Asked::HandOver),
        3 => (0_u32..8).prop_map(Asked::Die),
    ];
    vec(asked, 1..60)
}
