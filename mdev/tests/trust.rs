//! Whether the files that a client sends are its guest's memory.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mdev::dma::view::Access;
use mdev::dma::{AccessError, DmaLimits, GuestMemory, Iova, IovaRange};
use support::guest::{Guest, PAGE, Qemu, Wanted, in_thread};
use support::listener::Listener;
use support::raw::Outcome;
use support::{Instance, memfd};
use vfu::Errno;
use vfu::wire::version::Capabilities;

fn read(memory: &GuestMemory, at: u64, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len];
    let result = memory.read(Iova(at), &mut bytes);
    result.map(|()| bytes).map_err(|error| error.errno())
}

/// Everything that a device may do with page 1: it finds "told", and leaves "done".
fn use_page(memory: &GuestMemory) {
    assert_eq!(read(memory, PAGE, 4).unwrap(), b"told");
    memory.write(Iova(PAGE + 8), b"done").unwrap();
    assert_eq!(read(memory, PAGE + 8, 4).unwrap(), b"done");
}

/// Command and size.
fn forms(served: &[Wanted]) -> Vec<(u16, usize)> {
    served.iter().map(|it| (it.command, it.count)).collect()
}

#[test]
fn a_client_whose_files_are_the_guests_memory_is_asked_once() {
    for qemu in [Qemu::New, Qemu::Old] {
        let instance = Instance::new();
        let mut guest = Guest::new(&instance, qemu, 4);
        let ram = guest.ram.try_clone().unwrap();
        guest.map(0, 4, Some(&ram));
        guest.put(PAGE, b"told");
        let (served, ()) = guest.serve_while(&instance, use_page);
        assert_eq!(forms(&served), [(12, 0), (11, 4096)], "{qemu:?}");
        assert_eq!(served[1].at, PAGE, "where it is used");
        let (served, ()) = guest.serve_while(&instance, |memory| {
            use_page(memory);
            let range = IovaRange::new(Iova(0), 4 * PAGE).unwrap();
            assert_eq!(
                memory.pin(range, Access::Write).unwrap().len() as u64,
                4 * PAGE
            );
            assert!(
                memory
                    .view()
                    .unwrap()
                    .slices(range, Access::Write)
                    .all(|it| it.is_ok())
            );
        });
        assert_eq!(forms(&served), [], "{qemu:?}");
        assert_eq!(guest.look(PAGE + 8, 4), b"done");
    }
}

#[test]
fn a_client_whose_files_are_not_is_served_by_message_and_told_about_once() {
    let instance = Instance::new();
    let mut guest = Guest::new(&instance, Qemu::New, 4);
    // As QEMU's memory-backend-memfd with share=off.
    let copy = memfd(4 * PAGE);
    guest.map(0, 4, Some(&copy));
    guest.put(PAGE, b"told");
    let said = Arc::new(AtomicUsize::new(0));
    let listener = Listener(Arc::clone(&said));
    let (_, ()) = guest.serve_while(&instance, |memory| {
        tracing::subscriber::with_default(listener, || {
            use_page(memory);
            use_page(memory);
            let range = IovaRange::new(Iova(PAGE), PAGE).unwrap();
            let pin = memory.pin(range, Access::Write);
            assert!(matches!(pin, Err(AccessError::NeedsMessages(_))));
            // A queue must not run on what the guest does not see.
            let view = memory.view().unwrap();
            let slice = view.slices(range, Access::Write).next().unwrap();
            assert!(matches!(slice, Err(AccessError::NeedsMessages(_))));
        });
    });
    assert_eq!(said.load(Ordering::Relaxed), 1);
    assert_eq!(guest.look(PAGE + 8, 4), b"done");
    let mut untouched = vec![1; 4 * PAGE as usize];
    rustix::io::pread(&copy, &mut untouched, 0).unwrap();
    assert_eq!(untouched, vec![0; 4 * PAGE as usize]);
    let (served, _) = guest.serve_while(&instance, |memory| read(memory, PAGE, 4));
    assert_eq!(forms(&served), [(11, 4)], "nothing more to find out");
}

#[test]
fn memory_that_is_all_zero_tells_nothing_and_goes_by_message_until_it_does() {
    let instance = Instance::new();
    let mut guest = Guest::new(&instance, Qemu::New, 4);
    let ram = guest.ram.try_clone().unwrap();
    guest.map(0, 2, Some(&ram));
    guest.map(2, 2, Some(&ram));
    for _ in 0..2 {
        let (served, seen) = guest.serve_while(&instance, |memory| read(memory, 3 * PAGE, 4));
        assert_eq!(seen.unwrap(), [0; 4]);
        assert_eq!(forms(&served).last(), Some(&(11, 4)), "by message");
    }
    let range = IovaRange::new(Iova(PAGE), PAGE).unwrap();
    let (_, pin) = guest.serve_while(&instance, move |memory| {
        memory.pin(range, Access::Read).map(drop)
    });
    assert!(matches!(pin, Err(AccessError::NeedsMessages(_))));
    // What the device writes itself is enough to tell.
    let (_, ()) = guest.serve_while(&instance, |memory| {
        memory.write(Iova(PAGE), b"told").unwrap();
        use_page(memory);
    });
    let (served, ()) = guest.serve_while(&instance, use_page);
    assert_eq!(forms(&served), []);
}

