//! vGPUs on one physical display: QEMU's `bochs-display`, or its VGA card, in a guest that has it behind
//! an IOMMU and gives it to user space. What the card shows is what QEMU takes a picture of.
//!
//! The vGPUs, and clients that draw as guests would, are the program `slices`, which runs in the guest.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod daemon;
mod inner;

use std::thread;
use std::time::{Duration, Instant};

use e2e::guest::Guest;
use e2e::{Machine, Programs, Screen, Vm};

const BOCHS: &str = "1234:1111";
const SIZE: (u32, u32) = (640, 480);

/// For what comes by itself: a tile that was drawn.
const LIMIT: Duration = Duration::from_secs(60);

/// For all that the conformance suite does to one vGPU.
const SUITE_LIMIT: Duration = Duration::from_secs(600);

/// A machine with a card of that kind, behind an IOMMU.
fn machine<'a>(programs: &'a Programs, card: &str) -> Machine<'a> {
    Machine::new(programs)
        .module("vfio-pci")
        .module("vfio_iommu_type1")
        .guest_program("slices")
        .kernel_arg("intel_iommu=on")
        // With interrupts remapped, the kernel panics where its timer is late, as on a busy machine.
        .kernel_arg("no_timer_check")
        .device("intel-iommu,intremap=on,caching-mode=on")
        .device(card)
}

/// A guest with a card of that kind, which user space has, and the card's address there.
fn boot(programs: &Programs, card: &str) -> (Vm, String) {
    let mut vm = machine(programs, card).boot().unwrap();
    let function = vm.guest.give(BOCHS).unwrap();
    (vm, function)
}

/// Starts vGPUs on a card.
fn serve(guest: &mut Guest, function: &str, seats: &[&str]) {
    let command = format!(
        "slices serve {function} direct=on {} >/tmp/serve.log 2>&1 &",
        seats.join(" ")
    );
    guest.sh(&command).unwrap();
    seat(guest, "0 attributes");
}

/// Starts so many vGPUs on a card, and a client of each.
fn serve_clients(guest: &mut Guest, function: &str, kind: &str, count: usize) {
    serve(guest, function, &vec![kind; count]);
    for number in 0..count {
        start_client(guest, number);
    }
}

/// Ends the clients and the vGPUs, and waits until the card is free.
fn end(guest: &mut Guest, clients: usize) {
    for number in 0..clients {
        client(guest, number, "end");
    }
    seat(guest, "end");
    let idle = "! ls -l /proc/[0-9]*/fd | grep -q vfio-device";
    guest.wait_for(idle).unwrap();
}

fn start_client(guest: &mut Guest, number: usize) {
    let command = format!("slices client {number} {number} >/tmp/client-{number}.log 2>&1 &");
    guest.sh(&command).unwrap();
}

/// Has a vGPU, given by its number, do something.
fn seat(guest: &mut Guest, words: &str) -> String {
    guest.sh(&format!("slices ask /tmp/seats {words}")).unwrap()
}

/// Has the client of a vGPU do something.
fn client(guest: &mut Guest, number: usize, words: &str) -> String {
    let command = format!("slices ask /tmp/client-{number} {words}");
    guest.sh(&command).unwrap()
}

/// Whether a picture is the test picture of that seed.
fn is_picture(screen: &Screen, seed: u32) -> bool {
    screen.size() == SIZE && screen.differs_from_pattern(seed).is_none()
}

/// Takes one picture of the card's screen, which has to be that of a seed.
fn check(vm: &mut Vm, seed: u32, what: &str) {
    let screen = vm.screenshot().unwrap();
    let (size, difference) = (screen.size(), screen.differs_from_pattern(seed));
    assert!(
        is_picture(&screen, seed),
        "{what}: {size:?} {difference:x?}"
    );
}

