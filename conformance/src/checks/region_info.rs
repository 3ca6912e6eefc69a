//! DEVICE_GET_REGION_INFO.

use std::os::fd::AsFd;

use rustix::fs::fstat;
use vfu::wire::Command;
use vfu::wire::region::RegionFlags;

use crate::check::{Verdict, Within};
use crate::connection::Answer;
use crate::negotiated::CONFIG;
use crate::payload::{PAGE, region_info};
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "VFIO_USER_DEVICE_GET_REGION_INFO" {
        region_info_is_there_for_every_region:
            "Each region that DEVICE_GET_INFO counts can be asked about, and says which it is.";
        region_info_of_an_unknown_region_is_refused:
            "A region past those that DEVICE_GET_INFO counts does not exist.";
        region_info_without_all_fields_is_refused:
            "A request shorter than its 32 bytes has no meaning.";
        region_info_with_a_small_argsz_tells_the_need:
            "Where not even the fixed part fits argsz, the server refuses or tells the need.";
        region_info_has_the_length_of_its_argsz:
            "With room for all of it the reply is as long as its argsz says.";
        region_info_with_a_larger_argsz_is_the_same:
            "argsz is what the client has room for; the reply is as long as it needs to be.";
        region_info_needs_only_argsz_and_index:
            "The other fields of a request are zero, and say nothing.";
        region_info_is_the_same_when_asked_again:
            "What a region is does not change while it is asked about.";
        region_info_of_config_space_is_that_of_pci, needs Pci:
            "The config space of a PCI device can be read and written, and has 256 bytes or 4096.";
        region_info_of_an_absent_region_cannot_be_mapped, needs AbsentRegion:
            "A region of no bytes has nothing to map.";
        region_info_without_capabilities_has_32_bytes:
            "Without the flag CAPS nothing follows the fixed part.";
        region_info_with_capabilities_says_where, needs SparseRegion:
            "With the flag CAPS cap_offset is behind the fixed part and inside of argsz.";
        region_info_comes_with_a_descriptor_where_it_can_be_mapped:
            "A descriptor comes with the reply if the flag MMAP is set, and only then.";
        region_info_offset_is_one_for_mmap, needs MappableRegion:
            "The offset of a region that can be mapped is one that mmap takes.";
    }
}

fn region_info_is_there_for_every_region(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for index in 0..client.device_info()?.num_regions.min(256) {
        let place = format!("region {index}");
        let region = client.region_info(index).within(&place)?;
        let told = region.info.index;
        ensure!(told == index, "region {index} says that it is {told}");
    }
    Ok(())
}

fn region_info_of_an_unknown_region_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let count = client.device_info()?.num_regions;
    for index in [count, count.saturating_add(1), 1 << 31, u32::MAX] {
        client
            .refuses(Command::DeviceGetRegionInfo, &region_info(32, index))
            .within(&format!("region {index}"))?;
        client.is_in_step()?;
    }
    Ok(())
}

fn region_info_without_all_fields_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for len in [0, 4, 8, 16, 31] {
        client
            .refuses(Command::DeviceGetRegionInfo, &region_info(32, 0)[..len])
            .within(&format!("{len} bytes"))?;
    }
    client.is_in_step()
}

fn region_info_with_a_small_argsz_tells_the_need(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for argsz in [0, 1, 16, 31] {
        match client.connection.ask(5, &region_info(argsz, CONFIG), &[])? {
            Answer::Refused(_) => {}
            Answer::Success(reply) => {
                let told = reply.payload.first_chunk().map(|n| u32::from_ne_bytes(*n));
                let is_enough = told.is_some_and(|told| told >= 32);
                ensure!(is_enough, "argsz {argsz} is answered with {told:?}");
            }
            Answer::Closed => ensure!(false, "argsz {argsz} closes the connection"),
        }
    }
    client.is_in_step()
}

fn region_info_has_the_length_of_its_argsz(target: &Target) -> Verdict {
    for region in target.client()?.regions()? {
        ensure!(
            u32::try_from(region.payload.len()) == Ok(region.argsz),
            "region {} has argsz {} and {} bytes",
            region.info.index,
            region.argsz,
            region.payload.len()
        );
    }
    Ok(())
}

