//! Writes the inputs that fuzzing begins with: what QEMU was recorded to send, and scripts that
//! reach deep into each device. `seeds DIRECTORY` makes a folder for each target.

#![expect(clippy::expect_used, reason = "it is run by hand")]

mod record;
mod scripts;
mod steps;
mod virtio;

use std::fs;
use std::path::Path;

use fuzz::input::write_number;
use record::recorded;

fn main() {
    let root = std::env::args_os()
        .nth(1)
        .expect("the directory to write to");
    let root = Path::new(&root);
    for (target, seeds) in [
        ("frame", frames()),
        ("session", scripts::sessions()),
        ("dma_table", tables()),
        ("state", states()),
        ("control_queue", virtio::control_queues()),
        ("transport", virtio::transports()),
    ] {
        let directory = root.join(target);
        fs::create_dir_all(&directory).expect("it can be made");
        for (name, bytes) in seeds {
            fs::write(directory.join(name), bytes).expect("it can be written");
        }
    }
}

type Seeds = Vec<(String, Vec<u8>)>;

/// Both sides of the record, in several pieces each.
fn frames() -> Seeds {
    let mut seeds = Seeds::new();
    for side in ["C", "S"] {
        for (name, pieces) in [
            ("whole", 0x3f_u8),
            ("bytes", 0x00),
            ("fds", 0x7f),
            ("mixed", 0x4a),
        ] {
            let mut seed = vec![0, pieces];
            for (header, payload, _) in recorded(side) {
                seed.extend(header.to_bytes());
                seed.extend(payload);
            }
            seeds.push((format!("qemu-{side}-{name}"), seed));
        }
    }
    seeds
}

fn tables() -> Seeds {
    let mut seed = vec![0];
    let mut add = |bytes: &[u8], numbers: &[u64]| {
        seed.extend(bytes);
        for number in numbers {
            write_number(*number, &mut seed);
        }
    };
    let pages = |count: u64| count * 4096;
    add(&[0, 0], &[0, pages(4), 0]);
    add(&[0, 0], &[pages(4), pages(4), pages(2)]);
    add(&[0, 7], &[1 << 40, 1 << 36, 0]);
    add(&[12], &[1 << 20]);
    add(&[9], &[pages(3) + 5, pages(2)]);
    add(&[10], &[pages(1), pages(2) + 1]);
    add(&[14], &[0, pages(8)]);
    add(&[8], &[pages(3), pages(2)]);
    add(&[7], &[pages(5), 17]);
    add(&[4], &[0, pages(4)]);
    add(&[14], &[0, pages(8)]);
    add(&[6], &[]);
    vec![
        ("all-actions".to_owned(), seed),
        ("full-log".to_owned(), full_log()),
    ]
}

/// A log with room for one mapping's bits, mapping after mapping; and one of two words, both ends
/// of each written.
fn full_log() -> Vec<u8> {
    let mut seed = vec![0, 12, 8];
    let mut add = |bytes: &[u8], numbers: &[u64]| {
        seed.extend(bytes);
        for number in numbers {
            write_number(*number, &mut seed);
        }
    };
    for _ in 0..3 {
        add(&[0, 0], &[0, 4096, 0]);
        add(&[0, 0], &[8192, 4096, 0]);
        add(&[4], &[0, 4096]);
    }
    add(&[13, 12], &[16]);
    add(&[0, 0], &[0, 70 << 12, 0]);
    for page in [0, 62, 63, 64, 69] {
        add(&[9], &[page << 12, 1]);
    }
    add(&[14], &[0, 70 << 12]);
    add(&[9], &[(63 << 12) + 4095, 2]);
    add(&[14], &[62 << 12, 3 << 12]);
    seed
}

/// For each device its state as it is, and with one change each of some kinds.
fn states() -> Seeds {
    let mut seeds = Seeds::new();
    for device in 0..5 {
        let mut add = |name: &str, edits: &[u8]| {
            let seed = [&[device, 2, 0x20], edits].concat();
            seeds.push((format!("{name}-{device}"), seed));
        };
        add("good", &[]);
        add(
            "registers",
            &[0, 2, 4, 3, 0xff, 1, 2, 0, 3, 4, 3, 0xff, 1, 2],
        );
        add("sections", &[9, 1, 8, 2, 14, 1, 1, 4, 0, 0, 0, 0, 15, 0, 1]);
        add(
            "bytes",
            &[5, 0, 2, 6, 1, 1, 7, 2, 3, 13, 0, 9, 1, 11, 0, 0x3f],
        );
        add(
            "memory",
            &[
                14, 1, 1, 18, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 9, 9,
            ],
        );
    }
    seeds
}
