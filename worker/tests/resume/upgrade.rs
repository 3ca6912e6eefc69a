//! A worker hands over to another one.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use crate::host::{Host, is_closed};
use crate::stream::{End, Stream};
use ::worker::parking::{CLIENT, JOURNAL, Parked};
use rustix::process::Signal;
use vfu::client::Client;
use vfu::wire::version::Capabilities;

#[test]
fn a_client_sees_nothing_of_another_worker_that_goes_on() {
    let mut host = Host::start("edu-1");
    let stream = Stream::start(host.connect());
    host.wait_parked(CLIENT);
    for _ in 0..20 {
        let outlook = host.upgrade().unwrap();
        assert!(outlook.connected && outlook.exact);
    }
    assert_eq!(stream.end(), End::Told);
    host.stop();
}

/// One whose journal has another form, as that of another build may.
#[test]
fn a_worker_that_cannot_take_over_refuses_and_the_other_one_goes_on() {
    let mut host = Host::start("edu-1");
    let stream = Stream::start(host.connect());
    host.wait_parked(CLIENT);
    for _ in 0..5 {
        let words = host.upgrade_with(&["--max-dma-maps", "100"]).unwrap_err();
        assert!(words.contains("no journal"), "{words}");
        let before = stream.answered();
        stream.wait_for(before + 100);
    }
    // It is as good as before: another one can take over, also after a death.
    assert!(host.upgrade().unwrap().exact);
    host.upgrade_with(&["--max-dma-maps", "100"]).unwrap_err();
    host.kill(Signal::KILL);
    assert!(host.recover().unwrap().connected);
    assert_eq!(stream.end(), End::Told);
    host.stop();
}

/// Makes the registers in a journal ones that no device takes: those that have this in them.
fn harm(parked: &Parked, needle: [u8; 4]) {
    let mut file = File::from(parked[&JOURNAL].try_clone().unwrap());
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    let places = bytes.windows(4).enumerate().filter(|(_, it)| *it == needle);
    let places: Vec<_> = places.map(|(place, _)| place as u64).collect();
    assert!(!places.is_empty(), "the registers are in the journal");
    for place in places {
        file.write_all_at(b"harm", place).unwrap();
    }
}

/// It would have to reset the device, whose memory is the other worker's too.
#[test]
fn a_worker_whose_device_does_not_take_the_registers_leaves_it_to_the_other_one() {
    let mut host = Host::start("edu-2");
    let mut client = Client::negotiate(host.connect().into(), Capabilities::default()).unwrap();
    host.wait_parked(CLIENT);
    client
        .region_write(0, 4, &[0x12, 0x34, 0x56, 0x78])
        .unwrap();
    client.region_write(2, 0x100, b"what is in memory").unwrap();
    let inverted = [!0x12, !0x34, !0x56, !0x78];
    let refused = host.upgrade_after(|parked| harm(parked, inverted));
    assert!(refused.unwrap_err().contains("registers"));
    let mut registers = [0; 4];
    client.region_read(0, 4, &mut registers).unwrap();
    assert_eq!(registers, inverted);
    let mut memory = [0; 17];
    client.region_read(2, 0x100, &mut memory).unwrap();
    assert_eq!(&memory, b"what is in memory");
    assert!(host.upgrade().unwrap().exact);
    // After a death nobody else can go on: there the device is reset.
    client
        .region_write(0, 4, &[0x12, 0x34, 0x56, 0x79])
        .unwrap();
    client.region_read(0, 4, &mut registers).unwrap();
    host.kill(Signal::KILL);
    host.take_in();
    harm(host.worker.parking.parked(), registers);
    assert!(!host.recover().unwrap().exact);
    client.region_read(0, 4, &mut registers).unwrap();
    assert_eq!(registers, [0; 4]);
    host.stop();
}

#[test]
fn a_vgpu_without_a_client_is_handed_over_as_well() {
    let mut host = Host::start("edu-1");
    host.wait_parked(JOURNAL);
    let outlook = host.upgrade().unwrap();
    assert!(!outlook.connected && outlook.exact);
    let stream = Stream::start(host.connect());
    stream.wait_for(100);
    assert_eq!(stream.end(), End::Told);
    host.stop();
}

#[test]
fn a_client_that_goes_is_told_so_though_its_socket_is_kept() {
    let mut host = Host::start("edu-1");
    let socket = host.connect();
    let stream = Stream::start(socket.try_clone().unwrap());
    host.wait_parked(CLIENT);
    assert_eq!(stream.end(), End::Told);
    host.control().stop().unwrap();
    assert!(is_closed(&socket));
}
