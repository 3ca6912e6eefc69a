//! Workers are killed while their client maps memory and sets up interrupts.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::worker::parking::CLIENT;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vfu::Errno;
use vfu::client::ClientError;
use vfu::wire::dma::DmaUnmap;

use crate::dma::{kill_under, kills};
use crate::guest::{Guest, PAGE, mapping};
use crate::host::Host;

/// A request whose descriptors were with a worker that died is refused, and asked again.
fn until_done(lost: &AtomicU64, mut ask: impl FnMut() -> Result<(), ClientError>) {
    loop {
        match ask() {
            Ok(()) => return,
            Err(ClientError::Refused(Errno::IO)) => _ = lost.fetch_add(1, Ordering::Relaxed),
            Err(error) => panic!("{error}"),
        }
    }
}

fn file(turn: u64) -> OwnedFd {
    let file = memfd_create("more", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, PAGE).unwrap();
    rustix::io::pwrite(&file, &turn.to_le_bytes(), 0).unwrap();
    file
}

#[test]
fn mappings_and_interrupts_that_are_set_up_under_kills_work() {
    let mut host = Host::start("edu-2");
    let mut guest = Guest::new(host.connect());
    host.wait_parked(CLIENT);
    let lost = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&lost);
    let mut mapped = BTreeSet::new();
    kill_under(&mut host, kills(), move |turn| {
        let at = 16 * PAGE + turn % 8 * PAGE;
        if mapped.contains(&at) {
            let unmap = DmaUnmap::One {
                iova: at,
                size: PAGE,
            };
            guest.client.dma_unmap(&unmap).unwrap();
        }
        let more = file(turn);
        until_done(&counted, || {
            guest.client.dma_map(&mapping(at, PAGE), Some(more.as_fd()))
        });
        mapped.insert(at);
        until_done(&counted, || guest.set_irqs());
        assert_eq!(guest.fetch(at), turn, "the memory that was mapped");
        guest.copy(turn);
    });
    println!("{} requests lost descriptors", lost.load(Ordering::Relaxed));
    host.stop();
}
