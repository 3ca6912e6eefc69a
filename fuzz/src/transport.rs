//! The virtio transport: any accesses to registers and configuration space, with any rings in
//! memory, and memory that comes and goes.

use std::time::Duration;

use mdev::device::Reset;
use mdev::migration::snapshot;
use mdev::polling::Polling;
use mdev::region::RegionIndex;

use crate::descriptors::OpenDescriptors;
use crate::input::Input;
use crate::rig::{AVAILABLE, NOTIFY, QUEUE, QUEUES, RAM, Rig};

/// Most steps of an input.
const STEPS: usize = 200;

/// Registers that something depends on, and how long each is.
const REGISTERS: [(u64, usize); 20] = [
    (0x00, 4),
    (0x08, 4),
    (0x0c, 4),
    (0x10, 2),
    (0x14, 1),
    (0x16, 2),
    (0x18, 2),
    (0x1a, 2),
    (0x1c, 2),
    (0x20, 8),
    (0x24, 4),
    (0x28, 8),
    (0x30, 8),
    (0x3a, 2),
    (0x1000, 1),
    (0x2000, 4),
    (0x2004, 4),
    (0x3000, 2),
    (0x3004, 2),
    (0x3008, 2),
];

/// Values that they are mostly given.
const VALUES: [u64; 8] = [0, 1, 3, 11, 15, 0x4b, 2, 16];

const LENGTHS: [usize; 4] = [1, 2, 4, 8];

const FEATURES: u64 = 1 << 28 | 1 << 29 | 1 << 40 | 0x1e;

/// Does what the input says, and then what a driver does.
///
/// # Panics
///
/// If something is written to memory that is not mapped, if the device hangs, or if it does not work
/// afterwards.
pub fn transport(data: &[u8]) {
    let descriptors = OpenDescriptors::count();
    let mut input = Input::new(data);
    let polling = match input.u8() % 3 {
        0 => Polling::Off,
        1 => Polling::Adaptive,
        _ => Polling::Fixed(Duration::from_micros(20)),
    };
    let mut rig = Rig::new(polling);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut rig, &mut input);
    }
    rig.check_margins();
    rig.device.reset(Reset::Close);
    rig.check_that_it_works();
    drop(rig);
    descriptors.check();
}

fn step(rig: &mut Rig, input: &mut Input<'_>) {
    match input.u8() % 16 {
        0 | 1 => write_register(rig, input),
        2 => read_register(rig, input),
        3 => write_config(rig, input),
        4 => {
            let len = 1 + usize::from(input.u8() % 32);
            rig.device.read_config(input.number(), &mut vec![0; len]);
        }
        5 => {
            let at = input.number() % RAM;
            let len = input.len().min((RAM - at) as usize);
            let bytes = input.bytes(len);
            rig.put(at, bytes);
        }
        6 | 7 => describe(rig, input),
        8 | 9 => offer(rig, input),
        10 => {
            let features = input.number() & FEATURES | u64::from(input.u8() & 6) << 28;
            rig.set_up(features);
        }
        11 => rig.set_up_queue(u16::from(input.u8()) % QUEUES),
        12 => reset(rig, input.u8()),
        13 => rig.set_mapped(input.u8() & 1 != 0),
        14 => stop(rig, input.u8()),
        _ => {
            let modes = ["640x480", "1920x1080", "1x1"];
            let mode = modes[usize::from(input.u8()) % modes.len()];
            let _ = rig.device.set_attribute("mode", mode);
        }
    }
}

/// A register that there is, or any; of its length, or any.
fn place(input: &mut Input<'_>) -> (u64, usize) {
    match input.u8() {
        any @ 0xf0.. => (input.number(), LENGTHS[usize::from(any) % LENGTHS.len()]),
        known => REGISTERS[usize::from(known) % REGISTERS.len()],
    }
}