/// The same once it is there.
fn wait_for(vm: &mut Vm, seed: u32, what: &str) {
    let start = Instant::now();
    while !is_picture(&vm.screenshot().unwrap(), seed) {
        assert!(start.elapsed() < LIMIT, "{what} does not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Two vGPUs draw at once, and each is right in the first picture after it came to the front.
fn check_switches(vm: &mut Vm, function: &str, aperture: &str) {
    let kind = format!("bochs-slice-4m,aperture={aperture}");
    serve_clients(&mut vm.guest, function, &kind, 2);
    for number in 0..2 {
        let draw = format!("draw 640 480 {} {}", 10 + number, 100 * number);
        client(&mut vm.guest, number, &draw);
    }
    for turn in 0..2 {
        for number in 0..2 {
            seat(&mut vm.guest, &format!("{number} set foreground on"));
            check(vm, 10 + number, &format!("{aperture}, {turn}"));
        }
    }
    // The one that is not shown goes on, and its console sees it.
    client(&mut vm.guest, 0, "draw 640 480 20 7");
    check(vm, 11, aperture);
    assert_eq!(seat(&mut vm.guest, "0 seen 20"), "640x480 right");
    seat(&mut vm.guest, "0 set foreground on");
    check(vm, 20, aperture);
    let attributes = seat(&mut vm.guest, "1 attributes");
    assert!(attributes.contains("foreground=off"), "{attributes}");
    // The one that is shown draws, and flips.
    for (seed, top) in [(30, 600), (31, 0), (32, 1158)] {
        client(&mut vm.guest, 0, &format!("draw 640 480 {seed} {top}"));
        client(&mut vm.guest, 1, "draw 640 480 99 3");
        wait_for(vm, seed, aperture);
        assert_eq!(
            seat(&mut vm.guest, &format!("0 seen {seed}")),
            "640x480 right"
        );
    }
    end(&mut vm.guest, 2);
}

/// Whatever a client does, its neighbours' bytes stay what they are, and are not shown.
fn check_bounds(vm: &mut Vm, function: &str, aperture: &str) {
    let kind = format!("bochs-slice-4m,aperture={aperture}");
    serve_clients(&mut vm.guest, function, &kind, 4);
    let guest = &mut vm.guest;
    for (number, byte) in [(0, 17), (2, 51), (1, 34), (3, 68)] {
        client(guest, number, &format!("fill {byte}"));
    }
    for (number, byte) in [(0, 17), (1, 34), (2, 51), (3, 68)] {
        assert_eq!(client(guest, number, "bounds"), "16 refused");
        let whole = client(guest, number, &format!("check {byte}"));
        assert_eq!(whole, "4 MiB right", "{aperture}");
    }
    seat(guest, "1 set foreground on");
    client(guest, 1, "draw 640 480 40 0");
    wait_for(vm, 40, aperture);
    // A line further down, and the picture would show the neighbour's: nothing is shown then.
    for top in [1159, 2000, 65535] {
        client(&mut vm.guest, 1, &format!("pan {top}"));
        assert_eq!(seat(&mut vm.guest, "1 seen 40"), "nothing");
        let screen = vm.screenshot().unwrap();
        let (width, height) = screen.size();
        for neighbour in [0x11_1111, 0x33_3333] {
            let shows = (0..height).any(|y| (0..width).any(|x| screen.pixel(x, y) == neighbour));
            assert!(!shows, "{aperture} {top}");
        }
    }
    client(&mut vm.guest, 1, "pan 0");
    wait_for(vm, 40, aperture);

    // A client that dies leaves nothing behind: neither on the screen, nor to the next client.
    client(&mut vm.guest, 1, "end");
    let guest = &mut vm.guest;
    let attributes = seat(guest, "1 attributes");
    assert!(attributes.contains("foreground=off"), "{attributes}");
    assert!(vm.screenshot().unwrap().is_black(), "{aperture}");
    start_client(&mut vm.guest, 1);
    assert_eq!(client(&mut vm.guest, 1, "check 0"), "4 MiB right");
    for (number, byte) in [(2, 51), (3, 68)] {
        let whole = client(&mut vm.guest, number, &format!("check {byte}"));
        assert_eq!(whole, "4 MiB right", "{aperture}");
    }
    end(&mut vm.guest, 4);
}

#[test]
fn a_card_shows_each_vgpu_in_the_first_picture_after_it_came_to_the_front() {
    let programs = Programs::from_env().unwrap();
    let (mut vm, function) = boot(&programs, "bochs-display");
    for aperture in ["trap", "shadow", "direct"] {
        check_switches(&mut vm, &function, aperture);
    }
}

#[test]
fn neither_reaches_anothers_slice_and_the_dead_leave_nothing() {
    let programs = Programs::from_env().unwrap();
    let (mut vm, function) = boot(&programs, "bochs-display");
    for aperture in ["trap", "shadow", "direct"] {
        check_bounds(&mut vm, &function, aperture);
    }
}

/// The suite takes minutes in emulation: `./x test --all` runs it here.
#[test]
fn the_protocol_is_kept_and_hostile_clients_leave_the_others_alone() {
    if std::env::var_os("VGPUD_TEST_ALL").is_none() {
        println!("NOT RUN: it is for ./x test --all");
        return;
    }
    let programs = Programs::from_env().unwrap();
    let machine = machine(&programs, "bochs-display").memory_mib(512);
    let mut vm = machine
        .our_program("vfu-conformance")
        .unwrap()
        .boot()
        .unwrap();
    let function = vm.guest.give(BOCHS).unwrap();
    let guest = &mut vm.guest;
    let seats = ["trap", "shadow", "direct", "shadow"];
    let seats = seats.map(|way| format!("bochs-slice-4m,aperture={way}"));
    serve(guest, &function, &seats.each_ref().map(String::as_str));
    start_client(guest, 3);
    client(guest, 3, "fill 68");
    for (number, way) in seats.iter().enumerate().take(3) {
        let suite = "LD_LIBRARY_PATH=/lib vfu-conformance --timeout 30 --socket";
        for what in ["", "--hostile 300"] {
            let command = format!("{suite} /tmp/seat-{number} {what}");
            let output = guest.run_within(&command, SUITE_LIMIT).unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status, 0, "{way}: {said}");
            println!("{way}: {said}");
        }
    }
    assert_eq!(client(guest, 3, "check 68"), "4 MiB right");
    client(guest, 3, "draw 640 480 70 0");
    seat(guest, "3 set foreground on");
    check(&mut vm, 70, "the neighbour");
}

#[test]
fn a_client_that_keeps_the_card_keeps_its_slice_from_others() {
    let programs = Programs::from_env().unwrap();
    let (mut vm, function) = boot(&programs, "bochs-display");
    let guest = &mut vm.guest;
    serve_clients(guest, &function, "bochs-slice-4m,aperture=direct", 1);
    client(guest, 0, "fill 17");
    client(guest, 0, "hang-up");
    guest
        .sh("slices client 0 1 >/tmp/client-1.log 2>&1 &")
        .unwrap();
    assert_eq!(client(guest, 1, "check 0"), "4 MiB right");
    client(guest, 0, "fill 34");
    assert_eq!(client(guest, 1, "check 0"), "4 MiB right");
    // The card has room for one of 8 MiB, and not for two.
    seat(guest, "more bochs-slice-8m");
    let more = "slices ask /tmp/seats more bochs-slice-4m";
    assert_ne!(guest.run(more).unwrap().status, 0);
    client(guest, 0, "end");
    guest.wait_for(more).unwrap();
    start_client(guest, 2);
    assert_eq!(client(guest, 2, "check 0"), "4 MiB right");
}

#[test]
fn a_vga_card_does_the_same() {
    let programs = Programs::from_env().unwrap();
    let (mut vm, function) = boot(&programs, "VGA");
    check_switches(&mut vm, &function, "shadow");
}
