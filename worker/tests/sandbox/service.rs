//! What a worker still does in its sandbox: everything, for every type. Each worker must end well,
//! which it does not if a system call was missing.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use ::worker::control::Control;
use mdev::input::{Key, Report};
use rustix::fs::ftruncate;
use vfu::client::Client;
use vfu::socket::Sender;
use vfu::wire::Command;
use vfu::wire::migration::MigState;
use vfu::wire::version::{Capabilities, TwinSocket};
use virtio::guest::{End, FREE, Guest, WRITE};

use crate::guest::{PAGE, copy_a_page, interrupt, loop_back, map, memory, set_mode, transfer};
use crate::worker::Worker;

fn types() -> Vec<String> {
    let specs = drivers::DRIVERS.iter().flat_map(|driver| driver.types());
    specs.map(|spec| spec.name).collect()
}

/// What the guests of each type do.
fn use_device(type_name: &str, client: &mut Client) {
    for index in 0..9 {
        client.region_info(index).unwrap();
    }
    match type_name.split_once('-').unwrap().0 {
        "serial" => loop_back(client),
        "edu" => {
            client.region_io_fds(0).unwrap();
            transfer(client);
            interrupt(client);
        }
        "bochs" => set_mode(client, 640, 480),
        // Its driver is a client of its own: see `ask_display`.
        "gpu" => {}
        // As theirs: see `type_at`.
        "input" => {}
        other => panic!("a guest of {other} is missing here"),
    }
}

/// The guest of a GPU asks for what there is to be shown: rings, interrupts, and a thread for them.
fn ask_display(worker: &mut Worker) {
    const GET_DISPLAY_INFO: u32 = 0x100;
    const OK_DISPLAY_INFO: u32 = 0x1101;
    let socket = UnixStream::connect(worker.path("sock")).unwrap();
    let mut guest = Guest::new(socket, 0);
    let mut request = [0; 24];
    request[..4].copy_from_slice(&GET_DISPLAY_INFO.to_le_bytes());
    let answer = guest.ask(0, &request, 408);
    assert_eq!(answer[..4], OK_DISPLAY_INFO.to_le_bytes());
    drop(guest);
    worker.wait_idle();
}

/// The guest of a keyboard or a tablet hears what is pressed, and lets go of with its connection;
/// what makes no sense ends the connection with words.
fn type_at(worker: &mut Worker, code: u16) {
    let socket = UnixStream::connect(worker.path("sock")).unwrap();
    let mut guest = Guest::new(socket, 0);
    let control = worker.control();
    control.input(5).unwrap();
    let press = |code| Report {
        keys: vec![Key { code, down: true }],
        ..Report::default()
    };
    control.give(1, press(code)).unwrap();
    let mut event = || {
        guest.describe(0, &[(FREE, 8, WRITE, 0)]);
        guest.kick(0, 0, 1);
        assert_eq!(guest.wait(0), End::Used(8));
        let bytes = guest.look(FREE, 8);
        [bytes[0], bytes[2], bytes[4]]
    };
    let low = code.to_le_bytes()[0];
    assert_eq!([event(), event()], [[1, low, 1], [0, 0, 0]]);
    let error = control.give(2, press(0x2ff)).unwrap_err();
    assert!(error.to_string().contains("no such key"), "{error}");
    assert!(control.give(3, press(code)).is_err(), "it has ended");
    assert_eq!([event(), event()], [[1, low, 0], [0, 0, 0]]);
    // The lights of a keyboard are noted.
    guest.put(FREE, &[0x11, 0, 1, 0, 1, 0, 0, 0]);
    guest.describe(1, &[(FREE, 8, 0, 0)]);
    guest.kick(1, 0, 1);
    assert_eq!(guest.wait(1), End::Used(0));
    drop(guest);
    worker.wait_idle();
}

fn save_and_restore(control: &Control) {
    let state = control.save().unwrap();
    control.restore(&state).unwrap();
}

/// As a VMM that migrates to itself.
fn migrate(client: &mut Client) {
    client.set_mig_state(MigState::StopCopy).unwrap();
    let mut state = Vec::new();
    while {
        let piece = client.mig_data_read(1 << 16).unwrap();
        state.extend(&piece);
        piece.len() == 1 << 16
    } {}
    client.set_mig_state(MigState::Resuming).unwrap();
    for piece in state.chunks(1 << 16) {
        client.mig_data_write(piece).unwrap();
    }
    client.set_mig_state(MigState::Running).unwrap();
}

