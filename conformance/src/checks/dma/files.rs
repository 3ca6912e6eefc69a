//! DMA_MAP with a file: which ones are memory.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::fs::{Mode, OFlags, SealFlags, fcntl_add_seals, ftruncate, open};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use super::{BOTH, MAP_SECTION, PAGE, READ, map_file, map_file_refused, memory, unmap, was_mapped};
use crate::check::{Check, Unmet, Verdict, Within};
use crate::connection;
use crate::ensure;
use crate::negotiated::Client;
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: MAP_SECTION,
        rule,
        needs: &[],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "dma_map_takes_a_file",
        "A descriptor comes with memory that can be mapped; it may be part of a file.",
        takes_a_file,
    ),
    check(
        "dma_map_takes_one_file_at_most",
        "A message with two descriptors is refused, and both are closed.",
        one_at_most,
    ),
    check(
        "dma_map_of_what_is_no_memory_is_refused",
        "What cannot be mapped as memory is refused: pipes, sockets, folders, eventfds.",
        no_memory,
    ),
    check(
        "dma_map_of_a_file_that_is_too_short_is_refused",
        "Offset and size lie in the file: past its end there is a bus error and no memory.",
        too_short,
    ),
    check(
        "dma_map_file_offset_does_not_wrap",
        "Offset and size whose sum is past 63 bits lie in no file.",
        offset_does_not_wrap,
    ),
    check(
        "dma_map_file_offset_is_a_page",
        "An offset at which mmap() does not map is refused.",
        offset_is_a_page,
    ),
    check(
        "dma_map_for_writing_needs_a_file_open_for_it",
        "A writable region of a file that is open for reading only is refused; a readable one works.",
        open_for_writing,
    ),
    check(
        "dma_map_for_writing_needs_a_file_not_sealed_against_it",
        "A writable region of a write-sealed file is refused; a readable one works.",
        not_write_sealed,
    ),
    check(
        "dma_map_of_a_file_that_grew_works",
        "The file's size at the time of each message counts.",
        grown,
    ),
    check(
        "dma_map_of_one_file_in_many_slices_works",
        "Regions may lie anywhere in the same file, in any order, and overlap there.",
        many_slices,
    ),
];

const BASE: u64 = 0x10_0000;

fn takes_a_file(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let file = memory(8)?;
    for (offset, pages) in [(0, 8), (0, 1), (3, 2), (7, 1)] {
        let place = format!("{pages} pages at {offset}");
        let numbers = [offset * PAGE, BASE, pages * PAGE];
        map_file(&mut client, &file, BOTH, numbers).within(&place)?;
        unmap(&mut client, BASE, pages * PAGE).within(&place)?;
    }
    Ok(())
}

/// Whether every other end of the pipe is closed, once ours is.
fn is_closed(client: &Client, reader: &OwnedFd, writer: OwnedFd) -> Result<bool, Unmet> {
    drop(writer);
    let deadline = Instant::now() + client.connection.patience();
    Ok(connection::wait(reader.as_fd(), PollFlags::IN, deadline)?)
}

fn one_at_most(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let file = memory(1)?;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let numbers = [0, BASE, PAGE];
    map_file_refused(&mut client, &[&file, &file], BOTH, numbers)?;
    map_file_refused(&mut client, &[&file, &writer], BOTH, numbers)?;
    map_file_refused(&mut client, &[&writer, &file], BOTH, numbers)?;
    ensure!(
        is_closed(&client, &reader, writer)?,
        "the server keeps a descriptor of a refused message"
    );
    ensure!(!was_mapped(&mut client, BASE, PAGE)?, "it is mapped");
    Ok(())
}

