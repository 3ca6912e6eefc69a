//! A session whose client says nothing costs nothing. Alone in its program, for the threads of
//! other tests would be counted too.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod support;

use std::thread;
use std::time::Duration;

use support::Instance;

/// How often any thread of this process but the caller's has been put on a CPU.
fn switches() -> u64 {
    let own = rustix::thread::gettid().as_raw_nonzero().to_string();
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap();
        if task.file_name().to_string_lossy() == own {
            continue;
        }
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let counts = status
            .lines()
            .filter(|line| line.contains("_ctxt_switches:"));
        let words = counts.filter_map(|line| line.split_whitespace().nth(1));
        sum += words.map(|word| word.parse::<u64>().unwrap()).sum::<u64>();
    }
    sum
}

#[test]
fn an_idle_session_is_never_woken() {
    let instance = Instance::new();
    let mut client = instance.client();
    for _ in 0..100 {
        client.region_read(7, 0, &mut [0; 4]).unwrap();
    }
    // It may still be looking for the next message.
    thread::sleep(Duration::from_millis(50));
    let before = switches();
    thread::sleep(Duration::from_millis(300));
    let woken = switches() - before;
    // The main thread of the test program is none of ours, and may wake once.
    assert!(woken <= 2, "woken {woken} times while nothing happened");
    client.region_read(7, 0, &mut [0; 4]).unwrap();
    assert!(switches() > before, "a wake-up would be seen");
}
