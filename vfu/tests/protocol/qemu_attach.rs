//! QEMU 11.1.3 attaching to a device, as it was recorded: every request is understood, and the
//! same answers leave in the same bytes.

use std::os::fd::OwnedFd;

use vfu::wire::access::RegionAccess;
use vfu::wire::device::{DeviceFlags, DeviceInfo};
use vfu::wire::irq::{IrqData, IrqFlags, IrqInfo, SetIrqs};
use vfu::wire::region::{RegionFlags, RegionInfo};
use vfu::wire::version::{Capabilities, Version};
use vfu::wire::{Header, Request};

use crate::peer::{emitted, file};

const RECORDED: &str = include_str!("qemu_attach.txt");

/// A request, in the words of this file, and how many times QEMU sends it in a row.
const EXPECTED: [(&str, usize); 29] = [
    ("map READ | WRITE 0x0+0x10000000 file", 1),
    ("map READ 0xfffc0000+0x40000 no file", 1),
    ("device info", 1),
    ("region 0 in 32", 1),
    ("region 1 in 32", 1),
    ("region 2 in 32", 1),
    ("region 2 in 80", 1),
    ("region 3 in 32", 1),
    ("region 4 in 32", 1),
    ("region 5 in 32", 1),
    ("region 7 in 32", 1),
    ("irq 3", 1),
    ("read 0x0+256", 1),
    ("read 0x30+4", 1),
    ("write 0x30 [00, f8, ff, ff]", 1),
    ("read 0x30+4", 1),
    ("write 0x30 [00, 00, 00, 00]", 1),
    ("read 0x10..0x20+4", 5),
    ("read 0x42+2", 1),
    ("read 0x44..0x48+4", 2),
    ("irq 2", 1),
    ("read 0x3d+1", 2),
    ("Trigger irq 0 0+1 eventfds 1", 1),
    ("Trigger irq 3 0+1 eventfds 1", 1),
    ("Trigger irq 0 0+0 none", 1),
    ("read 0x4+2", 1),
    ("write 0x4 [00, 00]", 1),
    ("reset", 1),
    ("read 0x3d+1", 1),
];

/// What follows: INTx again, and a zero into each of the six base address registers.
const EXPECTED_LAST: [&str; 7] = [
    "Trigger irq 0 0+1 eventfds 1",
    "write 0x10 [00, 00, 00, 00]",
    "write 0x14 [00, 00, 00, 00]",
    "write 0x18 [00, 00, 00, 00]",
    "write 0x1c [00, 00, 00, 00]",
    "write 0x20 [00, 00, 00, 00]",
    "write 0x24 [00, 00, 00, 00]",
];

struct Message {
    bytes: Vec<u8>,
    header: Header,
    fds: usize,
}

impl Message {
    fn payload(&self) -> &[u8] {
        &self.bytes[Header::LEN..]
    }

    fn fds(&self) -> Vec<OwnedFd> {
        (0..self.fds).map(|_| file()).collect()
    }
}

/// Each request with its reply.
fn recorded() -> Vec<(Message, Message)> {
    let lines = RECORDED.lines().filter(|line| !line.starts_with('#'));
    let mut messages = lines.map(|line| {
        let mut words = line.split_whitespace().skip(2);
        let mut bytes = hex(words.next().unwrap());
        let header = Header::parse(&bytes).unwrap();
        let mut fds = 0;
        for word in words {
            match word {
                "+1fd" => fds += 1,
                payload => bytes.extend(hex(payload)),
            }
        }
        bytes.resize(usize::try_from(header.size).unwrap(), 0);
        Message { bytes, header, fds }
    });
    let mut pairs = Vec::new();
    while let Some(request) = messages.next() {
        pairs.push((request, messages.next().unwrap()));
    }
    assert_eq!(pairs.len(), 43);
    pairs
}

fn hex(text: &str) -> Vec<u8> {
    let digits = |at| &text[at..at + 2];
    let places = (0..text.len()).step_by(2);
    places
        .map(|at| u8::from_str_radix(digits(at), 16).unwrap())
        .collect()
}

