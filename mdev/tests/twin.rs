//! DMA by message over a socket of its own.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mdev::dma::messages::MessageError;
use mdev::dma::{AccessError, GuestMemory, Iova};
use mdev::fake::Event;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, send};
use vfu::wire::Command;

use support::guest::{Guest, PAGE, in_thread};
use support::raw::{access, header, message, words};
use support::{Instance, wait_until};

/// A guest with one page that has no file.
fn guest(instance: &Instance) -> (Guest, Guest) {
    let (mut main, twin) = Guest::with_twin(instance, 2);
    main.map(0, 2, None);
    main.put(0, b"guest memory");
    (main, twin)
}

fn read(memory: &GuestMemory) -> Result<Vec<u8>, AccessError> {
    let mut data = vec![0; 12];
    memory.read(Iova(0), &mut data).map(|()| data)
}

fn is_gone(result: &Result<Vec<u8>, AccessError>) -> bool {
    matches!(result, Err(AccessError::Message(MessageError::Gone)))
}

#[test]
fn memory_is_reached_while_the_main_socket_is_busy() {
    let instance = Instance::new();
    let (mut main, mut twin) = guest(&instance);
    // The first half of a request: nothing else can be said there.
    let request = message(3, Command::RegionRead as u16, &access(0, 7, 2, &[]));
    main.raw.send(&request[..20], &[]);
    for round in 0..3_u8 {
        let (_, data) = twin.serve_while(&instance, read);
        assert_eq!(data.unwrap(), b"guest memory");
        let write = move |memory: &GuestMemory| memory.write(Iova(PAGE), &[round; 8]);
        let (served, written) = twin.serve_while(&instance, write);
        written.unwrap();
        assert!(served.iter().any(|it| it.data == [round; 8]), "{served:?}");
        assert_eq!(main.look(PAGE, 8), [round; 8]);
    }
    assert!(!main.is_asked(), "the main socket is the client's");
    main.raw.send(&request[20..], &[]);
    main.raw.receive();
    assert!(main.raw.is_in_step());
}

#[test]
fn a_twin_that_is_closed_ends_the_waits_for_it_and_not_the_session() {
    let instance = Instance::new();
    let (mut main, mut twin) = guest(&instance);
    let waiting = in_thread(&instance, read);
    twin.wanted();
    drop(twin);
    assert!(is_gone(&waiting.join().unwrap()));
    assert!(main.raw.is_in_step());
    assert!(is_gone(&in_thread(&instance, read).join().unwrap()));
    assert!(!main.is_asked() && main.raw.is_in_step());
}

#[test]
fn what_no_frame_can_be_closes_the_twin_alone() {
    let instance = Instance::new();
    let (mut main, mut twin) = guest(&instance);
    let waiting = in_thread(&instance, read);
    let wanted = twin.wanted();
    let bad = header(wanted.id, wanted.command, u32::MAX, 1);
    twin.raw.send(&bad, &[]);
    assert!(is_gone(&waiting.join().unwrap()));
    assert!(main.raw.is_in_step());
}

#[test]
fn a_reply_on_the_wrong_socket_is_no_reply() {
    let instance = Instance::new();
    let (mut main, mut twin) = guest(&instance);
    let waiting = in_thread(&instance, read);
    for _ in 0..2 {
        // The layout of these messages is found out first.
        let wanted = twin.wanted();
        let mut wrong = wanted.at.to_ne_bytes().to_vec();
        wrong.extend((wanted.count as u64).to_ne_bytes());
        wrong.extend(vec![0xee; wanted.count]);
        main.reply(&wanted, &wrong);
        assert!(main.raw.is_in_step(), "and it is not answered");
        assert!(!waiting.is_finished());
        twin.serve(&wanted);
    }
    assert_eq!(waiting.join().unwrap().unwrap(), b"guest memory");
}

#[test]
fn commands_of_the_client_on_the_twin_are_not_served() {
    let instance = Instance::new();
    let (mut main, mut twin) = guest(&instance);
    let write = access(4, 0, 1, &[0x77]);
    twin.raw
        .send(&message(1, Command::RegionWrite as u16, &write), &[]);
    let (_, data) = twin.serve_while(&instance, read);
    assert_eq!(data.unwrap(), b"guest memory");
    assert!(main.raw.is_in_step());
    let writes = instance.log.take();
    assert!(!writes.iter().any(|it| matches!(it, Event::Write(..))));
    assert!(!twin.is_asked(), "nor answered");
}

/// Keeps the twin full of replies that nobody waits for.
fn flood(twin: Guest, is_over: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let replies = header(0xffff, Command::DmaRead as u16, 16, 1).repeat(4096);
    thread::spawn(move || {
        let mut at = 0;
        while !is_over.load(Ordering::Relaxed) {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(&*twin.raw.socket, &replies[at..], flags) {
                Ok(sent) => at = (at + sent) % replies.len(),
                Err(_) => {
                    let soon = Timespec {
                        tv_sec: 0,
                        tv_nsec: 1_000_000,
                    };
                    let mut fds = [PollFd::new(&*twin.raw.socket, PollFlags::OUT)];
                    poll(&mut fds, Some(&soon)).unwrap();
                }
            }
        }
    })
}

#[test]
fn a_flood_on_the_twin_holds_up_neither_doorbells_nor_requests() {
    let instance = Instance::new();
    let (mut main, twin) = guest(&instance);
    let ask = words(&[1024, 0, 2, 0]);
    main.raw
        .ask(Command::DeviceGetRegionIoFds as u16, &ask, &[]);
    let bell = main.raw.fds.remove(0);
    let is_over = Arc::new(AtomicBool::new(false));
    let flood = flood(twin, Arc::clone(&is_over));
    for _ in 0..5 {
        instance.log.take();
        rustix::io::write(&bell, &1_u64.to_ne_bytes()).unwrap();
        let is_heard = || !instance.log.take().is_empty();
        wait_until("the doorbell was heard", is_heard);
        assert!(main.raw.is_in_step());
    }
    is_over.store(true, Ordering::Relaxed);
    flood.join().unwrap();
}
