//! What is not made, and not done, and that nothing is left of it.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

use ::worker::control::ControlError;
use ::worker::protocol::{Envelope, Request, SeatRequest, VERSION};
use ::worker::resume::Handing;
use ::worker::seat::SeatFiles;
use ::worker::seqpacket;
use rustix::net::{Shutdown, shutdown};

use crate::guest::loop_back;
use crate::host::{DEADLINE, Host, Seat, request, wait_closed};

/// The errno, and the words.
fn refusal<T>(answer: Result<T, ControlError>) -> (String, String) {
    match answer {
        Err(ControlError::Refused { errno, message }) => (errno, message),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was not refused"),
    }
}

fn check(host: &Host, name: &str, request: &SeatRequest, errno: &str, words: &str) {
    let (told, message) = refusal(host.try_serve(name, request));
    assert_eq!(told, errno, "{message}");
    assert!(message.contains(words), "{message}");
}

#[test]
fn what_cannot_be_made_is_refused_with_words_and_leaves_nothing() {
    let mut host = Host::start(&["--parent-setting", "places=1"]);
    host.control().status().unwrap();
    host.wait_until("whoever asked is gone", |host| host.counts().0 == 2);
    let before = host.counts();
    let with = |change: fn(&mut SeatRequest)| {
        let mut request = request("serial-1", &[]);
        change(&mut request);
        request
    };
    for (number, (request, errno, words)) in [
        (
            request("none-1", &[]),
            "ENOENT",
            "no type is called 'none-1'",
        ),
        (
            request("bochs-4m", &[("mode", "1x1")]),
            "EINVAL",
            "attribute 'mode' cannot be '1x1'",
        ),
        (
            request("serial-1", &[("x", "y")]),
            "EINVAL",
            "no attribute 'x'",
        ),
        (with(|it| it.poll = Some("x".into())), "EINVAL", "poll is"),
        (
            with(|it| it.memory_files = Some("x".into())),
            "EINVAL",
            "memory-files is",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        check(&host, &number.to_string(), &request, errno, words);
    }
    host.wait_counts(before);
    let seat = host.serve("only", "serial-1");
    let serial = request("serial-1", &[]);
    check(&host, "full", &serial, "ENOSPC", "cannot give it a place");
    loop_back(&mut seat.client());
    seat.control().stop().unwrap();
    host.wait_counts(before);
    host.stop();
}

#[test]
fn descriptors_that_make_no_seat_are_refused() {
    let mut host = Host::start(&[]);
    let path = |name: &str| host.dir.path().join(name);
    let stream = || UnixListener::bind(path("stream")).unwrap().into();
    let packets = || seqpacket::listen_at(&path("packets")).unwrap();
    let null = || File::open("/dev/null").unwrap().into();
    let connected = || UnixStream::pair().unwrap().0.into();
    let request = request("serial-1", &[]);
    for (listener, control, words) in [
        (null(), packets(), "the socket for clients is not a socket"),
        (
            connected(),
            null(),
            "the socket for clients does not listen",
        ),
        (packets_at(&host, "p"), null(), "is not a stream socket"),
        (stream(), null(), "the control socket is not a socket"),
    ] {
        let files = SeatFiles {
            listener,
            control,
            keeper: None,
            resume: None,
        };
        let answer = host.control().serve(&request, &files, || Ok(()));
        let (errno, message) = refusal(answer);
        assert!(message.contains(words), "{message}");
        assert!(["EINVAL", "EIO"].contains(&errno.as_str()), "{errno}");
    }
    assert_eq!(host.control().status().unwrap().seats, Some(0));
    host.wait_until("whoever asked is gone", |host| host.counts().0 == 2);
    host.stop();
}

/// What it refuses it takes nothing in for.
#[test]
fn a_seat_that_is_to_go_on_is_refused_with_the_workers_words_though_nothing_can_be_handed_over() {
    let host = Host::start(&[]);
    for (type_name, errno) in [("none-1", "ENOENT"), ("serial-1", "EIO")] {
        let (handing, resume) = Handing::new().unwrap();
        let files = SeatFiles {
            listener: UnixListener::bind(host.dir.path().join(type_name))
                .unwrap()
                .into(),
            control: packets_at(&host, &format!("control-{type_name}")),
            keeper: Some(File::open("/dev/null").unwrap().into()),
            resume: Some(resume),
        };
        let answer = host.control().serve(&request(type_name, &[]), &files, || {
            drop(handing);
            Err(std::io::ErrorKind::BrokenPipe.into())
        });
        assert_eq!(refusal(answer).0, errno);
    }
    host.stop();
}

fn packets_at(host: &Host, name: &str) -> std::os::fd::OwnedFd {
    seqpacket::listen_at(&host.dir.path().join(name)).unwrap()
}

#[test]
fn each_socket_takes_what_is_meant_for_it() {
    let host = Host::start(&[]);
    let seat: Seat = host.serve("a", "serial-1");
    for answer in [
        seat.control().hand_over(),
        seat.control().go_on(),
        seat.control().leave(),
    ] {
        let (errno, words) = refusal(answer);
        assert_eq!(errno, "ENOTSUP");
        assert!(words.contains("handed over by itself"), "{words}");
    }
    for answer in [
        host.control().reset(),
        host.control().hand_over(),
        host.control().set_attribute("x", "y"),
        host.control().scanout(0).map(drop),
    ] {
        let (errno, words) = refusal(answer);
        assert_eq!(errno, "ENOTSUP");
        assert!(words.contains("of a physical device"), "{words}");
    }
    let files = || SeatFiles {
        listener: File::open("/dev/null").unwrap().into(),
        control: File::open("/dev/null").unwrap().into(),
        keeper: None,
        resume: None,
    };
    let asked = seat
        .control()
        .serve(&request("serial-1", &[]), &files(), || Ok(()));
    let (errno, words) = refusal(asked);
    assert_eq!(errno, "ENOTSUP");
    assert!(words.contains("no physical device"), "{words}");
    host.stop();
}

#[test]
fn a_device_that_cannot_be_had_is_refused_at_the_start() {
    for (arguments, words) in [
        (
            &["--parent-setting", "x=1"][..],
            "there is no attribute 'x'",
        ),
        (&["--parent-setting", "places=x"], "a number"),
        (&["--type", "none-1"], "this device has no type 'none-1'"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut arguments = arguments.to_vec();
        if !arguments.contains(&"--type") {
            arguments.extend(["--type", "serial-1"]);
        }
        let output = crate::host::command(dir.path())
            .args(["--socket-path", "sock"])
            .args(arguments)
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{log}");
        assert!(log.contains(words), "{log}");
        assert!(!dir.path().join("sock").exists());
    }
}

/// Whoever asked for it has unlinked its sockets by then.
#[test]
fn a_seat_that_is_made_too_late_for_who_asked_ends_again() {
    let mut host = Host::start(&["--parent-setting", "places=1"]);
    host.wait_until("whoever asked is gone", |host| host.counts().0 == 2);
    let before = host.counts();
    for number in 0..3 {
        let socket = host.dir.path().join(format!("late{number}"));
        let files = SeatFiles {
            listener: UnixListener::bind(&socket).unwrap().into(),
            control: packets_at(&host, &format!("control{number}")),
            keeper: None,
            resume: None,
        };
        let (line, theirs) = files.offer().unwrap();
        drop(files);
        let document = serde_json::to_vec(&Envelope {
            version: VERSION,
            request: Request::Serve(request("edu-1", &[])),
        });
        let control = host.dir.path().join("control");
        let asker = seqpacket::connect_to(&control, DEADLINE).unwrap();
        // However fast it is.
        shutdown(&asker, Shutdown::Read).unwrap();
        seqpacket::send(&asker, &document.unwrap(), Some(theirs.as_fd())).unwrap();
        drop((asker, theirs));
        wait_closed(&line);
        drop(line);
        host.wait_counts(before);
    }
    // Its place is free, too.
    let seat = host.serve("next", "serial-1");
    loop_back(&mut seat.client());
    host.stop();
}
