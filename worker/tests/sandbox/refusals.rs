//! What a worker cannot do, tried from inside by a device.

use std::os::unix::process::ExitStatusExt;

use ::worker::forbidden::{ATTEMPTS, OVERFLOW, PANIC, QUIET, QUIET_ATTEMPTS, TYPE};
use vfu::client::Client;

use crate::worker::Worker;

const SIGABRT: i32 = 6;
const SIGSYS: i32 = 31;

const ENOENT: i64 = 2;
const EACCES: i64 = 13;
const ENOSYS: i64 = 38;
const EPERM: i64 = 1;

/// Makes an attempt that the worker survives, and tells its result.
fn attempt(client: &mut Client, number: u32) -> i64 {
    client.region_write(0, 0, &number.to_le_bytes()).unwrap();
    let mut result = [0; 8];
    client.region_read(0, 0, &mut result).unwrap();
    i64::from_le_bytes(result)
}

fn number_of(name: &str) -> u32 {
    let found = ATTEMPTS.iter().position(|(call, _)| *call == name);
    u32::try_from(found.unwrap()).unwrap()
}

#[test]
fn what_is_forbidden_ends_the_process_and_is_named_in_the_log() {
    for (number, (name, _)) in (0_u32..).zip(ATTEMPTS) {
        let mut worker = Worker::start(TYPE, &[]);
        let mut client = worker.client();
        let answer = client.region_write(0, 0, &number.to_le_bytes());
        assert!(answer.is_err(), "{name}");
        let end = worker.end();
        assert_eq!(end.signal(), Some(SIGSYS), "{name}: {end}");
        assert!(!end.core_dumped(), "{name}");
        let log = worker.log();
        let line = format!("vgpu-worker: stopped by the sandbox: the system call {name} (");
        assert!(log.contains(&line), "{name}: {log}");
    }
}

#[test]
fn what_the_c_library_does_without_is_refused_quietly() {
    let worker = Worker::start(TYPE, &[]);
    let mut client = worker.client();
    for (number, (name, _), errno) in [
        (QUIET, QUIET_ATTEMPTS[0], ENOSYS),
        (QUIET + 1, QUIET_ATTEMPTS[1], ENOENT),
    ] {
        assert_eq!(attempt(&mut client, number), -errno, "{name}");
    }
    assert!(worker.control().status().unwrap().connected);
    worker.stop();
}

#[test]
fn the_environment_is_forgotten_but_for_the_level_of_the_log() {
    let worker = Worker::start_by(TYPE, &[], |command| {
        command
            .env("GALLIUM_DRIVER", "virpipe")
            .env("RUST_LOG", "error");
    });
    assert_eq!(worker.log(), "", "the level was taken");
    assert_eq!(attempt(&mut worker.client(), QUIET + 2), 0);
    worker.stop();
}

/// The same is forbidden twice: where the filter lets it through, Landlock and the missing
/// capabilities do not.
#[test]
fn without_the_filter_files_and_processes_are_still_out_of_reach() {
    let worker = Worker::start(TYPE, &["--sandbox", "log"]);
    let mut client = worker.client();
    for (name, errno) in [("openat", EACCES), ("open", EACCES), ("chroot", EPERM)] {
        assert_eq!(attempt(&mut client, number_of(name)), -errno, "{name}");
    }
    // Signals too, from Linux 6.12 on.
    if worker.control().status().unwrap().sandbox.landlock == ::worker::protocol::Landlock::Full {
        assert_eq!(attempt(&mut client, number_of("kill")), -EPERM);
    }
    worker.stop();
}

#[test]
fn without_the_sandbox_a_file_can_be_opened() {
    let worker = Worker::start(TYPE, &["--sandbox", "off"]);
    assert!(attempt(&mut worker.client(), number_of("openat")) > 2);
    worker.stop();
}

#[test]
fn a_panic_or_an_overflow_ends_the_process_with_its_message_in_the_log() {
    for (cause, message) in [
        (PANIC, "vgpu-worker: 'device' panicked at"),
        (PANIC, "a panic on purpose"),
        (OVERFLOW, "thread 'device'"),
        (OVERFLOW, "has overflowed its stack"),
    ] {
        let mut worker = Worker::start_by(TYPE, &[], |command| {
            command.env("RUST_BACKTRACE", "1");
        });
        let answer = worker.client().region_write(0, 0, &cause.to_le_bytes());
        assert!(answer.is_err(), "{message}");
        assert_eq!(worker.end().signal(), Some(SIGABRT), "{message}");
        let log = worker.log();
        assert!(log.contains(message), "{log}");
        assert!(!log.contains("sandbox"), "{log}");
    }
}