fn no_memory(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let unix = AddressFamily::UNIX;
    let (socket, _peer) = socketpair(unix, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let folder = open("/", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let counter = eventfd(0, EventfdFlags::CLOEXEC)?;
    for (what, fd) in [
        ("a pipe", &writer),
        ("a socket", &socket),
        ("a folder", &folder),
        ("an eventfd", &counter),
    ] {
        for flags in [READ, BOTH] {
            map_file_refused(&mut client, &[fd], flags, [0, BASE, PAGE]).within(what)?;
        }
    }
    ensure!(
        is_closed(&client, &reader, writer)?,
        "the server keeps what it refused"
    );
    client.is_in_step()
}

fn too_short(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let (file, empty) = (memory(4)?, memory(0)?);
    for (offset, pages) in [(0, 5), (3, 2), (4, 1), (5, 1), (1 << 20, 1), (0, 1 << 20)] {
        let numbers = [offset * PAGE, BASE, pages * PAGE];
        map_file_refused(&mut client, &[&file], BOTH, numbers)
            .within(&format!("{pages} pages at {offset}"))?;
    }
    map_file_refused(&mut client, &[&empty], BOTH, [0, BASE, PAGE]).within("no bytes")?;
    ftruncate(&empty, PAGE - 1)?;
    map_file_refused(&mut client, &[&empty], BOTH, [0, BASE, PAGE]).within("a byte less")?;
    client.is_in_step()
}

fn offset_does_not_wrap(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let file = memory(4)?;
    let last = u64::MAX - PAGE + 1;
    for (offset, size) in [
        (last, PAGE),
        (last, 2 * PAGE),
        (1 << 63, PAGE),
        ((1 << 63) - PAGE, PAGE),
        ((1 << 63) - PAGE, 2 * PAGE),
    ] {
        map_file_refused(&mut client, &[&file], BOTH, [offset, BASE, size])
            .within(&format!("{size:#x} at {offset:#x}"))?;
    }
    client.is_in_step()
}

fn offset_is_a_page(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let file = memory(4)?;
    for offset in [1, 512, PAGE - 1, PAGE + 8] {
        map_file_refused(&mut client, &[&file], BOTH, [offset, BASE, PAGE])
            .within(&format!("offset {offset}"))?;
    }
    client.is_in_step()
}

/// The same file, opened anew.
fn reopened(file: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Unmet> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(open(path, flags | OFlags::CLOEXEC, Mode::empty())?)
}

fn open_for_writing(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let file = memory(1)?;
    let read_only = reopened(&file, OFlags::RDONLY)?;
    map_file_refused(&mut client, &[&read_only], BOTH, [0, BASE, PAGE]).within("writable")?;
    map_file(&mut client, &read_only, READ, [0, BASE, PAGE]).within("readable")?;
    unmap(&mut client, BASE, PAGE)?;
    // That it was mapped for reading makes it no more writable.
    map_file_refused(&mut client, &[&read_only], BOTH, [0, BASE, PAGE]).within("writable again")?;
    let write_only = reopened(&file, OFlags::WRONLY)?;
    map_file_refused(&mut client, &[&write_only], READ, [0, BASE, PAGE])
        .within("readable, of a file open for writing only")
}

fn not_write_sealed(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let file = memory(1)?;
    fcntl_add_seals(&file, SealFlags::WRITE)?;
    map_file_refused(&mut client, &[&file], BOTH, [0, BASE, PAGE]).within("writable")?;
    map_file(&mut client, &file, READ, [0, BASE, PAGE]).within("readable")
}

fn grown(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let file = memory(2)?;
    map_file(&mut client, &file, BOTH, [0, BASE, 2 * PAGE])?;
    let more = [2 * PAGE, BASE + 2 * PAGE, 2 * PAGE];
    map_file_refused(&mut client, &[&file], BOTH, more).within("before it grew")?;
    ftruncate(&file, 4 * PAGE)?;
    map_file(&mut client, &file, BOTH, more).within("after it grew")
}

fn many_slices(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let file = memory(64)?;
    for slice in 0..256 {
        let offset = slice * 37 % 61 * PAGE;
        let numbers = [offset, BASE + slice * 4 * PAGE, 3 * PAGE];
        map_file(&mut client, &file, BOTH, numbers).within(&format!("slice {slice}"))?;
    }
    for slice in 0..256 {
        unmap(&mut client, BASE + slice * 4 * PAGE, 3 * PAGE)?;
    }
    Ok(())
}
