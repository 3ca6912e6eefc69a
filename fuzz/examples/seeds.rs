//! Writes the inputs that fuzzing begins with: what QEMU was recorded to send, and scripts that
//! reach deep into each device. `seeds DIRECTORY` makes a folder for each target.

#![expect(clippy::expect_used, reason = "it is run by hand")]

use std::fs;
use std::path::Path;

use fuzz::input::write_number;
use fuzz::session::script::{Message, Step};
use vfu::wire::Header;

/// QEMU 11.1.3 attaching to a device: `vfu/tests/protocol/qemu_attach.rs` tells of it.
const RECORDED: &str = include_str!("../../vfu/tests/protocol/qemu_attach.txt");

fn main() {
    let root = std::env::args_os()
        .nth(1)
        .expect("the directory to write to");
    let root = Path::new(&root);
    for (target, seeds) in [
        ("frame", frames()),
        ("session", sessions()),
        ("dma_table", tables()),
        ("state", states()),
    ] {
        let directory = root.join(target);
        fs::create_dir_all(&directory).expect("it can be made");
        for (name, bytes) in seeds {
            fs::write(directory.join(name), bytes).expect("it can be written");
        }
    }
}

type Seeds = Vec<(String, Vec<u8>)>;

/// Header, payload and number of descriptors of each message, the server's or the client's.
fn recorded(of: &str) -> Vec<(Header, Vec<u8>, usize)> {
    let lines = RECORDED.lines().filter(|line| !line.starts_with('#'));
    let own = lines.filter(|line| line.split(' ').nth(1) == Some(of));
    own.map(|line| {
        let mut words = line.split_whitespace().skip(2);
        let header = hex(words.next().expect("a header"));
        let header = Header::parse(&header).expect("a header");
        let mut payload = Vec::new();
        let mut fds = 0;
        for word in words {
            match word {
                "+1fd" => fds += 1,
                bytes => payload = hex(bytes),
            }
        }
        payload.resize(header.size as usize - Header::LEN, 0);
        (header, payload, fds)
    })
    .collect()
}

fn hex(text: &str) -> Vec<u8> {
    let places = (0..text.len()).step_by(2);
    let digits = places.map(|at| u8::from_str_radix(&text[at..at + 2], 16));
    digits.collect::<Result<_, _>>().expect("hexadecimal")
}

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
    vec![("all-actions".to_owned(), seed)]
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

/// The recorded attach on each device, and what a guest does then.
fn sessions() -> Seeds {
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
    seeds.push(("odd".to_owned(), script(3, 0, &odd)));
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

fn frame(command: u16, payload: Vec<u8>, fds: Vec<u8>) -> Step<'static> {
    Step::Command(Message {
        command,
        payload,
        fds,
        ..Message::default()
    })
}

fn access(command: u16, region: u32, offset: u64, count: u32, data: &[u8]) -> Step<'static> {
    let mut payload = offset.to_ne_bytes().to_vec();
    payload.extend(region.to_ne_bytes());
    payload.extend(count.to_ne_bytes());
    payload.extend(data);
    frame(command, payload, vec![])
}

fn read(region: u32, offset: u64, count: u32) -> Step<'static> {
    access(9, region, offset, count, &[])
}

fn write(region: u32, offset: u64, data: &[u8]) -> Step<'static> {
    access(10, region, offset, data.len() as u32, data)
}

fn config(offset: u64, data: &[u8]) -> Step<'static> {
    write(7, offset, data)
}

fn map(iova: u64, size: u64, file: u8) -> Step<'static> {
    let mut payload = [32_u32.to_ne_bytes(), 3_u32.to_ne_bytes()].concat();
    payload.extend(
        [0, iova, size]
            .iter()
            .flat_map(|number| number.to_ne_bytes()),
    );
    frame(2, payload, vec![file])
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
