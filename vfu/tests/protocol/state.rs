//! Migration, the log of DMA writes and region I/O by descriptors: what is parsed, and what not.

use vfu::wire::feature::{DeviceFeature, DmaReport, Feature, FeatureFlags, FeatureHead};
use vfu::wire::io_fds::{IoEvent, IoEventFlags, RegionIoFds, RegionIoFdsRequest};
use vfu::wire::migration::{MigDataRead, MigDataWrite, MigState};

const GET: u32 = 1 << 16;
const SET: u32 = 1 << 17;
const PROBE: u32 = 1 << 18;

/// A payload of DEVICE_FEATURE.
fn feature(argsz: u32, flags: u32, data: &[u64]) -> Vec<u8> {
    let mut payload = [argsz.to_ne_bytes(), flags.to_ne_bytes()].concat();
    payload.extend(data.iter().flat_map(|word| word.to_ne_bytes()));
    payload
}

fn is_taken(payload: &[u8]) -> bool {
    DeviceFeature::parse(payload).is_ok()
}

#[test]
fn a_feature_has_its_own_methods_and_a_request_names_one_of_them() {
    for (index, methods) in [(1, GET), (2, GET | SET), (6, SET), (7, SET), (8, GET)] {
        for flags in 0..8_u32 {
            let flags = flags << 16;
            let asked = flags & !PROBE;
            // As many data as any of them takes: 4 KiB from 0, or a range that ends there.
            let data: &[u64] = match (index, asked) {
                (2, SET) => &[2],
                (6, _) => &[4096, 0],
                (8, _) => &[0, 4096, 4096],
                _ => &[],
            };
            let expected = asked & !methods == 0 && (flags & PROBE != 0 || asked.count_ones() == 1);
            let payload = feature(64, index | flags, data);
            assert_eq!(is_taken(&payload), expected, "{index}, {flags:#x}");
        }
    }
    for index in [0, 3, 4, 5, 9, 10, 0xffff] {
        assert!(!is_taken(&feature(64, index | GET, &[])), "{index}");
        assert!(!is_taken(&feature(64, index | GET | PROBE, &[])), "{index}");
    }
    assert!(!is_taken(&feature(64, 1 | GET | 1 << 19, &[])));
}

#[test]
fn a_feature_with_too_little_data_or_too_little_room_for_the_reply_is_refused() {
    for (name, payload) in [
        ("nothing", vec![]),
        ("half a head", vec![8, 0, 0, 0]),
        ("a report's head alone", feature(64, 8 | GET, &[])),
        ("a state's head alone", feature(64, 2 | SET, &[])),
        ("a start's head alone", feature(64, 6 | SET, &[])),
        ("argsz 7", feature(7, 1 | GET | PROBE, &[])),
        ("no room for the flags", feature(15, 1 | GET, &[])),
        ("no room for the state", feature(15, 2 | GET, &[])),
        (
            "no room for the bitmap",
            feature(39, 8 | GET, &[0, 4096, 4096]),
        ),
        ("a state and more", feature(64, 2 | SET, &[2, 2])),
        ("state 8", feature(64, 2 | SET, &[8])),
        ("a page size of 3", feature(64, 8 | GET, &[0, 4096, 3])),
        ("a page size of 0", feature(64, 8 | GET, &[0, 4096, 0])),
        ("an empty range", feature(64, 8 | GET, &[0, 0, 4096])),
        (
            "a range that wraps",
            feature(64, 8 | GET, &[4096, u64::MAX, 4096]),
        ),
        (
            "a bitmap past all memory",
            feature(u32::MAX, 8 | GET, &[0, u64::MAX, 1]),
        ),
        ("a range too few", feature(64, 6 | SET, &[4096, 1])),
        (
            "a range too many",
            feature(64, 6 | SET, &[4096, 0, 0, 4096]),
        ),
        ("half a range", feature(64, 6 | SET, &[4096, 1, 0])),
        (
            "an empty range to log",
            feature(64, 6 | SET, &[4096, 1, 0, 0]),
        ),
        (
            "a log that wraps",
            feature(64, 6 | SET, &[4096, 1, 2, u64::MAX]),
        ),
        ("a stop with data", feature(64, 7 | SET, &[1])),
    ] {
        assert!(!is_taken(&payload), "{name}");
    }
    assert!(is_taken(&feature(40, 8 | GET, &[0, 64 * 4096, 4096])));
    assert!(is_taken(&feature(40, 6 | SET, &[4096, 1, 0, u64::MAX])));
}