fn in_words(request: &Request<'_>) -> String {
    match request {
        Request::DmaMap(map, fd) => {
            assert_eq!(map.offset, 0);
            let flags: Vec<_> = map.flags.iter_names().map(|(name, _)| name).collect();
            let file = if fd.is_some() { "file" } else { "no file" };
            let flags = flags.join(" | ");
            format!("map {flags} {:#x}+{:#x} {file}", map.iova, map.size)
        }
        Request::DeviceGetInfo => "device info".to_owned(),
        Request::DeviceGetRegionInfo(region) => {
            format!("region {} in {}", region.index, region.argsz)
        }
        Request::DeviceGetIrqInfo(index) => format!("irq {index}"),
        Request::DeviceSetIrqs(set) => {
            let data = match &set.data {
                IrqData::None => "none".to_owned(),
                IrqData::Bool(_) => "bytes".to_owned(),
                IrqData::Eventfd(fds) => format!("eventfds {}", fds.iter().flatten().count()),
            };
            let SetIrqs {
                action,
                index,
                start,
                count,
                ..
            } = set;
            format!("{action:?} irq {index} {start}+{count} {data}")
        }
        Request::RegionRead(access) => {
            assert_eq!(access.region, 7);
            format!("read {:#x}+{}", access.offset, access.count)
        }
        Request::RegionWrite(access, data) => {
            assert_eq!(access.region, 7);
            format!("write {:#x} {data:02x?}", access.offset)
        }
        Request::DeviceReset => "reset".to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn every_request_of_qemu_is_understood() {
    let mut expected = Vec::new();
    for (words, times) in EXPECTED {
        match words.split_once("..") {
            // A run of registers, each 4 bytes after the last.
            Some((first, _)) => {
                let first = u64::from_str_radix(first.trim_start_matches("read 0x"), 16).unwrap();
                let offsets = (first..).step_by(4).take(times);
                expected.extend(offsets.map(|offset| format!("read {offset:#x}+4")));
            }
            None => expected.extend(std::iter::repeat_n(words.to_owned(), times)),
        }
    }
    expected.extend(EXPECTED_LAST.map(str::to_owned));

    let requests = recorded();
    assert_eq!(requests.len(), expected.len() + 1);
    for ((request, _), expected) in requests.iter().skip(1).zip(expected) {
        let parsed = Request::parse(&request.header, request.payload(), request.fds()).unwrap();
        assert_eq!(in_words(&parsed), expected);
    }
}

#[test]
fn what_qemu_sent_is_emitted_in_the_same_bytes() {
    for (sent, _) in recorded().into_iter().skip(1) {
        let request = Request::parse(&sent.header, sent.payload(), sent.fds()).unwrap();
        let payload = emitted(|out| match &request {
            Request::DmaMap(map, _) => map.emit(out),
            Request::DeviceGetInfo => info(DeviceFlags::empty(), 0, 0).emit(out),
            Request::DeviceGetRegionInfo(region) => region.emit(out),
            Request::DeviceGetIrqInfo(index) => irq(IrqFlags::empty(), *index, 0).emit(out),
            Request::DeviceSetIrqs(set) => set.emit(out),
            Request::RegionRead(access) => access.emit(out),
            Request::RegionWrite(access, data) => {
                access.emit(out);
                out.extend(*data);
            }
            Request::DeviceReset => {}
            other => panic!("{other:?}"),
        });
        assert_eq!(payload, sent.payload(), "{request:?}");
    }
}

#[test]
fn the_replies_that_qemu_took_are_emitted_in_the_same_bytes() {
    for (sent, reply) in recorded() {
        let payload = match sent.header.command {
            1 => emitted(|out| version(sent.payload()).emit(out)),
            _ => {
                let request = Request::parse(&sent.header, sent.payload(), sent.fds()).unwrap();
                emitted(|out| answer(&request, &reply, out))
            }
        };
        let header = sent.header.reply(payload.len());
        let bytes = [&header.to_bytes(), &payload[..]].concat();
        assert_eq!(bytes, reply.bytes, "reply {}", sent.header.id);
    }
}

/// The recorded server named these two, and nothing else that it was offered.
fn version(offer: &[u8]) -> Version {
    let able = Capabilities {
        max_msg_fds: Some(8),
        max_data_xfer_size: Some(1 << 20),
        ..Capabilities::default()
    };
    Version::parse(offer).unwrap().answer(&able).unwrap()
}

fn answer(request: &Request<'_>, recorded: &Message, out: &mut Vec<u8>) {
    match request {
        Request::DeviceGetInfo => info(DeviceFlags::RESET | DeviceFlags::PCI, 9, 5).emit(out),
        Request::DeviceGetRegionInfo(request) => region(request.index).emit(request.argsz, out),
        Request::DeviceGetIrqInfo(3) => irq(IrqFlags::EVENTFD, 3, 1).emit(out),
        Request::DeviceGetIrqInfo(2) => irq(IrqFlags::EVENTFD | IrqFlags::NORESIZE, 2, 4).emit(out),
        Request::RegionRead(access) => {
            access.emit(out);
            out.extend(&recorded.payload()[RegionAccess::LEN..]);
        }
        Request::RegionWrite(access, _) => access.emit(out),
        Request::DmaMap(..) | Request::DeviceSetIrqs(_) | Request::DeviceReset => {}
        other => panic!("{other:?}"),
    }
}

fn info(flags: DeviceFlags, num_regions: u32, num_irqs: u32) -> DeviceInfo {
    DeviceInfo {
        flags,
        num_regions,
        num_irqs,
    }
}

fn irq(flags: IrqFlags, index: u32, count: u32) -> IrqInfo {
    IrqInfo {
        flags,
        index,
        count,
    }
}

fn region(index: u32) -> RegionInfo {
    let read_write = RegionFlags::READ | RegionFlags::WRITE;
    let mapped = read_write | RegionFlags::MMAP;
    let (flags, size) = match index {
        0 => (read_write, 0x1000),
        1 => (mapped, 0x100_0000),
        2 => (mapped, 0x1_0000),
        3 => (read_write, 0x40),
        4 => (read_write, 0x2000),
        7 => (read_write, 0x100),
        _ => (RegionFlags::empty(), 0),
    };
    let sparse = match index {
        2 => vec![0..0x4000, 0x8000..0x1_0000],
        _ => Vec::new(),
    };
    RegionInfo {
        flags,
        index,
        size,
        offset: 0,
        sparse,
    }
}

#[test]
fn no_reply_is_longer_than_qemu_has_room_for() {
    // QEMU takes at most as many bytes as its request had, or as it says in argsz.
    for (sent, _) in recorded() {
        let Ok(Request::DeviceGetRegionInfo(request)) =
            Request::parse(&sent.header, sent.payload(), sent.fds())
        else {
            continue;
        };
        let reply = emitted(|out| region(request.index).emit(request.argsz, out));
        assert!(reply.len() <= usize::try_from(request.argsz).unwrap());
    }
    let (hello, _) = &recorded()[0];
    let answer = emitted(|out| version(hello.payload()).emit(out));
    assert!(answer.len() <= hello.payload().len());
}
