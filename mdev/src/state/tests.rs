//! The stream, as it is cut, damaged and forged.

use proptest::prelude::*;

use super::*;
use crate::region_memory::RegionMemory;

const KIND: &str = "test-1";
const VERSION: u32 = 2;
const MEMORIES: [u64; 2] = [8192, 4096];

fn decoder() -> Decoder {
    Decoder::new(KIND, VERSION, MEMORIES).unwrap()
}

/// What comes of a stream that is fed in pieces.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<decode::Decoded, StateError> {
    let mut decoder = decoder();
    for piece in pieces {
        decoder.feed(piece)?;
    }
    decoder.finish()
}

/// The words for what is wrong with a stream.
fn fault(stream: &[u8]) -> Option<String> {
    decode([stream]).err().map(|error| error.to_string())
}

fn section(tag: &[u8; 4], version: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = tag.to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(body);
    let crc = crc32fast::hash(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

fn head() -> Vec<u8> {
    [&MAGIC[..], &section(b"HEAD", 1, KIND.as_bytes())].concat()
}

fn end(sections: u32) -> Vec<u8> {
    section(b"END ", 1, &sections.to_le_bytes())
}

/// A run of a memory, as it is announced.
fn run(memory: u32, offset: u64, len: u32, bytes: &[u8]) -> Vec<u8> {
    let mut body = memory.to_le_bytes().to_vec();
    body.extend(offset.to_le_bytes());
    body.extend(len.to_le_bytes());
    body.extend(bytes);
    section(b"MEM ", 1, &body)
}

/// A small stream with a section of each kind.
fn stream() -> Vec<u8> {
    let mut encoder = Encoder::new(KIND);
    encoder.memory(0, 8190, &[1, 2]);
    encoder.memory(1, 0, &[3; 40]);
    encoder.memory(0, 0, &[4; 8]);
    encoder.config(b"configuration");
    encoder.registers(VERSION, |out| out.extend([5; 24]));
    encoder.end();
    let mut stream = Vec::new();
    encoder.take(usize::MAX, &mut stream);
    stream
}

fn contents(memory: &RegionMemory) -> Vec<u8> {
    let mut bytes = vec![0; memory.len() as usize];
    memory.read(0, &mut bytes).unwrap();
    bytes
}

fn check(decoded: &decode::Decoded) {
    let [first, second] = &decoded.memories[..] else {
        panic!("there are two memories");
    };
    let (first, second) = (contents(first), contents(second));
    assert_eq!(
        (&first[..9], &first[8189..]),
        (&[4, 4, 4, 4, 4, 4, 4, 4, 0][..], &[0, 1, 2][..])
    );
    assert_eq!(
        (&second[..40], &second[40..44]),
        (&[3; 40][..], &[0; 4][..])
    );
    assert_eq!(decoded.config, b"configuration");
    let (version, fields) = decoded.registers();
    assert_eq!((version, fields.rest()), (VERSION, &[5; 24][..]));
}

proptest! {
    #[test]
    fn a_stream_decodes_the_same_however_it_is_cut(
        cuts in prop::collection::vec(0..60_usize, 0..80),
    ) {
        let stream = stream();
        let mut rest = &stream[..];
        let mut pieces = Vec::new();
        for cut in cuts {
            let (piece, later) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = later;
        }
        pieces.push(rest);
        check(&decode(pieces).unwrap());
    }

    #[test]
    fn what_is_taken_of_an_encoder_is_the_stream_in_whatever_pieces(
        sizes in prop::collection::vec(1..70_usize, 1..20),
    ) {
        let mut encoder = Encoder::new(KIND);
        let mut taken = Vec::new();
        for (at, max) in (0..).step_by(64).zip(sizes) {
            encoder.memory(0, at, &[at as u8; 64]);
            encoder.take(max, &mut taken);
        }
        let left = encoder.len();
        encoder.take(left, &mut taken);
        prop_assert!(encoder.is_empty());
        let mut whole = Encoder::new(KIND);
        for at in (0..).step_by(64).take((taken.len() - head().len()) / 96) {
            whole.memory(0, at, &[at as u8; 64]);
        }
        let mut expected = Vec::new();
        whole.take(usize::MAX, &mut expected);
        prop_assert_eq!(taken, expected);
    }
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let stream = stream();
    assert_eq!(fault(&stream), None);
    for len in 0..stream.len() {
        assert!(fault(&stream[..len]).is_some(), "{len} bytes");
    }
    let mut flipped = stream.clone();
    for bit in 0..8 * stream.len() {
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(fault(&flipped).is_some(), "bit {bit}");
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn sections_come_in_order_and_each_but_memory_once() {
    let [memory, config, registers] = [
        run(0, 0, 1, &[1]),
        section(b"CONF", 1, b"c"),
        section(b"REGS", 1, b"r"),
    ];
    let words = |what: &str| Some(format!("the {what} of the state are not where they belong"));
    let cut_off = Some("the state is cut off".to_owned());
    let cases: [(&[&[u8]], _); 12] = [
        (&[&config, &registers, &end(3)], None),
        (&[&memory, &memory, &config, &registers, &end(5)], None),
        (&[&memory, &config, &registers], cut_off.clone()),
        (&[&config, &registers, &end(3)[..19]], cut_off.clone()),
        (&[], cut_off),
        (&[&section(b"HEAD", 1, KIND.as_bytes())], words("head")),
        (&[&registers], words("registers")),
        (&[&end(1)], words("end")),
        (&[&config, &end(2)], words("end")),
        (&[&config, &memory], words("memory")),
        (&[&config, &config], words("configuration space")),
        (&[&config, &registers, &registers], words("registers")),
    ];
    for (sections, expected) in cases {
        let stream = [&head()[..], &sections.concat()].concat();
        assert_eq!(fault(&stream), expected, "{}", stream.escape_ascii());
    }
    let no_head = [&MAGIC[..], &config].concat();
    assert_eq!(fault(&no_head), words("configuration space"));
}

#[test]
fn what_a_section_says_is_judged() {
    let senseless = |tag: &str, why: &str| format!("the {tag} of the state make no sense: {why}");
    let memory = |why: &str| senseless("memory", why);
    let version = |tag: &str, found: u32, known: u32| {
        format!("the {tag} of the state have version {found}, and at most {known} is known here")
    };
    let config = section(b"CONF", 1, b"");
    for (bytes, words) in [
        (run(0, 8192, 1, &[1]), memory("they reach past the end")),
        (run(0, 8191, 2, &[1; 2]), memory("they reach past the end")),
        (run(0, u64::MAX, 1, &[1]), memory("they reach past the end")),
        (run(0, u64::MAX, 0, &[]), memory("they reach past the end")),
        (run(0, 0, 2, &[1]), memory("they are too short")),
        (run(0, 0, u32::MAX, &[1]), memory("they are too short")),
        (run(0, 0, 1, &[1, 2]), memory("they are too short")),
        (section(b"MEM ", 1, &[0; 3]), memory("they are too short")),
        (run(2, 0, 1, &[1]), memory("the device has no such memory")),
        (
            run(u32::MAX, 0, 1, &[1]),
            memory("the device has no such memory"),
        ),
        (section(b"MEM ", 0, &[0; 4]), version("memory", 0, 1)),
        (section(b"MEM ", 2, &[0; 4]), version("memory", 2, 1)),
        (
            section(b"CONF", 2, b""),
            version("configuration space", 2, 1),
        ),
        (
            [config.clone(), section(b"REGS", 0, b"")].concat(),
            version("registers", 0, VERSION),
        ),
        (
            [config.clone(), section(b"REGS", 3, b"")].concat(),
            version("registers", 3, VERSION),
        ),
        (
            [config.clone(), section(b"REGS", 1, b""), end(2)].concat(),
            senseless("end", "sections are missing"),
        ),
        (
            [
                config,
                section(b"REGS", 1, b""),
                section(b"END ", 1, &[3, 0, 0, 0, 0]),
            ]
            .concat(),
            senseless("end", "they are too long"),
        ),
        (
            section(b"A\nB\x1b", 1, b""),
            r"the state has a section 'A\nB\x1b' that is not known here".to_owned(),
        ),
    ] {
        let stream = [head(), bytes].concat();
        assert_eq!(fault(&stream), Some(words), "{}", stream.escape_ascii());
    }
    let too_new = [&MAGIC[..], &section(b"HEAD", 2, KIND.as_bytes())].concat();
    assert_eq!(fault(&too_new), Some(version("head", 2, 1)));
}

#[test]
fn a_state_of_another_type_is_named_in_words_that_a_log_can_hold() {
    for (kind, shown) in [
        (&b"test-2"[..], "test-2"),
        (b"", ""),
        (b"a\n\x1b[31m\xff", r"a\n\x1b[31m\xff"),
        (&[b'a'; 100], &"a".repeat(64)),
    ] {
        let foreign = [&MAGIC[..], &section(b"HEAD", 1, kind)].concat();
        let words = format!("the state is of a '{shown}', and this is a '{KIND}'");
        assert_eq!(fault(&foreign), Some(words));
    }
}

#[test]
fn nothing_follows_the_end() {
    let stream = stream();
    let words = Some("something follows the end of the state".to_owned());
    for more in [&[0][..], b"vgpudst\n", &stream] {
        assert_eq!(fault(&[&stream, more].concat()), words);
        let mut decoder = decoder();
        decoder.feed(&stream).unwrap();
        decoder.feed(&[]).unwrap();
        assert!(decoder.feed(more).is_err());
        assert!(decoder.finish().is_err(), "it is no state any more");
    }
}

#[test]
fn after_an_error_nothing_more_is_taken() {
    let stream = stream();
    for bad in [&b"GIF89a"[..], &[&head()[..], b"WHAT56781234"].concat()] {
        let mut decoder = decoder();
        assert!(decoder.feed(bad).is_err());
        for piece in [&stream[..], &[], &MAGIC] {
            let error = decoder.feed(piece).unwrap_err();
            assert!(matches!(error, StateError::NotAState));
        }
        assert!(matches!(decoder.finish(), Err(StateError::NotAState)));
    }
}

#[test]
fn a_section_that_is_too_long_is_refused_by_its_head() {
    let head_of = |len: u32| {
        let mut bytes = section(b"CONF", 1, b"");
        bytes.truncate(8);
        bytes.extend(len.to_le_bytes());
        [head(), bytes].concat()
    };
    for len in [MAX_SECTION as u32 + 1, u32::MAX] {
        let error = decoder().feed(&head_of(len)).unwrap_err();
        assert!(matches!(error, StateError::SectionTooLong(it) if it == len));
    }
    assert!(decoder().feed(&head_of(MAX_SECTION as u32)).is_ok());
    let longest = vec![7; MAX_SECTION];
    let sections = [
        section(b"CONF", 1, &longest),
        section(b"REGS", 1, &longest),
        end(3),
    ];
    let decoded = decode([&[head(), sections.concat()].concat()[..]]).unwrap();
    assert!(decoded.config == longest);
}
