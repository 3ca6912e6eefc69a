//! DEVICE_GET_REGION_IO_FDS.

use std::os::fd::{AsFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::readlink;
use vfu::wire::Command;

use crate::check::{Unmet, Verdict, Within};
use crate::connection::Answer;
use crate::devices::edu::{self, Way};
use crate::feature::io_fd_regions;
use crate::guest::{Guest, PAGE};
use crate::negotiated::{CONFIG, Client};
use crate::payload::words;
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "VFIO_USER_DEVICE_GET_REGION_IO_FDS" {
        io_fds_of_an_unknown_region_are_refused:
            "A region past those that DEVICE_GET_INFO counts does not exist.";
        io_fds_without_all_fields_are_refused:
            "A request shorter than its 16 bytes has no meaning.";
        io_fds_of_a_region_without_them_leave_the_stream_in_step, needs Pci:
            "A region that has none is refused, or answered with none.";
        io_fds_with_flags_are_refused, needs RegionIoFds:
            "The flags of a request are zero.";
        io_fds_with_a_count_are_refused, needs RegionIoFds:
            "The count of a request is zero.";
        io_fds_with_a_small_argsz_tell_the_need, needs RegionIoFds:
            "Where not even the fixed part fits argsz, the server refuses or tells the need.";
        io_fds_with_a_larger_argsz_are_the_same, needs RegionIoFds:
            "argsz is what the client has room for; the reply is as long as it needs to be.";
        io_fds_that_do_not_fit_are_the_fixed_part, needs RegionIoFds:
            "Where the sub-regions do not fit the reply is its fixed part, without descriptors.";
        io_fds_that_do_not_fit_tell_the_need, needs RegionIoFds:
            "A reply that was cut has the argsz that the whole one needs.";
        io_fds_have_the_length_of_their_argsz, needs RegionIoFds:
            "With room for all of it the reply is as long as its argsz says.";
        io_fds_repeat_the_region, needs RegionIoFds:
            "The reply has the index that was asked, and no flags.";
        io_fds_have_room_for_each_sub_region, needs RegionIoFds:
            "Each sub-region has at least the 40 bytes of its fields.";
        io_fds_come_with_at_least_one_descriptor, needs RegionIoFds:
            "At least one descriptor comes with the sub-regions.";
        io_fds_name_descriptors_that_came, needs RegionIoFds:
            "fd_index is the place of a descriptor that came with the reply.";
        io_fds_are_all_named, needs RegionIoFds:
            "No descriptor comes that no sub-region names.";
        io_fds_are_of_a_known_type, needs RegionIoFds:
            "A sub-region is that of an ioeventfd or of an ioregionfd.";
        io_fds_are_inside_of_the_region, needs RegionIoFds:
            "A sub-region is a part of its region.";
        io_fds_of_ioeventfds_are_eventfds, needs RegionIoFds:
            "The descriptor of an ioeventfd is one that KVM takes as such: an eventfd.";
        io_fds_of_ioeventfds_have_a_size_that_kvm_takes, needs RegionIoFds:
            "The size of an ioeventfd is one of an access, or 0 for any.";
        io_fds_may_be_asked_for_again, needs RegionIoFds:
            "A client may ask as often as it likes, and gets the same sub-regions.";
        io_fds_that_are_signalled_do_no_harm, needs RegionIoFds:
            "A guest may write its doorbells whenever it likes.";
        io_fds_do_what_the_write_would_do, needs EduDoorbell:
            "To signal an ioeventfd has the effect of the write that it stands for.";
    }
}

/// A sub-region.
struct Part {
    offset: u64,
    size: u64,
    fd_index: u32,
    kind: u32,
}

/// The answer for one region.
struct Parts {
    payload: Vec<u8>,
    parts: Vec<Part>,
    fds: Vec<OwnedFd>,
}

/// The word at `at`.
fn word(bytes: &[u8], at: usize) -> Result<u32, Unmet> {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
    word.map(|word| u32::from_ne_bytes(*word))
        .ok_or_else(|| Unmet::fail(format!("the reply has {} bytes", bytes.len())))
}

