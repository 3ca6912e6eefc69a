//! The sub-regions and their descriptors.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::readlink;

use super::{Part, Parts, each, parts, word};
use crate::check::{Unmet, Verdict};
use crate::devices::edu::{self, Way};
use crate::guest::{Guest, PAGE};
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "VFIO_USER_DEVICE_GET_REGION_IO_FDS" {
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
            let number = fd_of(whole, part)?.as_raw_fd();
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
