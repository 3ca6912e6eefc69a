//! Clients that come, go, or are in the middle of something while there is no worker.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ::worker::parking::CLIENT;
use rustix::process::Signal;
use vfu::Errno;
use vfu::client::{Client, ClientError};
use vfu::wire::access::RegionAccess;
use vfu::wire::migration::MigState;
use vfu::wire::{Command, Header};

use crate::guest::{Guest, offer};
use crate::host::{Host, is_closed};

const LIVENESS: u64 = 4;

/// A client and its socket. A test beside this one that is about to start a program has, for a
/// moment, a copy of every socket: a client that has gone seems to be there still.
fn agree(host: &Host) -> (Client, UnixStream) {
    loop {
        let socket = host.connect();
        let copy = socket.try_clone().unwrap();
        match Client::negotiate(socket.into(), offer()) {
            Ok(client) => return (client, copy),
            Err(ClientError::Refused(Errno::BUSY)) => {}
            Err(error) => panic!("{error}: {}", host.log()),
        }
    }
}

fn client(host: &mut Host) -> (Client, UnixStream) {
    let client = agree(host);
    host.wait_parked(CLIENT);
    client
}

/// Whether registers are written and read.
fn works(client: &mut Client) -> bool {
    let mut value = [0; 4];
    client.region_write(0, LIVENESS, &[1, 2, 3, 4]).unwrap();
    client.region_read(0, LIVENESS, &mut value).unwrap();
    value == [!1, !2, !3, !4]
}

/// The write that a client sends, and its answer.
fn write(id: u16) -> (Vec<u8>, Vec<u8>) {
    let access = RegionAccess {
        offset: LIVENESS,
        region: 0,
        count: 4,
    };
    let header = Header::command(id, Command::RegionWrite, RegionAccess::LEN + 4);
    let mut message = header.to_bytes().to_vec();
    access.emit(&mut message);
    message.extend([1, 2, 3, 4]);
    let mut answer = header.reply(RegionAccess::LEN).to_bytes().to_vec();
    access.emit(&mut answer);
    (message, answer)
}

#[test]
fn half_a_message_is_made_whole_under_another_worker() {
    let mut host = Host::start("edu-1");
    let (mut client, mut socket) = client(&mut host);
    for cut in [1, 10, 16, 20, 32, 35] {
        let (message, answer) = write(0x7000 + cut);
        let (first, rest) = message.split_at(cut.into());
        socket.write_all(first).unwrap();
        // Some of it is read by the worker that dies.
        std::thread::sleep(Duration::from_millis(2));
        host.kill(Signal::KILL);
        assert!(host.recover().unwrap().exact);
        std::thread::sleep(Duration::from_millis(2));
        socket.write_all(rest).unwrap();
        let mut found = vec![0; answer.len()];
        socket.read_exact(&mut found).unwrap();
        assert_eq!(found, answer, "cut at {cut}");
        assert!(works(&mut client));
    }
    host.stop();
}

#[test]
fn a_client_that_hung_up_without_a_worker_makes_room_for_the_next() {
    let mut host = Host::start("edu-1");
    for asks_before in [false, true] {
        let (client, mut socket) = client(&mut host);
        host.kill(Signal::KILL);
        if asks_before {
            socket.write_all(&write(9).0).unwrap();
        }
        drop((client, socket));
        assert!(host.recover().unwrap().connected);
        let (mut next, _) = agree(&host);
        assert!(works(&mut next));
        let mut value = [0; 4];
        // It is as new, but for what this client wrote.
        next.reset().unwrap();
        next.region_read(0, LIVENESS, &mut value).unwrap();
        assert_eq!(value, [0; 4]);
        drop(next);
    }
    host.stop();
}

/// What was agreed on is known to the next worker as soon as the client knows it.
#[test]
fn a_worker_may_die_as_soon_as_a_version_is_agreed_on() {
    let mut host = Host::start("edu-1");
    for delay in 0..40 {
        let socket = host.connect();
        let (agreed, waiting) = std::sync::mpsc::channel();
        let asking = std::thread::spawn(move || {
            let client = Client::negotiate(socket.into(), offer());
            let _ = agreed.send(());
            client
        });
        // Before it, around it, and just after.
        match delay % 4 {
            0 => waiting.recv().unwrap(),
            wait => std::thread::sleep(Duration::from_micros(100 * wait)),
        }
        host.kill(Signal::KILL);
        host.recover().unwrap();
        while !asking.is_finished() {
            // What is let go is closed.
            host.worker.parking.take_in().unwrap();
            std::thread::sleep(Duration::from_micros(200));
        }
        match asking.join().unwrap() {
            Ok(mut client) => assert!(works(&mut client), "{delay}"),
            // It was accepted, and nobody else knew of it.
            Err(ClientError::Closed | ClientError::Broken(_) | ClientError::Send(_))
                if delay % 4 != 0 => {}
            // See `agree`.
            Err(ClientError::Refused(Errno::BUSY)) => {}
            Err(error) => panic!("{delay}: {error}: {}", host.log()),
        }
        host.wait_for_control();
    }
    host.stop();
}

#[test]
fn who_connects_while_there_is_no_worker_is_served_by_the_next() {
    let mut host = Host::start("edu-1");
    host.wait_parked(::worker::parking::JOURNAL);
    host.kill(Signal::KILL);
    let socket = host.connect();
    assert!(!host.recover().unwrap().connected);
    let mut client = Client::negotiate(socket.into(), offer()).unwrap();
    assert!(works(&mut client));
    host.stop();
}

#[test]
fn a_second_client_is_refused_while_the_first_is_gone_on_with() {
    let mut host = Host::start("edu-1");
    let (mut first, _socket) = client(&mut host);
    host.kill(Signal::KILL);
    let second = host.connect();
    let seen = second.try_clone().unwrap();
    let asking = std::thread::spawn(move || Client::negotiate(second.into(), offer()));
    assert!(host.recover().unwrap().connected);
    let refused = asking.join().unwrap().unwrap_err();
    let is_told = matches!(
        refused,
        ClientError::Refused(Errno::BUSY) | ClientError::Closed
    );
    assert!(is_told, "{refused}");
    assert!(is_closed(&seen) && works(&mut first));
    host.stop();
}

#[test]
fn a_migration_in_which_the_worker_died_is_an_error_until_a_reset() {
    for state in [MigState::Stop, MigState::StopCopy, MigState::PreCopy] {
        let mut host = Host::start("edu-2");
        let mut guest = Guest::new(host.connect());
        host.wait_parked(CLIENT);
        guest.client.set_mig_state(state).unwrap();
        host.kill(Signal::KILL);
        host.recover().unwrap();
        let found = guest.client.mig_state().unwrap();
        assert_eq!(found, MigState::Error, "{state:?}");
        guest.client.reset().unwrap();
        assert_eq!(guest.client.mig_state().unwrap(), MigState::Running);
        guest.client.region_write(7, 4, &[6, 0]).unwrap();
        guest.copy(7);
        host.stop();
    }
}

#[test]
fn a_migration_that_is_over_is_not_an_error() {
    let mut host = Host::start("edu-2");
    let mut guest = Guest::new(host.connect());
    host.wait_parked(CLIENT);
    for state in [MigState::Stop, MigState::Running] {
        guest.client.set_mig_state(state).unwrap();
    }
    host.kill(Signal::KILL);
    let outlook = host.recover().unwrap();
    assert!(outlook.exact, "{}", host.log());
    assert_eq!(guest.client.mig_state().unwrap(), MigState::Running);
    guest.copy(8);
    drop(guest);
    host.stop();
}
