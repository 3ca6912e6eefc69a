//! What other types have is there after a worker has died: memory, a picture, a stream of bytes.

use std::os::fd::OwnedFd;

use ::worker::parking::CLIENT;
use rustix::process::Signal;
use vfu::client::Client;

use crate::dma::{kill_under, kills};
use crate::guest::offer;
use crate::host::Host;

/// Video memory of `bochs-4m`, and the registers that set a mode.
const VRAM: u32 = 0;
const VRAM_LEN: u64 = 4 << 20;
const REGISTERS: u32 = 2;
const XRES: u64 = 0x502;
const YRES: u64 = 0x504;
const BPP: u64 = 0x506;
const ENABLE: u64 = 0x508;

fn set_mode(client: &mut Client, width: u16, height: u16) {
    for (register, value) in [
        (ENABLE, 0),
        (XRES, width),
        (YRES, height),
        (BPP, 32),
        (ENABLE, 0x41),
    ] {
        let value = value.to_le_bytes();
        client.region_write(REGISTERS, register, &value).unwrap();
    }
}

fn vram(client: &mut Client) -> OwnedFd {
    client.region_info(VRAM).unwrap().1.remove(0)
}

fn fill(file: &OwnedFd, byte: u8) {
    let bytes = vec![byte; VRAM_LEN as usize];
    assert_eq!(rustix::io::pwrite(file, &bytes, 0), Ok(bytes.len()));
}

fn is_filled(file: &OwnedFd, byte: u8) -> bool {
    let mut bytes = vec![0; VRAM_LEN as usize];
    assert_eq!(rustix::io::pread(file, &mut bytes, 0), Ok(bytes.len()));
    bytes.iter().all(|found| *found == byte)
}

#[test]
fn video_memory_and_the_picture_are_there_after_a_kill() {
    let mut host = Host::start("bochs-4m");
    let mut client = Client::negotiate(host.connect().into(), offer()).unwrap();
    host.wait_parked(CLIENT);
    let mapped = vram(&mut client);
    for kill in 1..10_u8 {
        fill(&mapped, kill);
        let height = 400 + u16::from(kill);
        set_mode(&mut client, 640, height);
        host.kill(Signal::KILL);
        fill(&mapped, kill + 100);
        assert!(host.recover().unwrap().exact);
        // Once it answers, what it did last is done again.
        let mut byte = [0];
        client.region_read(VRAM, 0x12_3456, &mut byte).unwrap();
        assert_eq!(byte, [kill + 100]);
        host.wait_for_control();
        // Once it is answered, what it does again is done.
        let mut byte = [0];
        client.region_read(VRAM, 0x12_3456, &mut byte).unwrap();
        assert_eq!(byte, [kill + 100]);
        let picture = host.control().scanout(0).unwrap();
        let size = (picture.geometry.width, picture.geometry.height);
        assert_eq!(size, (640, height.into()));
        assert!(
            is_filled(&picture.memory, kill + 100),
            "what is drawn is shown"
        );
        assert!(is_filled(&vram(&mut client), kill + 100));
    }
    host.stop();
}

/// The plug at the port's end gives back what is sent.
#[test]
fn no_byte_of_a_serial_line_is_lost_or_doubled() {
    const DATA: u64 = 0;
    const FIFO_CONTROL: u64 = 2;
    const LINE_STATUS: u64 = 5;
    const DATA_READY: u8 = 1;
    let mut host = Host::start("serial-1");
    let mut client = Client::negotiate(host.connect().into(), offer()).unwrap();
    host.wait_parked(CLIENT);
    client.region_write(0, FIFO_CONTROL, &[1]).unwrap();
    let mut sent = 0_u8;
    kill_under(&mut host, kills(), move |turn| {
        let mut read = |register| {
            let mut byte = [0];
            client.region_read(0, register, &mut byte).unwrap();
            byte[0]
        };
        assert_eq!(read(LINE_STATUS) & DATA_READY, 0, "a byte too many");
        let count = 1 + turn % 16;
        let first = sent;
        for _ in 0..count {
            client.region_write(0, DATA, &[sent]).unwrap();
            sent = sent.wrapping_add(1);
        }
        let mut read = |register| {
            let mut byte = [0];
            client.region_read(0, register, &mut byte).unwrap();
            byte[0]
        };
        for at in 0..count {
            assert_ne!(read(LINE_STATUS) & DATA_READY, 0, "a byte was lost");
            assert_eq!(read(DATA), first.wrapping_add(at as u8));
        }
    });
    host.stop();
}
