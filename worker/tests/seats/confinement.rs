//! What the worker of a physical device may do, and what not; tried from inside, by a vGPU.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use ::worker::fake_parent::{NOT_ON_ITS_FILES, ON_ITS_FILES};
use ::worker::forbidden::{ATTEMPTS, NOT_ON_FILES, ON_FILES, PANIC, TYPE};
use vfu::client::Client;

use crate::guest::loop_back;
use crate::host::Host;

const SIGABRT: i32 = 6;
const SIGSYS: i32 = 31;
const EFAULT: i64 = 14;
const ENOTTY: i64 = 25;

fn attempt(client: &mut Client, number: u32) -> Option<i64> {
    client.region_write(0, 0, &number.to_le_bytes()).ok()?;
    let mut result = [0; 8];
    client.region_read(0, 0, &mut result).unwrap();
    Some(i64::from_le_bytes(result))
}

#[test]
fn calls_of_vfio_are_made_on_the_devices_own_files() {
    let host = Host::start(&[]);
    let mut client = host.serve("a", TYPE).client();
    for (number, (name, _)) in (ON_FILES..).zip(ON_ITS_FILES) {
        // No device is behind the files, and no lock is described.
        let result = attempt(&mut client, number);
        assert!([Some(-ENOTTY), Some(-EFAULT)].contains(&result), "{name}");
    }
    host.stop();
}

#[test]
fn other_calls_of_vfio_end_the_process_and_so_does_what_is_forbidden_to_any_worker() {
    let others = (NOT_ON_FILES..).zip(NOT_ON_ITS_FILES);
    let any = (0..).zip(ATTEMPTS);
    let any = any.filter(|(_, (name, _))| ["openat", "ioctl", "socket"].contains(name));
    for (number, (name, _)) in others.chain(any) {
        let mut host = Host::start(&[]);
        let mut client = host.serve("a", TYPE).client();
        assert_eq!(attempt(&mut client, number), None, "{name}");
        let end = host.end();
        assert_eq!(end.signal(), Some(SIGSYS), "{name}: {end}");
        assert!(host.log().contains("stopped by the sandbox"), "{name}");
    }
}

/// What the seats share may be half changed.
#[test]
fn a_panic_in_one_seat_ends_the_process() {
    let mut host = Host::start(&[]);
    // Nobody keeps their connections.
    let mut bad = host.serve("bad", TYPE).client();
    let mut good = host.serve("good", "serial-1").client();
    loop_back(&mut good);
    assert_eq!(attempt(&mut bad, PANIC), None);
    assert_eq!(host.end().signal(), Some(SIGABRT));
    assert!(good.device_info().is_err());
}

#[test]
fn its_limits_are_those_of_many_and_memory_is_locked_as_far_as_it_is_told() {
    let host = Host::start(&["--lock-limit", "1M"]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", host.child.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max locked memory"));
    let words: Vec<_> = line.unwrap().split_whitespace().collect();
    assert_eq!(words[3..5], ["1048576", "1048576"]);
    host.stop();
}