fn long(bytes: &[u8], at: usize) -> Result<u64, Unmet> {
    let long = bytes.get(at..).and_then(<[u8]>::first_chunk);
    long.map(|long| u64::from_ne_bytes(*long))
        .ok_or_else(|| Unmet::fail("a sub-region is cut"))
}

/// Asks for the whole of it.
fn parts(client: &mut Client, index: u32, argsz: u32) -> Result<Parts, Unmet> {
    let request = words(&[argsz, 0, index, 0]);
    let reply = client.accepts(Command::DeviceGetRegionIoFds, &request)?;
    let payload = reply.payload;
    let count = usize::try_from(word(&payload, 12)?).unwrap_or(usize::MAX);
    let rest = payload.get(16..).unwrap_or_default();
    // The specification has the client work out how far apart they are.
    let stride = rest.len().checked_div(count).unwrap_or(0);
    ensure!(
        count == 0 || rest.is_empty() || stride >= 40,
        "{count} sub-regions have {} bytes",
        rest.len()
    );
    let mut parts = Vec::new();
    if !rest.is_empty() {
        for entry in rest.chunks_exact(stride.max(1)).take(count) {
            parts.push(Part {
                offset: long(entry, 0)?,
                size: long(entry, 8)?,
                fd_index: word(entry, 16)?,
                kind: word(entry, 20)?,
            });
        }
    }
    Ok(Parts {
        payload,
        parts,
        fds: reply.fds,
    })
}

/// Calls `look` with each region that has some, its size, and the whole answer.
fn each(target: &Target, mut look: impl FnMut(&mut Client, u32, &Parts) -> Verdict) -> Verdict {
    let mut client = target.client()?;
    for index in io_fd_regions(&mut client)? {
        let whole = parts(&mut client, index, 1 << 16)?;
        look(&mut client, index, &whole).within(&format!("region {index}"))?;
    }
    client.is_in_step()
}

fn refused(client: &mut Client, request: &[u8]) -> Verdict {
    client.refuses(Command::DeviceGetRegionIoFds, request)?;
    client.is_in_step()
}

fn io_fds_of_an_unknown_region_are_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let count = client.device_info()?.num_regions;
    for index in [count, 1 << 31, u32::MAX] {
        refused(&mut client, &words(&[4096, 0, index, 0])).within(&format!("region {index}"))?;
    }
    Ok(())
}

fn io_fds_without_all_fields_are_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for len in [0, 4, 8, 15] {
        let request = &words(&[4096, 0, 0, 0])[..len];
        refused(&mut client, request).within(&format!("{len} bytes"))?;
    }
    Ok(())
}

fn io_fds_of_a_region_without_them_leave_the_stream_in_step(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let request = words(&[4096, 0, CONFIG, 0]);
    if let Answer::Success(reply) = client.connection.ask(6, &request, &[])?
        && word(&reply.payload, 12)? == 0
    {
        let argsz = word(&reply.payload, 0)?;
        ensure!(argsz == 16, "none need argsz {argsz}");
        ensure!(reply.fds.is_empty(), "none come with descriptors");
    }
    client.is_in_step()
}

fn io_fds_with_flags_are_refused(target: &Target) -> Verdict {
    each(target, |client, index, _| {
        for flags in [1, 1 << 31, u32::MAX] {
            refused(client, &words(&[4096, flags, index, 0])).within(&format!("{flags:#x}"))?;
        }
        Ok(())
    })
}

fn io_fds_with_a_count_are_refused(target: &Target) -> Verdict {
    each(target, |client, index, _| {
        for count in [1, u32::MAX] {
            refused(client, &words(&[4096, 0, index, count])).within(&format!("{count}"))?;
        }
        Ok(())
    })
}

fn io_fds_with_a_small_argsz_tell_the_need(target: &Target) -> Verdict {
    each(target, |client, index, whole| {
        let needed = word(&whole.payload, 0)?;
        for argsz in [0, 1, 15] {
            match client
                .connection
                .ask(6, &words(&[argsz, 0, index, 0]), &[])?
            {
                Answer::Refused(_) => {}
                Answer::Success(reply) => {
                    let told = word(&reply.payload, 0)?;
                    ensure!(told == needed, "argsz {argsz} is answered with {told}");
                }
                Answer::Closed => ensure!(false, "argsz {argsz} closes the connection"),
            }
        }
        Ok(())
    })
}