/// Whether an access lies in the registers: no other comes to a device.
fn is_inside(rig: &Rig, at: u64, len: usize) -> bool {
    let size = rig.device.regions().region(RegionIndex::Bar0).size;
    at.checked_add(len as u64).is_some_and(|end| end <= size)
}

fn write_register(rig: &mut Rig, input: &mut Input<'_>) {
    let (at, len) = place(input);
    let value = match input.u8() {
        any @ 0x80.. => input.number() ^ u64::from(any & 1),
        known => VALUES[usize::from(known) % VALUES.len()],
    };
    if is_inside(rig, at, len) {
        rig.write(at, &value.to_le_bytes()[..len]);
    }
}

fn read_register(rig: &mut Rig, input: &mut Input<'_>) {
    let (at, len) = place(input);
    if is_inside(rig, at, len) {
        let _ = rig.read(at, &mut vec![0; len]);
    }
}

/// Mostly the window: where it is open, and what is written through it.
fn write_config(rig: &mut Rig, input: &mut Input<'_>) {
    let capabilities = rig.device.config().vendor_capabilities();
    let window = capabilities.last().map_or(0, |it| it.start) as u64;
    let form = input.u8();
    let (at, len) = match form & 7 {
        0 => (input.number(), LENGTHS[usize::from(form >> 3) % 4]),
        1 => (window + 4, 1),
        2 | 3 => (window + 8, 4),
        4 => (window + 12, 4),
        _ => (window + 16, LENGTHS[usize::from(form >> 3) % 3]),
    };
    let data = input.number().to_le_bytes();
    let _ = rig.device.write_config(at, &data[..len]);
    if form & 0x80 != 0 {
        rig.device.read_config(window + 16, &mut [0; 4]);
    }
}

/// A descriptor of a queue's table.
fn describe(rig: &mut Rig, input: &mut Input<'_>) {
    let which = input.u8();
    let (queue, number) = (u64::from(which >> 7), u64::from(which % 20));
    let (flags, next) = (u16::from(input.u8() % 8), u16::from(input.u8() % 20));
    let descriptor = (input.number(), input.number() as u32, flags, next);
    rig.describe(queue * QUEUE + 16 * number, &[descriptor]);
}

/// Entries and the index of an available ring, and mostly a notification.
fn offer(rig: &mut Rig, input: &mut Input<'_>) {
    let which = input.u8();
    let queue = u64::from(which >> 7);
    let ring = queue * QUEUE + AVAILABLE;
    let head = u16::from(input.u8() % 20);
    for slot in 0..16 {
        rig.put(ring + 4 + 2 * slot, &head.to_le_bytes());
    }
    let index = match which & 3 {
        0 => input.number() as u16,
        more => {
            let now = rig.look(ring + 2, 2);
            let now = now.first_chunk().copied().unwrap_or_default();
            u16::from_le_bytes(now).wrapping_add(more.into())
        }
    };
    rig.put(ring + 2, &index.to_le_bytes());
    if which & 0x40 == 0 {
        rig.write(NOTIFY + 4 * queue, &[queue as u8, 0]);
    }
}

fn reset(rig: &mut Rig, how: u8) {
    let cause = match how % 3 {
        0 => Reset::Device,
        1 => Reset::Function,
        _ => Reset::Close,
    };
    rig.device.reset(cause);
}

/// Stops the device, which ends what is under way, and has it go on: as it is, or as it was saved.
fn stop(rig: &mut Rig, how: u8) {
    if how & 1 == 0 {
        let migration = rig.device.migration().expect("it can be saved");
        migration.stop();
        migration.resume();
        return;
    }
    let mut saved = Vec::new();
    snapshot::save(&mut *rig.device, &mut saved).expect("it can be saved");
    let taken = snapshot::restore(&mut *rig.device, &mut &saved[..]);
    taken.expect("what was saved is taken");
    let migration = rig.device.migration();
    migration.expect("it can be saved").resume();
}
