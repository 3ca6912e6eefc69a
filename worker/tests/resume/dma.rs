//! Workers are killed while the guest's memory is copied.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ::worker::parking::CLIENT;
use rustix::process::Signal;

use crate::guest::Guest;
use crate::host::{DEADLINE, Host};

pub(crate) fn kills() -> u32 {
    match std::env::var_os("VGPUD_TEST_ALL") {
        Some(_) => 2000,
        None => 200,
    }
}

/// Kills the worker again and again, while something counts how often it has done its work.
pub(crate) fn kill_under(host: &mut Host, kills: u32, work: impl FnMut(u64) + Send + 'static) {
    let mut work = work;
    let is_over = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let (told, counted) = (Arc::clone(&is_over), Arc::clone(&done));
    let thread = thread::spawn(move || {
        while !told.load(Ordering::Relaxed) {
            work(counted.fetch_add(1, Ordering::Relaxed));
        }
    });
    let mut random = 4711_u32;
    for kill in 0..kills {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        thread::sleep(Duration::from_micros(u64::from(random >> 16) % 3000));
        host.kill(Signal::KILL);
        let before = done.load(Ordering::Relaxed);
        assert!(host.recover().unwrap().exact, "kill {kill}");
        let begin = Instant::now();
        while done.load(Ordering::Relaxed) < before + 2 && !thread.is_finished() {
            assert!(begin.elapsed() < DEADLINE, "kill {kill}: {}", host.log());
            thread::sleep(Duration::from_micros(200));
        }
        if thread.is_finished() {
            break;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    println!("{kills} kills, {} times done", done.load(Ordering::Relaxed));
}

#[test]
fn what_has_been_copied_as_registers_say_is_right_and_was_told_of() {
    let mut host = Host::start("edu-2");
    let mut guest = Guest::new(host.connect());
    host.wait_parked(CLIENT);
    kill_under(&mut host, kills(), move |turn| {
        guest.copy(turn);
        guest.compute(turn);
    });
    host.stop();
}
