//! QEMU 11.1.3 attaching to a device: `vfu/tests/protocol/qemu_attach.rs` tells of it.

use vfu::wire::Header;

const RECORDED: &str = include_str!("../../../vfu/tests/protocol/qemu_attach.txt");

/// Header, payload and number of descriptors of each message, the server's or the client's.
pub(crate) fn recorded(of: &str) -> Vec<(Header, Vec<u8>, usize)> {
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
