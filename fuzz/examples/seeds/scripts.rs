//! Scripts for sessions.

use fuzz::session::script::Step;

use crate::Seeds;
use crate::record::recorded;
use crate::steps::{config, frame, map, read, write};

/// The recorded attach on each device, and what a guest does then.
pub(crate) fn sessions() -> Seeds {
    let mut seeds = Seeds::new();
    for (device, name) in ["serial-1", "serial-2", "bochs-4m", "edu-1"]
        .iter()
        .enumerate()
    {
        let attach = recorded("C").into_iter().skip(1);
        let attach: Vec<_> = attach
            .map(|(header, payload, fds)| {
                frame(header.command, payload, vec![fd_of(header.command); fds])
            })
            .collect();
        seeds.push((format!("qemu-{name}"), script(device as u8, 0, &attach)));
        let mut use_it = vec![map(0, 16 << 12, 1), config(4, &[7, 0])];
        use_it.extend(eventfds());
        use_it.extend(match device {
            0 | 1 => serial(),
            2 => bochs(),
            _ => edu(),
        });
        use_it.push(frame(13, vec![], vec![]));
        for answers in [0, 4, 5] {
            let seed = script(device as u8, answers, &use_it);
            seeds.push((format!("use-{name}-{answers}"), seed));
        }
    }
    for device in 0..5 {
        let mut seed = script(device, 0, &migrate());
        // With another client after it, and a socket for the device's own requests.
        (seed[0], seed[1]) = (0xe0 | device, 5 << 2);
        seeds.push((format!("migrate-{device}"), seed));
    }
    for device in 0..5 {
        seeds.push((format!("limits-{device}"), script(device, 0, &limits())));
    }
    let odd = [
        Step::Split(5),
        config(4, &[7, 0]),
        Step::Operator(8),
        map(0, 16 << 12, 1),
        Step::Truncate(1, 0),
        Step::FillEventfd(1),
        Step::Operator(0),
        Step::Settle,
        Step::Raw(&[1; 20], vec![14]),
    ];
    seeds.push(("odd-steps".to_owned(), script(3, 0, &odd)));
    let stop = [config(4, &[7, 0]), Step::Operator(0x55), read(7, 0, 4)];
    seeds.push(("stop-it".to_owned(), script(4, 0, &stop)));
    seeds
}

fn fd_of(command: u16) -> u8 {
    if command == 2 { 1 } else { 8 }
}

fn script(device: u8, answers: u8, steps: &[Step<'_>]) -> Vec<u8> {
    let mut seed = vec![device, 0, answers];
    for step in steps {
        step.write(&mut seed);
    }
    seed
}

fn eventfds() -> Vec<Step<'static>> {
    let set = |index: u32| {
        let words = [20, 0x24, index, 0, 1_u32];
        frame(
            8,
            words.iter().flat_map(|word| word.to_ne_bytes()).collect(),
            vec![8],
        )
    };
    vec![set(0), set(1), set(3)]
}

/// The state is read while the device runs and after, and written back; writes are logged, a
/// doorbell rings, mapped memory is written.
fn migrate() -> Vec<Step<'static>> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let feature = |words: Vec<u8>| frame(16, words, vec![]);
    let set_state = |state: u32| feature(words(&[16, 0x2_0002, state, 0]));
    let mut report = words(&[1 << 12, 0x1_0008]);
    report.extend(
        [0, 16 << 12, 4096_u64]
            .iter()
            .flat_map(|number| number.to_ne_bytes()),
    );
    vec![
        map(0, 16 << 12, 1),
        config(4, &[7, 0]),
        feature(words(&[16, 0x1_0001])),
        feature(words(&[16, 0x1_0002])),
        feature(words(&[15, 0x1_0002])),
        feature(words(&[24, 0x2_0006, 4096, 0, 0, 0])),
        frame(6, words(&[4096, 0, 0, 0]), vec![]),
        frame(5, words(&[32, 0, 0, 0, 0, 0, 0, 0]), vec![]),
        frame(5, words(&[80, 0, 2, 0, 0, 0, 0, 0]), vec![]),
        Step::Ring(0, 3),
        Step::Poke(0, 8, 1),
        write(0, 0x80, &0x1000_u64.to_le_bytes()),
        write(0, 0x90, &0x40_u64.to_le_bytes()),
        set_state(6),
        frame(17, words(&[4104, 4096]), vec![]),
        set_state(3),
        frame(17, words(&[0x1_0008, 0x1_0000]), vec![]),
        set_state(4),
        Step::WriteBack(700),
        set_state(2),
        feature(report),
        feature(words(&[8, 0x2_0007])),
        Step::Operator(6),
        Step::Operator(7),
        set_state(4),
        Step::State(&[0, 2, 4, 1, 7]),
        set_state(1),
        Step::Twin(&[0; 16]),
        frame(13, vec![], vec![]),
    ]
}

/// Accesses around the ends of what there is.
fn limits() -> Vec<Step<'static>> {
    let mut steps = Vec::new();
    for region in 0..9 {
        for (offset, count) in [
            (u64::MAX, 1),
            (u64::MAX - 3, 4),
            (u64::MAX - 3, 8),
            (0, 0),
            (0xfff, 2),
        ] {
            steps.push(read(region, offset, count));
            steps.push(write(region, offset, &vec![0xff; count as usize]));
        }
    }
    steps
}

/// The driver's set-up, and some bytes around the loop.
fn serial() -> Vec<Step<'static>> {
    let registers = [
        (3, 0x83),
        (0, 1),
        (1, 0),
        (3, 3),
        (2, 7),
        (4, 0x1b),
        (1, 0x0f),
        (0, 0x41),
        (0, 0x42),
    ];
    let mut steps: Vec<_> = registers
        .iter()
        .map(|(at, value)| write(0, *at, &[*value]))
        .collect();
    steps.extend((0..8).map(|at| read(0, at, 1)));
    steps
}

/// A mode is set and a picture drawn; the EDID is read.
fn bochs() -> Vec<Step<'static>> {
    let registers = [
        (4, 0_u16),
        (1, 640),
        (2, 480),
        (3, 32),
        (6, 640),
        (7, 960),
        (8, 0),
        (9, 0),
        (4, 0x41),
    ];
    let at = |register: u64| 0x500 + register * 2;
    let mut steps: Vec<_> = registers
        .iter()
        .map(|(it, value)| write(2, at(*it), &value.to_le_bytes()))
        .collect();
    steps.extend([
        read(2, 0, 128),
        write(0, 0, &[0x55; 64]),
        read(2, 0x600, 8),
        write(2, 0x604, &[0x1e; 4]),
    ]);
    steps
}

/// A factorial, memory there and back by DMA, an interrupt acknowledged.
fn edu() -> Vec<Step<'static>> {
    let long = |at: u64, value: u64| write(0, at, &value.to_le_bytes());
    vec![
        write(0, 4, &[1, 2, 3, 4]),
        write(0, 0x20, &[0x80, 0, 0, 0]),
        write(0, 8, &[5, 0, 0, 0]),
        read(0, 0x20, 4),
        long(0x80, 0x100),
        long(0x88, 0x40000),
        long(0x90, 0x200),
        long(0x98, 5),
        Step::Settle,
        read(0, 0x98, 8),
        long(0x80, 0x40000),
        long(0x88, 0x1800),
        long(0x90, 0x1000),
        long(0x98, 7),
        Step::Settle,
        read(0, 0xa0, 4),
        write(0, 0x64, &[1, 1, 0, 0]),
    ]
}