fn region_info_with_a_larger_argsz_is_the_same(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for exact in client.regions()? {
        let index = exact.info.index;
        for argsz in [exact.argsz.saturating_add(1), 4096, u32::MAX] {
            let more = client.region_info_within(index, argsz)?;
            let is_same = more.payload == exact.payload;
            ensure!(is_same, "argsz {argsz} changes region {index}");
        }
    }
    Ok(())
}

fn region_info_needs_only_argsz_and_index(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let info = client.region_info(CONFIG)?;
    ensure!(info.info.index == CONFIG, "it says {}", info.info.index);
    // Readable and writable are for the reply to say, whatever the request has there.
    let flags = info.info.flags.bits();
    ensure!(flags != 0, "a zero in the request's flags came back");
    Ok(())
}

fn region_info_is_the_same_when_asked_again(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let first = client.regions()?;
    let second = client.regions()?;
    let count = (first.len(), second.len());
    ensure!(count.0 == count.1, "there are {count:?} regions");
    for (first, second) in first.iter().zip(&second) {
        let index = first.info.index;
        let is_same = first.payload == second.payload;
        ensure!(is_same, "region {index} is another the second time");
        for (first, second) in first.fds.iter().zip(&second.fds) {
            let inodes = (fstat(first)?.st_ino, fstat(second)?.st_ino);
            ensure!(inodes.0 == inodes.1, "region {index} has another file");
        }
    }
    Ok(())
}

fn region_info_of_config_space_is_that_of_pci(target: &Target) -> Verdict {
    let info = target.client()?.region_info(CONFIG)?.info;
    let size = info.size;
    ensure!(size == 256 || size == 4096, "it has {size} bytes");
    let flags = info.flags;
    let both = RegionFlags::READ | RegionFlags::WRITE;
    ensure!(flags.contains(both), "its flags are {flags:?}");
    Ok(())
}

fn region_info_of_an_absent_region_cannot_be_mapped(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for index in 0..client.device_info()?.num_regions.min(256) {
        let region = client.region_info(index)?;
        if region.info.size == 0 {
            let is_mapped = region.info.flags.contains(RegionFlags::MMAP);
            ensure!(!is_mapped, "region {index} has the flag MMAP");
            ensure!(region.fds.is_empty(), "region {index} has a descriptor");
        }
    }
    Ok(())
}

fn region_info_without_capabilities_has_32_bytes(target: &Target) -> Verdict {
    for region in target.client()?.regions()? {
        let (index, argsz) = (region.info.index, region.argsz);
        let has_capabilities = region.info.flags.contains(RegionFlags::CAPS);
        ensure!(
            has_capabilities || argsz == 32,
            "region {index} has argsz {argsz}"
        );
    }
    Ok(())
}

fn region_info_with_capabilities_says_where(target: &Target) -> Verdict {
    for region in target.client()?.regions()? {
        let (at, argsz) = (region.cap_offset, region.argsz);
        let has_capabilities = region.info.flags.contains(RegionFlags::CAPS);
        // A header of 8 bytes must fit behind.
        let is_inside = at >= 32 && at.checked_add(8).is_some_and(|end| end <= argsz);
        ensure!(
            !has_capabilities || is_inside,
            "region {} has argsz {argsz} and cap_offset {at}",
            region.info.index
        );
    }
    Ok(())
}

fn region_info_comes_with_a_descriptor_where_it_can_be_mapped(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for index in 0..client.device_info()?.num_regions.min(256) {
        let region = client.region_info(index)?;
        let expected = usize::from(region.info.flags.contains(RegionFlags::MMAP));
        let came = region.fds.len();
        ensure!(
            came == expected,
            "region {index} has flags {:?} and {came} descriptors",
            region.info.flags
        );
    }
    Ok(())
}

fn region_info_offset_is_one_for_mmap(target: &Target) -> Verdict {
    for region in target.client()?.regions()? {
        let info = region.info;
        let is_mapped = info.flags.contains(RegionFlags::MMAP);
        ensure!(
            !is_mapped || info.offset.is_multiple_of(PAGE),
            "the offset of region {} is {:#x}",
            info.index,
            info.offset
        );
        if let Some(fd) = region.fds.first().filter(|_| is_mapped) {
            let kind = rustix::fs::FileType::from_raw_mode(fstat(fd.as_fd())?.st_mode);
            let is_file = kind != rustix::fs::FileType::Socket && !kind.is_fifo();
            ensure!(is_file, "the file of region {} is a {kind:?}", info.index);
        }
    }
    Ok(())
}
