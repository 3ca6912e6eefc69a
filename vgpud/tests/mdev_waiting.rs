//! Who waits for whom in the mounted mdev tree: nobody for what another has asked.

mod support;

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Signal;
use support::mdev::{Mounted, device_path, errno, type_path};
use support::{Daemon, Process, names, uuid, wait_for};

/// How long anything may take. Nothing is timed: this only ends a hang.
const LIMIT: Duration = Duration::from_secs(300);

/// A daemon and its tree; `None` where nothing can be mounted.
fn mounted() -> Option<(Daemon, Mounted)> {
    let daemon = Daemon::start();
    let tree = Mounted::start(&daemon)?;
    Some((daemon, tree))
}

fn text(number: u128) -> String {
    uuid(number).to_string()
}

fn create() -> String {
    format!("{}/create", type_path("edu-1"))
}

#[test]
fn a_daemon_that_stands_still_holds_up_only_who_asks_it() {
    let Some((daemon, tree)) = mounted() else {
        return;
    };
    tree.write(create(), text(1)).unwrap();
    let process = Process::open(daemon.pid());
    process.signal(Signal::STOP);
    let going_on = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..40)
            .map(|_| {
                scope.spawn(|| {
                    let state = tree.read(device_path(uuid(1), "state"));
                    (going_on.load(Ordering::Relaxed), state)
                })
            })
            .collect();
        for _ in 0..100 {
            assert_eq!(names(&tree.path("sys")), ["bus", "class", "devices"]);
            fs::read_link(tree.path("etc/mdevctl.d")).ok();
        }
        going_on.store(true, Ordering::Relaxed);
        process.signal(Signal::CONT);
        for reader in readers {
            let (has_waited, state) = reader.join().unwrap();
            assert!(has_waited);
            assert_eq!(state.unwrap(), "running\n");
        }
    });
}

#[test]
fn a_worker_that_stands_still_holds_up_only_who_asks_it() {
    let Some((_daemon, tree)) = mounted() else {
        return;
    };
    tree.write(create(), text(1)).unwrap();
    let pid = tree.read(device_path(uuid(1), "statistics/pid")).unwrap();
    let worker = Process::open(pid.trim_end().parse().unwrap());
    worker.signal(Signal::STOP);
    let is_going_on = AtomicBool::new(false);
    thread::scope(|scope| {
        // Each name is looked for in the same folder as those that others look for.
        let readers: Vec<_> = ["dma", "dma-mask", "panic-register"]
            .map(|name| {
                let (tree, is_going_on) = (&tree, &is_going_on);
                scope.spawn(move || {
                    let value = tree.read(device_path(uuid(1), name));
                    (is_going_on.load(Ordering::Relaxed), value)
                })
            })
            .into();
        thread::sleep(Duration::from_millis(100));
        for _ in 0..20 {
            assert_eq!(names(&tree.path("sys/bus/mdev/devices")), [text(1)]);
            let state = tree.read(device_path(uuid(1), "state"));
            assert_eq!(state.unwrap(), "running\n");
        }
        is_going_on.store(true, Ordering::Relaxed);
        worker.signal(Signal::CONT);
        for (reader, expected) in readers.into_iter().zip(["pin\n", "28\n", "off\n"]) {
            let (has_waited, value) = reader.join().unwrap();
            assert!(has_waited);
            assert_eq!(value.unwrap(), expected);
        }
    });
}

/// Descriptors that a process has open.
fn descriptors(pid: u32) -> usize {
    names(format!("/proc/{pid}/fd").as_ref()).len()
}

#[test]
fn a_thousand_readers_see_devices_come_and_go() {
    const READERS: usize = 1000;
    let Some((daemon, tree)) = mounted() else {
        return;
    };
    tree.write(create(), text(1)).unwrap();
    let available = format!("{}/available_instances", type_path("edu-1"));
    let devices = tree.path("sys/bus/mdev/devices");
    let files = ["state", "mdev_type/name", "dma", "statistics/requests"];
    let read = |which: usize| {
        tree.read(&available).map(drop)?;
        for device in fs::read_dir(&devices)? {
            fs::read_to_string(device?.path().join(files[which % files.len()]))?;
        }
        Ok::<_, std::io::Error>(())
    };
    for which in 0..files.len() {
        read(which).unwrap();
    }
    let before = descriptors(tree.pid());
    let (done, deadline) = (AtomicUsize::new(0), Instant::now() + LIMIT);
    thread::scope(|scope| {
        for which in 0..READERS {
            let (read, done) = (&read, &done);
            let reader = thread::Builder::new().stack_size(128 << 10);
            let look = move || {
                // What is gone is told as that.
                let gone = [Errno::NOENT, Errno::NODEV, Errno::NXIO].map(Errno::raw_os_error);
                let number = errno(read(which));
                assert!(number == 0 || gone.contains(&number), "{number}");
                done.fetch_add(1, Ordering::Relaxed);
            };
            reader.spawn_scoped(scope, look).unwrap();
        }
        let mut round = 0;
        while done.load(Ordering::Relaxed) < READERS && round < 100_000 {
            round += 1;
            tree.write(create(), text(2)).unwrap();
            tree.write(device_path(uuid(2), "remove"), "1").unwrap();
            if Instant::now() > deadline {
                // Whoever still waits is told.
                Process::open(tree.pid()).kill();
                break;
            }
        }
    });
    assert_eq!(done.load(Ordering::Relaxed), READERS);
    assert!(Instant::now() < deadline, "it took too long");
    wait_for("closed descriptors", || {
        // Each thread that asks may have one connection more that it has not dropped yet.
        (descriptors(tree.pid()) <= before + 20).then_some(())
    });
    assert_eq!(names(&tree.path("sys/bus/mdev/devices")), [text(1)]);
    assert!(!tree.log().contains("panicked"), "{}", tree.log());
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}