/// Cloud Hypervisor would take a request for a reply.
#[test]
fn a_client_that_does_not_name_its_mappings_is_believed_and_never_asked() {
    let instance = Instance::new();
    let offer = Capabilities {
        max_dma_maps: None,
        ..support::offer()
    };
    let mut guest = Guest::offering(&instance, Qemu::New, 4, offer);
    let ram = guest.ram.try_clone().unwrap();
    guest.map(0, 2, Some(&ram));
    guest.map(2, 2, None);
    guest.put(PAGE, b"told");
    let (served, by_message) = guest.serve_while(&instance, |memory| {
        use_page(memory);
        read(memory, 2 * PAGE, 4)
    });
    assert_eq!((forms(&served), by_message), (vec![], Err(Errno::NODEV)));
    assert_eq!(guest.look(PAGE + 8, 4), b"done");
}

#[test]
fn a_client_that_cannot_be_asked_is_believed() {
    let instance = Instance::new();
    let mut guest = Guest::new(&instance, Qemu::New, 4);
    let ram = guest.ram.try_clone().unwrap();
    guest.map(0, 4, Some(&ram));
    guest.put(PAGE, b"told");
    let thread = in_thread(&instance, use_page);
    for _ in 0..2 {
        let wanted = guest.wanted();
        guest.refuse(&wanted, Errno::NOSYS);
    }
    let (served, ()) = guest.serve_all(thread);
    assert_eq!(forms(&served), []);
}

/// The table must not be locked while a thread waits for the client.
#[test]
fn a_client_may_map_and_unmap_before_it_answers() {
    // Longer than this client waits for the answer to its map.
    let instance = Instance::with_limits(DmaLimits {
        message: Duration::from_secs(60),
        ..DmaLimits::default()
    });
    let mut guest = Guest::new(&instance, Qemu::New, 8);
    let ram = guest.ram.try_clone().unwrap();
    guest.map(0, 4, Some(&ram));
    guest.put(PAGE, b"told");
    let thread = in_thread(&instance, use_page);
    let asked = guest.wanted();
    assert_eq!(guest.map(4, 4, Some(&ram)), Outcome::Success(vec![]));
    assert!(matches!(guest.unmap(4, 4), Outcome::Success(_)));
    // The unmap has ended the comparison; the access begins another one, or goes by message.
    guest.serve(&asked);
    guest.serve_all(thread);
    guest.serve_while(&instance, use_page);
    let (served, ()) = guest.serve_while(&instance, use_page);
    assert_eq!(forms(&served), []);
}

#[test]
fn each_client_is_judged_by_itself() {
    let instance = Instance::new();
    for is_shared in [true, false, true] {
        let mut guest = Guest::new(&instance, Qemu::New, 4);
        let ram = guest.ram.try_clone().unwrap();
        let copy = memfd(4 * PAGE);
        guest.map(0, 4, Some(if is_shared { &ram } else { &copy }));
        guest.put(PAGE, b"told");
        guest.serve_while(&instance, use_page);
        assert_eq!(guest.look(PAGE + 8, 4), b"done");
        let (served, ()) = guest.serve_while(&instance, use_page);
        assert_eq!(served.is_empty(), is_shared);
        drop(guest);
        support::wait_until("the session is over", || instance.memory.counts().0 == 0);
    }
}

#[test]
fn a_device_that_is_not_bus_master_asks_for_nothing() {
    let instance = Instance::new();
    let mut guest = Guest::new(&instance, Qemu::New, 2);
    let ram = guest.ram.try_clone().unwrap();
    guest.map(0, 1, None);
    guest.map(1, 1, Some(&ram));
    guest.command_register(2);
    let write = |memory: &GuestMemory, at| {
        let result = memory.write(Iova(at), b"x");
        result.map_err(|error| error.errno())
    };
    let (served, results) = guest.serve_while(&instance, move |memory| {
        let range = IovaRange::new(Iova(PAGE), PAGE).unwrap();
        let pin = memory.pin(range, Access::Read).map(drop);
        let pin = pin.map_err(|error| error.errno());
        [
            write(memory, 0),
            write(memory, PAGE),
            read(memory, 0, 1).map(drop),
            pin,
        ]
    });
    assert_eq!((served, results), (vec![], [Err(Errno::PERM); 4]));
    assert_eq!(guest.look(0, 2 * PAGE as usize), vec![0; 2 * PAGE as usize]);
}