#[test]
fn every_type_is_used_shown_saved_restored_and_migrated() {
    for name in types() {
        let mut worker = Worker::start(&name, &[]);
        if name.starts_with("gpu") {
            ask_display(&mut worker);
        }
        match name.as_str() {
            "input-keyboard" => type_at(&mut worker, 30),
            "input-tablet" => type_at(&mut worker, 0x110),
            _ => assert!(worker.control().input(5).is_err(), "{name} takes input"),
        }
        let control = worker.control();
        let mut client = worker.client();
        use_device(&name, &mut client);
        if name.starts_with("bochs") {
            assert_eq!(control.scanout(0).unwrap().geometry.width, 640);
            control.set_attribute("mode", "800x600").unwrap();
        }
        save_and_restore(&control);
        migrate(&mut client);
        client.reset().unwrap();
        use_device(&name, &mut client);
        drop(client);
        save_and_restore(&control);
        worker.stop();
    }
}

#[test]
fn transfers_go_by_copies_and_by_pins() {
    for way in ["dma=copy", "dma=pin"] {
        for poll in ["off", "auto"] {
            let worker = Worker::start("edu-1", &["-o", way, "--poll", poll]);
            transfer(&mut worker.client());
            worker.stop();
        }
    }
}

#[test]
fn a_hundred_clients_come_and_go() {
    for name in ["serial-2", "edu-2", "bochs-4m"] {
        let mut worker = Worker::start(name, &[]);
        for _ in 0..100 {
            use_device(name, &mut worker.client());
            worker.wait_idle();
        }
        assert_eq!(worker.control().status().unwrap().counters.sessions, 100);
        worker.stop();
    }
}

#[test]
fn a_second_client_is_refused_and_one_that_says_nothing_is_dropped() {
    let worker = Worker::start("serial-1", &[]);
    let mut first = worker.client();
    drop(UnixStream::connect(worker.path("sock")).unwrap());
    assert!(Client::connect(&worker.path("sock")).is_err());
    loop_back(&mut first);
    worker.stop();
}

#[test]
fn many_ask_at_once_again_and_again() {
    let worker = Worker::start("bochs-4m", &[]);
    for _ in 0..5 {
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let control = worker.control();
                    for _ in 0..20 {
                        control.status().unwrap();
                    }
                });
            }
        });
    }
    worker.stop();
}

/// The threads' heaps grow, are freed and are trimmed, for which the C library opens a file.
#[test]
fn big_messages_of_many_threads_come_and_go() {
    let worker = Worker::start("bochs-4m", &[]);
    let mut client = worker.client();
    for len in [1 << 20, 4096, 1 << 19, 1] {
        let mut data = vec![0; len];
        client.region_read(0, 0, &mut data).unwrap();
        client.region_write(0, 0, &data).unwrap();
        save_and_restore(&worker.control());
    }
    worker.stop();
}

#[test]
fn the_twin_socket_is_made() {
    let worker = Worker::start("edu-1", &[]);
    let socket = UnixStream::connect(worker.path("sock")).unwrap();
    let offer = Capabilities {
        twin_socket: Some(TwinSocket {
            supported: true,
            fd_index: None,
        }),
        ..Capabilities::default()
    };
    let mut client = Client::negotiate(socket.into(), offer).unwrap();
    assert!(client.agreed().capabilities.twin_socket.is_some());
    client.device_info().unwrap();
    worker.stop();
}

/// Though it is larger than what the worker may have of its own: what is put in its place counts as
/// what was there.
#[test]
fn memory_that_is_truncated_under_a_transfer_ends_the_session_alone() {
    const SIZE: u64 = 256 << 20;
    let worker = Worker::start("edu-1", &["--memory-limit", "64M"]);
    let mut client = worker.client();
    let file = memory(SIZE);
    map(&mut client, &file, SIZE).unwrap();
    ftruncate(&file, 0).unwrap();
    // The transfer ends on zeros, or the session before it.
    let _ = copy_a_page(&mut client);
    drop(client);
    transfer(&mut worker.client());
    worker.stop();
}

#[test]
fn what_is_no_memory_and_no_message_is_refused() {
    let worker = Worker::start("edu-1", &[]);
    let log = std::fs::File::open(worker.path("log")).unwrap();
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    let mut client = worker.client();
    assert!(map(&mut client, &log, PAGE).is_err());
    assert!(map(&mut client, &pipe, PAGE).is_err());
    drop(client);
    let hello = [7, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    for bytes in [&[0xff; 4096][..], &[0; 4096], &hello, b"x"] {
        let mut hostile = UnixStream::connect(worker.path("sock")).unwrap();
        let _ = hostile.write_all(bytes);
        let _ = hostile.shutdown(std::net::Shutdown::Write);
        let _ = hostile.read_to_end(&mut Vec::new());
    }
    send_descriptors(&worker);
    transfer(&mut worker.client());
    worker.stop();
}

/// As many as go with one message, with a message that takes none.
fn send_descriptors(worker: &Worker) {
    let socket: OwnedFd = UnixStream::connect(worker.path("sock")).unwrap().into();
    let socket = Arc::new(socket);
    let files: Vec<_> = (0..253).map(|_| memory(PAGE)).collect();
    let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    let mut message = vec![0; 16];
    message[2] = Command::DeviceReset as u8;
    message[4] = 16;
    let _ = Sender::new(socket).send(&message, &files);
}
