//! Seeds of the virtio targets: a driver that draws, and one that sets up, resets and moves.

use fuzz::input::{write_len, write_number};

use super::Seeds;

/// One of each command, in an order in which most are done.
pub(crate) fn control_queues() -> Seeds {
    let mut seeds = Seeds::new();
    for (name, features, form) in [("plain", 0, 0x00), ("cut-in-tables", 3, 0xc0)] {
        let mut seed = vec![features, 0xff];
        // A form, the place of a command in the target's list, and its words.
        let mut add = |form: u8, command: u8, words: &[u64]| {
            seed.extend([form, command, 1, words.len() as u8]);
            words.iter().for_each(|it| write_number(*it, &mut seed));
        };
        let (short, long, cursor) = (form, form | 0x10, form | 0x0f);
        let ram = 0x3_0000;
        add(long, 0, &[]);
        add(long, 10, &[0, 0]);
        add(short, 1, &[1, 1, 8, 8]);
        add(short, 6, &[1, 2, ram, 0, 128, 0, ram + 256, 0, 128, 0]);
        add(short, 3, &[0, 0, 8, 8, 0, 1]);
        add(short, 5, &[0, 0, 8, 8, 0, 0, 1, 0]);
        add(short, 4, &[0, 0, 8, 8, 1, 0]);
        add(short, 12, &[2, 1, 0, 1, 0, 0, 4096, 0, ram, 0, 4096, 0]);
        add(
            short,
            13,
            &[0, 0, 8, 8, 0, 2, 8, 8, 1, 0, 32, 0, 0, 0, 0, 0],
        );
        add(long, 11, &[2, 0]);
        add(short, 1, &[3, 1, 64, 64]);
        add(cursor, 20, &[0, 5, 5, 0, 3, 1, 1, 0]);
        add(cursor, 21, &[0, 9, 9, 0, 3, 1, 1, 0]);
        add(short, 7, &[1, 0]);
        add(short, 2, &[1, 0]);
        add(short, 9, &[0, 0]);
        add(short, 14, &[]);
        seeds.push((format!("draws-{name}"), seed));
    }
    seeds
}

/// A command in a ring, and what may come between it and the next.
pub(crate) fn transports() -> Seeds {
    let events = [
        ("nothing", vec![]),
        ("queue-reset", vec![0, 13, 1, 11, 0]),
        ("reset", vec![12, 0]),
        ("moves", vec![14, 1, 14, 0, 15, 0]),
        ("unmap", vec![13, 0, 13, 1]),
        // Where it is open, how far, and a look through it and a write.
        (
            "window-status",
            vec![3, 1, 0, 3, 2, 0x14, 3, 4, 1, 3, 0x85, 1],
        ),
    ];
    let mut seeds = Seeds::new();
    for (polling, (name, between)) in (0..).zip(events) {
        let mut seed = vec![polling];
        for _ in 0..2 {
            set_up(&mut seed);
            for _ in 0..3 {
                command(&mut seed);
            }
            seed.extend(&between);
            command(&mut seed);
        }
        seeds.push((format!("driver-{name}"), seed));
    }
    seeds
}

fn set_up(seed: &mut Vec<u8>) {
    seed.push(10);
    write_number(1 << 40 | 2, seed);
    seed.push(4);
}

/// GET_DISPLAY_INFO.
fn command(seed: &mut Vec<u8>) {
    let (request, answer) = (0x1_0000, 0x1_1000);
    seed.push(5);
    write_number(request, seed);
    write_len(4, seed);
    seed.extend([0, 1, 0, 0]);
    for (number, flags, at, len) in [(0, 1, request, 24), (1, 2, answer, 408)] {
        seed.extend([6, number, flags, 1]);
        write_number(at, seed);
        write_number(len, seed);
    }
    seed.extend([8, 1, 0, 14, 0]);
}
