//! What a viewer may not: take its time.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use super::*;
use crate::input::Nowhere;
use crate::wake::Bell;

/// Longer than anything here takes: a test fails after it rather than hang.
const DEADLINE: Duration = Duration::from_secs(30);

fn house(patience: Patience) -> (House, Bell) {
    let (hub, bell) = Hub::new().unwrap();
    hub.with_frame(|frame| frame.resize((1024, 768)));
    let house = House {
        hub,
        sink: Arc::new(Nowhere),
        password: None,
        name: "test".to_owned(),
        patience,
    };
    (house, bell)
}

fn start(house: &House) -> (UnixStream, JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    let house = house.clone();
    (ours, thread::spawn(move || serve(theirs.into(), &house)))
}

#[test]
fn who_does_not_say_who_it_is_loses_its_place() {
    let (house, _bell) = house(Patience {
        welcome: Duration::from_millis(50),
        ..Patience::default()
    });
    for said in [&b""[..], b"RFB 003", b"RFB 003.008\n", b"RFB 003.008\n\x01"] {
        let (mut stream, thread) = start(&house);
        stream.write_all(said).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        thread.join().unwrap();
    }
}

#[test]
fn who_takes_nothing_loses_its_place_and_who_wants_nothing_does_not() {
    let (house, _bell) = house(Patience {
        sending: Duration::from_millis(50),
        ..Patience::default()
    });
    let (mut idle, idle_thread) = start(&house);
    idle.write_all(b"RFB 003.008\n\x01\x01").unwrap();
    let (mut stream, thread) = start(&house);
    stream.write_all(b"RFB 003.008\n\x01\x01").unwrap();
    // All of it, raw: more than a socket holds.
    stream.write_all(&[3, 0, 0, 0, 0, 0, 4, 0, 3, 0]).unwrap();
    while !house.hub.is_wanted() {
        thread::yield_now();
    }
    house.hub.begin_look();
    house.hub.end_look(true);
    thread.join().unwrap();
    drop(stream);
    assert!(!idle_thread.is_finished());
    drop(idle);
    idle_thread.join().unwrap();
}

#[test]
fn older_viewers_are_let_in_their_way() {
    let (house, _bell) = house(Patience::default());
    for (version, more, between) in [
        (b"RFB 003.003\n", &b"\x01"[..], 4),
        (b"RFB 003.007\n", b"\x01\x01", 2),
        (b"RFB 003.008\n", b"\x01\x01", 2 + 4),
    ] {
        let (mut stream, thread) = start(&house);
        stream.write_all(version).unwrap();
        stream.write_all(more).unwrap();
        let mut said = vec![0; 12 + between + 4];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(said[12 + between..], [4, 0, 3, 0], "{version:?}");
        drop(stream);
        thread.join().unwrap();
    }
}