fn io_fds_with_a_larger_argsz_are_the_same(target: &Target) -> Verdict {
    each(target, |client, index, whole| {
        let needed = word(&whole.payload, 0)?;
        for argsz in [needed, needed + 1, u32::MAX] {
            let more = parts(client, index, argsz)?;
            let is_same = more.payload == whole.payload && more.fds.len() == whole.fds.len();
            ensure!(is_same, "argsz {argsz} changes the reply");
        }
        Ok(())
    })
}

/// Asks with too little room for the sub-regions.
fn each_cut(target: &Target, look: impl Fn(&Parts, &Parts) -> Verdict) -> Verdict {
    each(target, |client, index, whole| {
        for argsz in [16, 17, word(&whole.payload, 0)? - 1] {
            let cut = parts(client, index, argsz)?;
            look(whole, &cut).within(&format!("argsz {argsz}"))?;
        }
        Ok(())
    })
}

fn io_fds_that_do_not_fit_are_the_fixed_part(target: &Target) -> Verdict {
    each_cut(target, |_, cut| {
        let (len, fds) = (cut.payload.len(), cut.fds.len());
        ensure!(len == 16, "{len} bytes came");
        ensure!(fds == 0, "{fds} descriptors came");
        Ok(())
    })
}

fn io_fds_that_do_not_fit_tell_the_need(target: &Target) -> Verdict {
    each_cut(target, |whole, cut| {
        let (needed, told) = (word(&whole.payload, 0)?, word(&cut.payload, 0)?);
        ensure!(told == needed, "{needed} are needed, {told} told");
        Ok(())
    })
}

fn io_fds_have_the_length_of_their_argsz(target: &Target) -> Verdict {
    each(target, |_, _, whole| {
        let (argsz, len) = (word(&whole.payload, 0)?, whole.payload.len());
        ensure!(
            usize::try_from(argsz) == Ok(len),
            "argsz is {argsz}, and {len} bytes came"
        );
        Ok(())
    })
}

fn io_fds_repeat_the_region(target: &Target) -> Verdict {
    each(target, |_, index, whole| {
        let (flags, told) = (word(&whole.payload, 4)?, word(&whole.payload, 8)?);
        ensure!(told == index, "the reply is of region {told}");
        ensure!(flags == 0, "the flags are {flags:#x}");
        Ok(())
    })
}

fn io_fds_have_room_for_each_sub_region(target: &Target) -> Verdict {
    each(target, |_, _, whole| {
        let count = usize::try_from(word(&whole.payload, 12)?).unwrap_or(usize::MAX);
        let (parts, rest) = (whole.parts.len(), whole.payload.len() - 16);
        ensure!(parts == count, "{count} sub-regions are told, {parts} came");
        ensure!(rest.is_multiple_of(count), "{count} have {rest} bytes");
        Ok(())
    })
}

fn io_fds_come_with_at_least_one_descriptor(target: &Target) -> Verdict {
    each(target, |_, _, whole| {
        ensure!(!whole.fds.is_empty(), "none came");
        Ok(())
    })
}

fn io_fds_name_descriptors_that_came(target: &Target) -> Verdict {
    each(target, |_, _, whole| {
        for part in &whole.parts {
            let (index, came) = (part.fd_index, whole.fds.len());
            let is_there = usize::try_from(index).is_ok_and(|index| index < came);
            ensure!(is_there, "fd_index is {index}, and {came} came");
        }
        Ok(())
    })
}

fn io_fds_are_all_named(target: &Target) -> Verdict {
    each(target, |_, _, whole| {
        for (index, _) in (0_u32..).zip(&whole.fds) {
            let is_named = whole.parts.iter().any(|part| part.fd_index == index);
            ensure!(is_named, "nothing names descriptor {index}");
        }
        Ok(())
    })
}

