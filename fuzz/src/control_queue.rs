//! Commands of a driver to the GPU: any bytes, in chains that are sound.

use mdev::device::Reset;
use mdev::migration::snapshot;
use mdev::polling::Polling;

use crate::descriptors::OpenDescriptors;
use crate::input::Input;
use crate::rig::{Descriptor, End, NEXT, QUEUE, RAM, Rig, WRITE};

/// Most commands of an input.
const STEPS: usize = 64;

/// Where a command, its table and the answer lie; the rest is backing.
const REQUEST: u64 = 0x1_0000;
const TABLE: u64 = 0x2_0000;
const ANSWER: u64 = 0x2_1000;
/// Room behind an answer that stays as it is.
const BEHIND: usize = 64;
const UNTOUCHED: u8 = 0xee;

/// Commands of the specification, those of three dimensions and of the cursor as well.
const COMMANDS: [u32; 24] = [
    0x100,
    0x101,
    0x102,
    0x103,
    0x104,
    0x105,
    0x106,
    0x107,
    0x108,
    0x109,
    0x10a,
    0x10b,
    0x10c,
    0x10d,
    0x200,
    0x201,
    0x202,
    0x203,
    0x207,
    0x208,
    0x300,
    0x301,
    0,
    u32::MAX,
];

/// Features: tables, and events.
const FEATURES: [u64; 4] = [0, 1 << 28, 1 << 29, 1 << 28 | 1 << 29];

/// Sends commands, and checks what each is answered.
///
/// # Panics
///
/// If an answer is none, or is longer than it says, or than there is room; if something else than the
/// answer is written; if the device wants a reset, cannot be saved and taken up again as it is, or
/// does not work afterwards.
pub fn control_queue(data: &[u8]) {
    let descriptors = OpenDescriptors::count();
    let mut input = Input::new(data);
    let mut rig = Rig::new(Polling::Off);
    let features = FEATURES[usize::from(input.u8()) % FEATURES.len()];
    // A feature of the device's own or two: EDID, UUIDs, blobs.
    let own = u64::from(input.u8() & 0b1_1110) & offered(&mut rig);
    rig.set_up(features | own);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let has_tables = features & (1 << 28) != 0;
        step(&mut rig, &mut input, has_tables);
    }
    check_saved(&mut rig);
    rig.device.reset(Reset::Close);
    rig.check_margins();
    rig.check_that_it_works();
    drop(rig);
    descriptors.check();
}

/// The features of the device's own.
fn offered(rig: &mut Rig) -> u64 {
    let mut features = [0; 4];
    rig.write(0, &[0; 4]);
    assert!(rig.read(4, &mut features), "no features");
    u32::from_le_bytes(features).into()
}

fn step(rig: &mut Rig, input: &mut Input<'_>, has_tables: bool) {
    let form = input.u8();
    let queue = u16::from(form & 0x0f == 0x0f);
    let request = request(input);
    let room = match form & 0x30 {
        0x00 => 24,
        0x10 => 1080,
        _ => input.number() % 2048,
    };
    rig.put(REQUEST, &request);
    rig.put(ANSWER, &vec![UNTOUCHED; room as usize + BEHIND]);
    let chain = chain(request.len() as u64, room, form & 0x40 != 0);
    let base = u64::from(queue) * QUEUE;
    if has_tables && form & 0x80 != 0 {
        rig.describe(TABLE, &chain);
        rig.describe(base, &[(TABLE, 16 * chain.len() as u32, 4, 0)]);
    } else {
        rig.describe(base, &chain);
    }
    rig.kick(queue);
    let End::Used(len) = rig.wait(queue) else {
        panic!("the device wants a reset");
    };
    check_answer(rig, &request, room as usize, len as usize);
}

/// A command, whole or cut.
fn request(input: &mut Input<'_>) -> Vec<u8> {
    let command = COMMANDS[usize::from(input.u8()) % COMMANDS.len()];
    let flags = input.u8();
    let mut request = command.to_le_bytes().to_vec();
    request.extend(u32::from(flags & 3).to_le_bytes());
    request.extend(u64::from(flags).to_le_bytes());
    request.extend([flags, 0, 0, 0, flags, 0, 0, 0]);
    let words = usize::from(input.u8());
    for _ in 0..words.min(200) {
        request.extend((input.number() as u32).to_le_bytes());
    }
    if flags & 0x80 != 0 {
        request.truncate(usize::from(input.u8()));
    }
    request
}

/// Its buffers, in one piece each or cut in two.
fn chain(len: u64, room: u64, is_cut: bool) -> Vec<Descriptor> {
    let pieces = |at: u64, len: u64, flags: u16| {
        let first = if is_cut { len / 3 } else { len };
        [(at, first, flags), (at + first, len - first, flags)]
            .into_iter()
            .take(if is_cut { 2 } else { 1 })
    };
    let buffers: Vec<_> = pieces(REQUEST, len, 0)
        .chain(pieces(ANSWER, room, WRITE))
        .collect();
    let last = buffers.len() - 1;
    let describe = |(number, (at, len, flags)): (usize, (u64, u64, u16))| {
        let next = if number < last { NEXT } else { 0 };
        (at, len as u32, flags | next, number as u16 + 1)
    };
    buffers.into_iter().enumerate().map(describe).collect()
}

fn check_answer(rig: &Rig, request: &[u8], room: usize, len: usize) {
    assert!(len <= room, "{len} bytes, and there is room for {room}");
    let answer = rig.look(ANSWER, room + BEHIND);
    let (answer, behind) = answer.split_at(len);
    let is_untouched = behind.iter().all(|byte| *byte == UNTOUCHED);
    assert!(is_untouched, "written behind the answer");
    let word = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..at + 4)?.first_chunk().copied()?;
        Some(u32::from_le_bytes(bytes))
    };
    let Some(kind) = word(answer, 0) else {
        assert_eq!(len, 0, "half an answer");
        assert!(room < 24, "no answer");
        return;
    };
    assert!(len >= 24, "half an answer");
    let is_known = (0x1100..0x1110).contains(&kind) || (0x1200..0x1210).contains(&kind);
    assert!(is_known, "an answer {kind:#x}");
    if request.len() >= 24 && request[4] & 1 != 0 {
        assert_eq!(answer[8..16], request[8..16], "a fence comes back");
    }
}

/// What is saved of the device is what another one has then. That one stands still: what its rings
/// say lies in the memory of this one's guest.
fn check_saved(rig: &mut Rig) {
    let mut saved = Vec::new();
    snapshot::save(&mut *rig.device, &mut saved).expect("it can be saved");
    let mut other = Rig::new(Polling::Off);
    let taken = snapshot::restore(&mut *other.device, &mut &saved[..]);
    taken.expect("what was saved is taken");
    assert_eq!(registers(&mut other), registers(rig), "saved, taken, saved");
}

fn registers(rig: &mut Rig) -> Vec<u8> {
    let migration = rig.device.migration().expect("it can be saved");
    migration.stop();
    let mut registers = Vec::new();
    migration.save(&mut registers);
    registers
}

const _: () = assert!(ANSWER + 4096 < RAM);
