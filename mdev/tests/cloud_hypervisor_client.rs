//! The client that Cloud Hypervisor uses, the crate `vfio_user`, at our session.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod support;

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use mdev::device::Reset;
use mdev::fake::{Event, FakeDevice, register};
use mdev::mailbox::Mail;
use mdev::region::RegionIndex;
use support::mapping::Mapping;
use support::{Instance, memfd, new_eventfd, signals, wait_until};
use vfio_user::Client;

const CONFIG: u32 = 7;
const PAGE: u64 = 4096;
/// `VFIO_IRQ_SET_*` in `linux/vfio.h`.
const DATA_NONE: u32 = 1 << 0;
const DATA_EVENTFD: u32 = 1 << 2;
const ACTION_UNMASK: u32 = 1 << 4;
const ACTION_TRIGGER: u32 = 1 << 5;

/// An instance that is reached by the path of a socket, as a worker's is.
struct Listening {
    instance: Instance,
    directory: tempfile::TempDir,
    listener: UnixListener,
}

impl Listening {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("vgpu.sock")).unwrap();
        Self {
            instance: Instance::new(),
            directory,
            listener,
        }
    }

    fn client(&self) -> Client {
        let path = self.directory.path().join("vgpu.sock");
        let client: JoinHandle<Client> = thread::spawn(move || Client::new(&path).unwrap());
        let (socket, _) = self.listener.accept().unwrap();
        self.instance
            .mail
            .send(Mail::Client(socket.into()))
            .unwrap();
        client.join().unwrap()
    }
}

#[test]
fn it_attaches_and_finds_every_region() {
    let server = Listening::new();
    let client = server.client();
    for (index, size, is_mapped) in [
        (0, 32, false),
        (1, 0x1_0000, true),
        (2, 0x8000, true),
        (3, 0, false),
        (6, 0x1000, false),
        (7, 4096, false),
        (8, 0, false),
    ] {
        let region = client.region(index).unwrap();
        assert_eq!(region.size, size, "{index}");
        assert_eq!(region.file_offset.is_some(), is_mapped, "{index}");
        if let Some(file) = &region.file_offset {
            assert_eq!(file.start(), 0, "{index}");
        }
        let areas = region.sparse_areas.iter();
        let areas: Vec<_> = areas
            .map(|area| area.offset..area.offset + area.size)
            .collect();
        let expected = if index == 2 {
            &FakeDevice::AREAS[..]
        } else {
            &[]
        };
        assert_eq!(areas, expected, "{index}");
    }
    client.shutdown().unwrap();
}

#[test]
fn it_reads_and_writes_registers() {
    let server = Listening::new();
    let mut client = server.client();
    let mut config = vec![0; 4096];
    client.region_read(CONFIG, 0, &mut config).unwrap();
    assert_eq!(config[..4], [0xfe, 0xff, 0x01, 0x00]);
    let mut word = [0; 4];
    for at in (0..256).step_by(4) {
        client.region_read(CONFIG, at, &mut word).unwrap();
        assert_eq!(word, config[at as usize..at as usize + 4], "{at:#x}");
    }
    client.region_write(CONFIG, 0x14, &[0xff; 4]).unwrap();
    client.region_read(CONFIG, 0x14, &mut word).unwrap();
    assert_eq!(u32::from_le_bytes(word), !(FakeDevice::WHOLE - 1));
    client.region_write(0, register::MEMORY, b"abcd").unwrap();
    client.region_read(0, register::MEMORY, &mut word).unwrap();
    assert_eq!(&word, b"abcd");
    client.region_read(0, register::BROKEN, &mut word).unwrap();
    assert_eq!(word, [0xff; 4]);
}

#[test]
fn it_maps_what_is_offered_and_sees_what_messages_see() {
    let server = Listening::new();
    let mut client = server.client();
    for (index, offset) in [(1, 0), (1, 0xf000), (2, 0x1000), (2, 0x7000)] {
        let file = client.region(index).unwrap().file_offset.as_ref().unwrap();
        let file = file.file().try_clone().unwrap();
        let mapping = Mapping::new(&file, offset);
        mapping.write(*b"by sight");
        let mut seen = [0; 8];
        client.region_read(index, offset, &mut seen).unwrap();
        assert_eq!(&seen, b"by sight");
        client.region_write(index, offset, b"by words").unwrap();
        assert_eq!(&mapping.read(), b"by words");
    }
}

#[test]
fn it_is_interrupted() {
    let server = Listening::new();
    let mut client = server.client();
    let eventfds: Vec<_> = (0..16).map(|_| new_eventfd()).collect();
    let fds: Vec<_> = eventfds.iter().map(AsRawFd::as_raw_fd).collect();
    let msix = client.get_irq_info(2).unwrap();
    assert_eq!((msix.index, msix.count), (2, FakeDevice::MSIX.into()));
    let trigger = ACTION_TRIGGER | DATA_EVENTFD;
    client.set_irqs(2, trigger, 0, 16, &fds).unwrap();
    client.region_write(0, register::FIRE_MSIX, &[5]).unwrap();
    assert_eq!(signals(&eventfds[5]), 1);
    client
        .set_irqs(2, ACTION_TRIGGER | DATA_NONE, 0, 0, &[])
        .unwrap();
    client.region_write(0, register::FIRE_MSIX, &[5]).unwrap();
    assert_eq!(signals(&eventfds[5]), 0);
    client.set_irqs(0, trigger, 0, 1, &fds[..1]).unwrap();
    client.region_write(0, register::LEVEL, &[1]).unwrap();
    assert_eq!(signals(&eventfds[0]), 1);
    client
        .set_irqs(0, ACTION_UNMASK | DATA_NONE, 0, 1, &[])
        .unwrap();
    assert_eq!(signals(&eventfds[0]), 1);
}

#[test]
fn it_maps_memory_resets_and_leaves() {
    let server = Listening::new();
    let mut client = server.client();
    let memory = memfd(16 * PAGE);
    let metrics = &server.instance.metrics;
    client.dma_map(0, 0, 8 * PAGE, memory.as_raw_fd()).unwrap();
    client
        .dma_map(8 * PAGE, 1 << 32, 8 * PAGE, memory.as_raw_fd())
        .unwrap();
    client.dma_unmap(0, 8 * PAGE).unwrap();
    assert_eq!(
        (metrics.dma_maps.value(), metrics.dma_unmaps.value()),
        (2, 1)
    );
    client.region_write(0, register::MEMORY, &[1]).unwrap();
    // It takes the flag for its opposite, and so never resets us; but it could.
    assert!(!client.resettable());
    client.reset().unwrap();
    let written = Event::Write(RegionIndex::Bar0, register::MEMORY, vec![1]);
    let events = [written, Event::Reset(Reset::Device)];
    assert_eq!(server.instance.log.take(), events);
    client.shutdown().unwrap();
    wait_until("it is gone", || {
        server.instance.log.take() == [Event::Reset(Reset::Close)]
    });
    // The next one finds everything in place.
    let mut next = server.client();
    next.dma_map(0, 1 << 32, PAGE, memory.as_raw_fd()).unwrap();
    assert_eq!(metrics.dma_maps.value(), 3);
}

#[test]
fn a_second_one_is_told_and_does_not_wait() {
    let server = Listening::new();
    let _first = server.client();
    let path = server.directory.path().join("vgpu.sock");
    let second = thread::spawn(move || Client::new(&path).err());
    let (socket, _) = server.listener.accept().unwrap();
    server
        .instance
        .mail
        .send(Mail::Client(socket.into()))
        .unwrap();
    assert!(second.join().unwrap().is_some());
}
