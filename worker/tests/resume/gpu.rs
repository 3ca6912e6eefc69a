//! Workers are killed while a guest draws on its GPU.

use std::os::fd::OwnedFd;
use std::time::Instant;

use ::worker::parking::CLIENT;
use virtio::feature;
use virtio::guest::{FREE, Guest, NEXT, WRITE};

use crate::dma::{kill_under, kills};
use crate::host::{DEADLINE, Host};

const OK: u32 = 0x1100;
const SIZE: (u32, u32) = (64, 32);
const BYTES: usize = (SIZE.0 * SIZE.1 * 4) as usize;

/// Sends a command of words, and gives back what it is answered.
fn ask(guest: &mut Guest, command: u32, words: &[u32]) -> u32 {
    // With a fence.
    let header = [command, 1, 77, 0, 0, 0];
    let request: Vec<_> = header
        .iter()
        .chain(words)
        .flat_map(|it| it.to_le_bytes())
        .collect();
    let answer = guest.ask(0, &request, 24);
    assert_eq!(answer[8..12], 77_u32.to_le_bytes());
    u32::from_le_bytes(answer[..4].try_into().unwrap())
}

fn picture(seed: u64) -> Vec<u8> {
    let words = (0..BYTES as u64 / 8).map(|at| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at);
    words.flat_map(u64::to_le_bytes).collect()
}

/// Shows a picture as a new resource, and lets the last one go, if there is one.
fn draw(guest: &mut Guest, seed: u64, has_last: bool) {
    let (width, height) = SIZE;
    let id = 1 + (seed % 1000) as u32;
    let last = 1 + (seed.wrapping_sub(1) % 1000) as u32;
    guest.put(FREE, &picture(seed));
    let half = BYTES as u32 / 2;
    let commands: [(u32, &[u32]); 6] = [
        (0x101, &[id, 1, width, height]),
        (
            0x106,
            &[
                id,
                2,
                FREE as u32,
                0,
                half,
                0,
                FREE as u32 + half,
                0,
                half,
                0,
            ],
        ),
        (0x105, &[0, 0, width, height, 0, 0, id, 0]),
        (0x103, &[0, 0, width, height, 0, id]),
        (0x104, &[0, 0, width, height, id, 0]),
        (0x102, &[last, 0]),
    ];
    for (command, words) in commands {
        if command != 0x102 || has_last {
            assert_eq!(ask(guest, command, words), OK, "{command:#x} of {seed}");
        }
    }
}

/// Resets the control queue and sends a command, before anybody has taken note of the reset: the
/// command must not be done again with it.
fn reset_in_one_go(guest: &mut Guest) {
    const REQUEST: u64 = FREE + 0x10_0000;
    const ANSWER: u64 = REQUEST + 0x1000;
    let request = [0x100_u32, 0, 0, 0, 0, 0].map(u32::to_le_bytes).concat();
    guest.put(REQUEST, &request);
    guest.put(ANSWER, &[0; 408]);
    guest.reset_queue_in_one_go(0, &[(REQUEST, 24, NEXT, 1), (ANSWER, 408, WRITE, 0)]);
    let begin = Instant::now();
    while guest.used(0) != 1 {
        assert!(begin.elapsed() < DEADLINE, "the queue is not served");
    }
    assert_eq!(guest.look(ANSWER, 4), 0x1101_u32.to_le_bytes());
    guest.put(ANSWER, &[0x5a; 408]);
    // All that was sent has been done.
    guest.status();
    guest.status();
    assert!(guest.look(ANSWER, 408) == [0x5a; 408], "answered twice");
}

/// What the worker shows.
fn shown(host: &Host) -> Vec<u8> {
    let picture = host.control().scanout(0).unwrap();
    let geometry = picture.geometry;
    assert_eq!((geometry.width, geometry.height), SIZE);
    read(&picture.memory, geometry.offset)
}

fn read(memory: &OwnedFd, at: u64) -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    assert_eq!(rustix::io::pread(memory, &mut bytes, at), Ok(BYTES));
    bytes
}

#[test]
fn no_command_or_reset_is_lost_or_done_twice_by_a_gpu_whose_worker_is_killed() {
    let mut host = Host::start("gpu-2d-hd");
    let features = feature::EVENT_IDX | feature::RING_RESET;
    let mut guest = Guest::new(host.connect(), features);
    host.wait_parked(CLIENT);
    let (told, heard) = std::sync::mpsc::channel();
    kill_under(&mut host, kills(), move |turn| {
        let is_anew = turn % 8 == 0;
        if is_anew {
            guest.set_up(features);
        }
        // Of one queue, and twice in a row: the first with nothing used since.
        if turn % 6 == 0 {
            guest.reset_queue(0);
            guest.reset_queue(0);
        }
        if turn % 2 == 0 {
            reset_in_one_go(&mut guest);
        }
        draw(&mut guest, turn, !is_anew);
        // The last one is shown when this is over.
        let _ = told.send(turn);
    });
    let turn = heard.try_iter().last().unwrap();
    // The guest is gone with its thread, and the picture stays.
    assert!(shown(&host) == picture(turn), "{turn}");
    host.stop();
}

#[test]
fn a_gpu_goes_on_in_a_worker_that_takes_over_with_all_that_it_has() {
    let mut host = Host::start("gpu-2d-hd");
    let mut guest = Guest::new(host.connect(), 0);
    host.wait_parked(CLIENT);
    for turn in 0..10 {
        draw(&mut guest, turn, turn > 0);
        assert!(host.upgrade().unwrap().exact);
        assert!(shown(&host) == picture(turn), "{turn}");
    }
    // A reset is not undone by whoever goes on.
    guest.set_up(0);
    assert!(host.upgrade().unwrap().exact);
    assert_eq!(ask(&mut guest, 0x102, &[10, 0]), 0x1203);
    assert!(host.control().scanout(0).is_err(), "nothing is shown");
    host.stop();
}
