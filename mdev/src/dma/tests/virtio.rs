//! Virtio queues run on guest memory as it is.

use std::io::{Read, Write};

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::*;

/// Where a driver put its rings: each in a mapping of its own, side by side.
const DESCRIPTORS: u64 = 4 * PAGE;
const AVAILABLE: u64 = 5 * PAGE;
const USED: u64 = 6 * PAGE;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// One descriptor, as a driver writes it.
fn describe(memory: &GuestMemory, index: u64, at: u64, len: u32, flags: u16) {
    let next = index as u16 + 1;
    let bytes: Vec<u8> = at
        .to_le_bytes()
        .into_iter()
        .chain(len.to_le_bytes())
        .chain(flags.to_le_bytes())
        .chain(next.to_le_bytes())
        .collect();
    memory
        .write(Iova(DESCRIPTORS + index * 16), &bytes)
        .unwrap();
}

#[test]
fn a_chain_is_read_across_mappings_and_a_used_entry_written() {
    let memory = connected(DmaLimits::default());
    let fd = memfd(8);
    for page in 0..8 {
        // In another order than in the file, so that neighbours are not neighbours there.
        map(&memory, page..page + 1, BOTH, Some((&fd, 7 - page))).unwrap();
    }
    memory.write(Iova(PAGE - 3), b"hello").unwrap();
    describe(&memory, 0, PAGE - 3, 5, NEXT);
    describe(&memory, 1, 2 * PAGE - 2, 4, WRITE);
    memory.write(Iova(AVAILABLE), &[0, 0, 1, 0, 0, 0]).unwrap();

    let mut queue = Queue::new(16).unwrap();
    queue.set_size(16);
    queue.set_desc_table_address(Some(DESCRIPTORS as u32), Some(0));
    queue.set_avail_ring_address(Some(AVAILABLE as u32), Some(0));
    queue.set_used_ring_address(Some(USED as u32), Some(0));
    queue.set_ready(true);
    let view = memory.view().unwrap();
    assert!(queue.is_valid(&view));
    let chain = queue.pop_descriptor_chain(&view).unwrap();
    let head = chain.head_index();
    let mut said = String::new();
    chain
        .clone()
        .reader(&view)
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said, "hello");
    chain.writer(&view).unwrap().write_all(b"yes!").unwrap();
    queue.add_used(&view, head, 4).unwrap();
    assert!(queue.pop_descriptor_chain(&view).is_none());
    let index: u16 = view.read_obj(GuestAddress(USED + 2)).unwrap();
    let entry: [u32; 2] = view.read_obj(GuestAddress(USED + 4)).unwrap();
    assert_eq!((index, entry), (1, [0, 4]));
    drop(view);
    let mut answer = [0; 4];
    memory.read(Iova(2 * PAGE - 2), &mut answer).unwrap();
    assert_eq!(&answer, b"yes!");
}

#[test]
fn a_queue_in_memory_that_is_not_there_is_an_error_and_no_more() {
    let memory = connected(DmaLimits::default());
    map(&memory, 4..5, DmaFlags::READ, Some((&memfd(1), 0))).unwrap();
    let mut queue = Queue::new(16).unwrap();
    queue.set_size(16);
    queue.set_desc_table_address(Some(DESCRIPTORS as u32), Some(0));
    queue.set_avail_ring_address(Some(AVAILABLE as u32), Some(0));
    queue.set_used_ring_address(Some(DESCRIPTORS as u32), Some(0));
    queue.set_ready(true);
    let view = memory.view().unwrap();
    assert!(!queue.is_valid(&view));
    assert!(queue.pop_descriptor_chain(&view).is_none());
    assert!(
        queue.add_used(&view, 0, 0).is_err(),
        "the page is read-only"
    );
}