#[test]
fn a_feature_is_emitted_as_it_was_parsed() {
    let head = FeatureHead {
        argsz: 40,
        feature: Feature::DmaLoggingReport,
        flags: FeatureFlags::GET,
    };
    let report = DmaReport {
        iova: 0x1000,
        length: 0x3000,
        page_size: 0x1000,
    };
    let mut payload = Vec::new();
    head.emit(&mut payload);
    report.emit(&[], &mut payload);
    assert_eq!(
        DeviceFeature::parse(&payload),
        Ok(DeviceFeature::ReportLogging(report))
    );
    let payload = feature(56, 6 | SET, &[4096, 2, 0, 4096, 8192, 4096]);
    let Ok(DeviceFeature::StartLogging(logging)) = DeviceFeature::parse(&payload) else {
        panic!("a log of two ranges");
    };
    assert!(logging.ranges().eq([(0, 4096), (8192, 4096)]));
    let mut data = Vec::new();
    logging.emit(4096, &mut data);
    assert_eq!(data, payload[FeatureHead::LEN..]);
}

#[test]
fn a_part_of_the_stream_is_as_long_as_it_says_and_its_reply_has_room() {
    for (argsz, size, taken) in [
        (8, 0, true),
        (108, 100, true),
        (107, 100, false),
        (7, 0, false),
        (u32::MAX, u32::MAX, false),
    ] {
        let request = [argsz, size].map(u32::to_ne_bytes).concat();
        let parsed = MigDataRead::parse(&request);
        assert_eq!(parsed.is_ok(), taken, "{argsz}, {size}");
        assert!(MigDataRead::parse(&[&request[..], &[0]].concat()).is_err());
        assert!(MigDataRead::parse(&request[..7]).is_err());
    }
    for (argsz, size, data, taken) in [
        (8, 3, &b"abc"[..], true),
        (11, 3, b"abc", true),
        (8, 0, b"", true),
        (7, 0, b"", false),
        (11, 4, b"abc", false),
        (11, 2, b"abc", false),
        (11, u32::MAX, b"abc", false),
    ] {
        let request = [&[argsz, size].map(u32::to_ne_bytes).concat()[..], data].concat();
        let parsed = MigDataWrite::parse(&request);
        assert_eq!(parsed.is_ok(), taken, "{argsz}, {size}, {data:?}");
        if let Ok(write) = parsed {
            assert_eq!(write.data, data);
        }
    }
}

#[test]
fn states_have_the_numbers_of_the_kernel() {
    for (state, number) in MigState::ALL.into_iter().zip(0_u64..) {
        let mut data = Vec::new();
        state.emit(&mut data);
        assert_eq!(data, number.to_ne_bytes());
        assert_eq!(MigState::parse_reply(&data), Ok(state));
    }
}

#[test]
fn region_io_fds_are_whole_or_say_how_much_room_they_need() {
    let fds = RegionIoFds {
        index: 3,
        events: vec![
            IoEvent {
                offset: 0xb0,
                size: 4,
                fd_index: 0,
                flags: IoEventFlags::DATAMATCH,
                datamatch: 7,
            };
            2
        ],
    };
    for (argsz, events) in [(16, 0), (95, 0), (96, 2), (1000, 2)] {
        let mut payload = Vec::new();
        fds.emit(argsz, &mut payload);
        let (parsed, needed) = RegionIoFds::parse(&payload).unwrap();
        assert_eq!((needed, parsed.events.len()), (96, events), "{argsz}");
        assert!(parsed.events.iter().eq(&fds.events[..events]));
    }
    for (fields, taken) in [
        ([16, 0, 3, 0], true),
        ([15, 0, 3, 0], false),
        ([16, 1, 3, 0], false),
        ([16, 0, 3, 1], false),
    ] {
        let request = fields.map(u32::to_ne_bytes).concat();
        let parsed = RegionIoFdsRequest::parse(&request);
        assert_eq!(parsed.is_ok(), taken, "{fields:?}");
        assert!(RegionIoFdsRequest::parse(&request[..15]).is_err());
    }
}