fn io_fds_are_of_a_known_type(target: &Target) -> Verdict {
    each(target, |_, _, whole| {
        for part in &whole.parts {
            ensure!(part.kind <= 1, "a sub-region has type {}", part.kind);
        }
        Ok(())
    })
}

fn io_fds_are_inside_of_the_region(target: &Target) -> Verdict {
    each(target, |client, index, whole| {
        let size = client.region_info(index)?.info.size;
        for Part {
            offset, size: len, ..
        } in &whole.parts
        {
            let end = offset.checked_add(*len);
            let is_inside = *offset < size && end.is_some_and(|end| end <= size);
            ensure!(is_inside, "{len} bytes at {offset:#x} of {size:#x}");
        }
        Ok(())
    })
}

/// The sub-regions that are ioeventfds.
fn ioeventfds(whole: &Parts) -> impl Iterator<Item = &Part> {
    whole.parts.iter().filter(|part| part.kind == 0)
}

fn fd_of<'a>(whole: &'a Parts, part: &Part) -> Result<&'a OwnedFd, Unmet> {
    let index = usize::try_from(part.fd_index).unwrap_or(usize::MAX);
    let fd = whole.fds.get(index);
    fd.ok_or_else(|| Unmet::fail("there is nothing at fd_index"))
}

fn io_fds_of_ioeventfds_are_eventfds(target: &Target) -> Verdict {
    each(target, |_, _, whole| {
        for part in ioeventfds(whole) {
            let number = std::os::fd::AsRawFd::as_raw_fd(fd_of(whole, part)?);
            let link = readlink(format!("/proc/self/fd/{number}"), Vec::new())?;
            let name = link.to_string_lossy();
            ensure!(name.contains("[eventfd]"), "it is {name}");
        }
        Ok(())
    })
}

fn io_fds_of_ioeventfds_have_a_size_that_kvm_takes(target: &Target) -> Verdict {
    each(target, |_, _, whole| {
        for part in ioeventfds(whole) {
            let size = part.size;
            ensure!([0, 1, 2, 4, 8].contains(&size), "it is {size}");
        }
        Ok(())
    })
}

fn io_fds_may_be_asked_for_again(target: &Target) -> Verdict {
    each(target, |client, index, whole| {
        for _ in 0..20 {
            let again = parts(client, index, 1 << 16)?;
            let is_same = again.payload == whole.payload && again.fds.len() == whole.fds.len();
            ensure!(is_same, "they are others");
        }
        Ok(())
    })
}

fn signal(fd: &OwnedFd) -> Verdict {
    rustix::io::write(fd.as_fd(), &1_u64.to_ne_bytes())?;
    Ok(())
}

fn io_fds_that_are_signalled_do_no_harm(target: &Target) -> Verdict {
    each(target, |client, _, whole| {
        for fd in &whole.fds {
            for _ in 0..100 {
                signal(fd)?;
            }
        }
        client.is_in_step()
    })
}

fn io_fds_do_what_the_write_would_do(target: &Target) -> Verdict {
    let mut guest = Guest::believed(target, 4)?;
    guest.map_shared(0, 4)?;
    guest.fill(0, b"doorbell")?;
    guest.transfer(Way::ToRam, PAGE, 8)?;
    let first = guest.look(PAGE, 8)?;
    ensure!(first == b"doorbell", "the transfer brought {first:?}");
    let whole = parts(&mut guest.client, edu::BAR, 1 << 16)?;
    let mut bells = ioeventfds(&whole).filter(|part| part.offset == edu::DOORBELL);
    let Some(bell) = bells.next() else {
        return Err(Unmet::fail("no sub-region is that of the doorbell"));
    };
    for _ in 0..2 {
        guest.put(PAGE, &[0; 8])?;
        signal(fd_of(&whole, bell)?)?;
        let deadline = Instant::now() + target.patience();
        while guest.look(PAGE, 8)? != b"doorbell" {
            let is_late = Instant::now() > deadline;
            ensure!(!is_late, "the doorbell starts nothing");
            guest.serve_all()?;
            sleep(Duration::from_millis(1));
        }
        guest.serve_all()?;
    }
    guest.client.is_in_step()
}
