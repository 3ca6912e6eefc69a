//! Clients that take memory back which they gave.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod support;

use std::os::unix::net::UnixStream;
use std::thread;

use mdev::Services;
use mdev::dma::files::FilePolicy;
use mdev::dma::view::Access;
use mdev::dma::{DmaLimits, GuestMemory, Iova, IovaRange, sigbus};
use mdev::fake::FakeDevice;
use mdev::mailbox::Mailbox;
use mdev::session::{Session, SessionError, Surroundings};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use support::guest::{Guest, PAGE, Qemu, in_thread};
use support::raw::{Outcome, Raw, access, dma};
use support::{Instance, memfd};
use vfu::Errno;
use vfu::wire::version::Capabilities;

/// Of a client that is believed, so that there is nothing to find out.
fn believed() -> Capabilities {
    Capabilities {
        max_dma_maps: None,
        ..support::offer()
    }
}

/// A guest whose memory holds 7 everywhere.
fn guest(instance: &Instance) -> Guest {
    let mut guest = Guest::offering(instance, Qemu::New, 4, believed());
    let ram = guest.ram.try_clone().unwrap();
    assert_eq!(guest.map(0, 4, Some(&ram)), Outcome::Success(vec![]));
    guest.put(0, &[7; 4 * PAGE as usize]);
    guest
}

fn first_byte(memory: &GuestMemory, page: u64) -> Result<u8, Errno> {
    let mut byte = [0];
    let result = memory.read(Iova(page * PAGE), &mut byte);
    result.map(|()| byte[0]).map_err(|error| error.errno())
}

#[test]
fn a_truncated_file_ends_its_own_session_and_no_other() {
    sigbus::install().unwrap();
    let (good, bad) = (Instance::new(), Instance::new());
    let (mut good_guest, mut bad_guest) = (guest(&good), guest(&bad));
    ftruncate(&bad_guest.ram, PAGE).unwrap();
    // Whoever meets it goes on, on zeros.
    let seen = in_thread(&bad, |memory| first_byte(memory, 3))
        .join()
        .unwrap();
    assert_eq!(seen, Ok(0));
    assert_eq!(bad_guest.raw.receive(), (None, Outcome::Closed));
    assert_eq!(first_byte(&good.memory, 3), Ok(7));
    good.memory.write(Iova(3 * PAGE), &[8]).unwrap();
    assert_eq!(good_guest.look(3 * PAGE, 1), [8]);
    assert!(good_guest.raw.is_in_step());
    // And the next client of the same instance is served.
    drop(bad_guest);
    let next = guest(&bad);
    assert_eq!(first_byte(&bad.memory, 3), Ok(7));
    drop(next);
}

#[test]
fn a_session_says_that_its_client_has_truncated_its_memory() {
    sigbus::install().unwrap();
    let around = Surroundings::new(&Services::default());
    let memory = around.memory.clone();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let session = thread::spawn(move || {
        let (mut device, _) = FakeDevice::new(around.interrupts.clone()).unwrap();
        let (mailbox, _mail) = Mailbox::new().unwrap();
        let session = Session::new(theirs.into(), &mut device, &mailbox, around);
        session.unwrap().run()
    });
    let mut raw = Raw::new(ours);
    raw.agree_on(believed());
    assert!(matches!(
        raw.ask(10, &access(4, 7, 2, &[6, 0]), &[]),
        Outcome::Success(_)
    ));
    let ram = memfd(2 * PAGE);
    let map = dma(32, 3, &[0, 0, 2 * PAGE]);
    let fds = support::borrow(std::slice::from_ref(&ram));
    assert_eq!(raw.ask(2, &map, &fds), Outcome::Success(vec![]));
    let range = IovaRange::new(Iova(PAGE), PAGE).unwrap();
    let pin = memory.pin(range, Access::Write).unwrap();
    ftruncate(&ram, 0).unwrap();
    // Through a pin too, which outlives the session.
    pin.slices().for_each(|slice| slice.copy_from(&[1_u8; 16]));
    let ended = session.join().unwrap();
    assert!(matches!(ended, Err(SessionError::Truncated)), "{ended:?}");
    pin.slices().for_each(|slice| slice.copy_from(&[2_u8; 16]));
}

#[test]
fn where_files_must_be_sealed_others_are_refused() {
    let instance = Instance::with_limits(DmaLimits {
        files: FilePolicy::Sealed,
        ..DmaLimits::default()
    });
    let mut guest = Guest::offering(&instance, Qemu::New, 1, believed());
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    for (seals, expected) in [
        (SealFlags::empty(), Outcome::Refused(Errno::PERM)),
        (SealFlags::GROW, Outcome::Refused(Errno::PERM)),
        (SealFlags::SHRINK, Outcome::Success(vec![])),
    ] {
        let file = memfd_create("guest", flags).unwrap();
        ftruncate(&file, PAGE).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        assert_eq!(guest.map(0, 1, Some(&file)), expected, "{seals:?}");
    }
    assert_eq!(first_byte(&instance.memory, 0), Ok(0));
}
