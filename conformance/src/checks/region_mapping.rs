//! Regions that can be mapped: the file and the messages are two ways to the same bytes.

use std::ops::Range;
use std::os::fd::AsFd;

use vfu::wire::region::RegionFlags;

use crate::check::{Unmet, Verdict, Within};
use crate::mapping::Mapping;
use crate::negotiated::{Client, RegionAnswer};
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "VFIO_USER_DEVICE_GET_REGION_INFO" {
        every_area_can_be_mapped, needs MappableRegion:
            "The file that comes with a region can be mapped at offset, as far as an area goes.";
        a_mapping_sees_what_messages_write, needs MappableRegion:
            "What REGION_WRITE writes to a part that is mapped is seen in the mapping.";
        messages_see_what_a_mapping_writes, needs MappableRegion:
            "What is written to a mapping is seen by REGION_READ.";
        each_area_is_where_its_offset_says, needs MappableRegion:
            "The offset of an area counts from the region's own offset in the file.";
        a_mapping_reaches_the_end_of_its_area, needs MappableRegion:
            "The last byte of an area is the same one by message and by mapping.";
        two_mappings_are_of_the_same_bytes, needs MappableRegion:
            "Each reply's descriptor leads to the same memory.";
        a_mapping_outlives_its_client, needs MappableRegion:
            "A mapping does no harm when its client's connection has ended.";
    }
    "Read and Write Operations" {
        mapped_parts_take_messages_too, needs MappableRegion:
            "REGION_READ and REGION_WRITE work where a region can be mapped as well.";
        parts_that_cannot_be_mapped_take_messages, needs SparseRegion:
            "The parts of a region between its areas are reached by message.";
        a_message_may_cross_from_a_mapped_part, needs SparseRegion:
            "An access by message may begin in an area and end outside of it.";
    }
}

/// The parts of a region that can be mapped: its areas, or all of it.
fn areas(region: &RegionAnswer) -> Vec<Range<u64>> {
    if region.info.sparse.is_empty() {
        return std::iter::once(0..region.info.size).collect();
    }
    region.info.sparse.clone()
}

fn mappable(client: &mut Client) -> Result<Vec<RegionAnswer>, Unmet> {
    let mut regions = client.regions()?;
    regions.retain(|region| region.info.flags.contains(RegionFlags::MMAP));
    Ok(regions)
}

fn map(region: &RegionAnswer, area: &Range<u64>) -> Result<Mapping, Unmet> {
    let place = format!("{area:#x?} of region {}", region.info.index);
    let (Some(fd), Some(offset)) = (
        region.fds.first(),
        region.info.offset.checked_add(area.start),
    ) else {
        return Err(Unmet::fail("there is nothing to map").within(&place));
    };
    Mapping::new(fd.as_fd(), offset, area.end - area.start).within(&place)
}

/// Calls `look` with each area of each region that can be mapped, and its mapping.
fn each_area(
    target: &Target,
    mut look: impl FnMut(&mut Client, u32, &Range<u64>, &mut Mapping) -> Verdict,
) -> Verdict {
    let mut client = target.client()?;
    for region in mappable(&mut client)? {
        for area in areas(&region) {
            let mut mapping = map(&region, &area)?;
            let index = region.info.index;
            look(&mut client, index, &area, &mut mapping)
                .within(&format!("{area:#x?} of region {index}"))?;
        }
    }
    client.is_in_step()
}

fn every_area_can_be_mapped(target: &Target) -> Verdict {
    each_area(target, |_, _, area, mapping| {
        let len = u64::try_from(mapping.len()).ok();
        ensure!(len == Some(area.end - area.start), "{len:?} are mapped");
        ensure!(mapping.read(0).is_some(), "nothing is there");
        Ok(())
    })
}

fn a_mapping_sees_what_messages_write(target: &Target) -> Verdict {
    each_area(target, |client, region, area, mapping| {
        for byte in [0x5a, 0xa5] {
            client.write(region, area.start, &[byte; 4])?;
            let seen: Vec<_> = (0..4).map(|at| mapping.read(at)).collect();
            ensure!(seen == [Some(byte); 4], "{byte:#x} is mapped as {seen:x?}");
        }
        Ok(())
    })
}

fn messages_see_what_a_mapping_writes(target: &Target) -> Verdict {
    each_area(target, |client, region, area, mapping| {
        for byte in [0x3c, 0xc3] {
            for at in 0..4 {
                mapping.write(at, byte);
            }
            let read = client.read(region, area.start, 4)?;
            ensure!(read == [byte; 4], "{byte:#x} is read as {read:x?}");
        }
        Ok(())
    })
}

fn each_area_is_where_its_offset_says(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for region in mappable(&mut client)? {
        let areas = areas(&region);
        let mut marks = Vec::new();
        for (area, mark) in areas.iter().zip(1..=200_u8) {
            client.write(region.info.index, area.start, &[mark; 4])?;
            marks.push(mark);
        }
        for (area, mark) in areas.iter().zip(marks) {
            let seen = map(&region, area)?.read(0);
            ensure!(
                seen == Some(mark),
                "{area:#x?} of region {} holds {seen:?} instead of {mark}",
                region.info.index
            );
        }
    }
    Ok(())
}

fn a_mapping_reaches_the_end_of_its_area(target: &Target) -> Verdict {
    each_area(target, |client, region, area, mapping| {
        let last = mapping.len() - 1;
        for byte in [0x96, 0x69] {
            client.write(region, area.end - 1, &[byte])?;
            let seen = mapping.read(last);
            ensure!(seen == Some(byte), "{byte:#x} is mapped as {seen:x?}");
        }
        Ok(())
    })
}

fn two_mappings_are_of_the_same_bytes(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let (first, second) = (mappable(&mut client)?, mappable(&mut client)?);
    for (first, second) in first.iter().zip(&second) {
        for area in areas(first) {
            let mut one = map(first, &area)?;
            let other = map(second, &area)?;
            for byte in [0x11, 0xee] {
                one.write(0, byte);
                let seen = other.read(0);
                ensure!(seen == Some(byte), "{byte:#x} is {seen:x?} in the other");
            }
        }
    }
    Ok(())
}

fn a_mapping_outlives_its_client(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let mut mappings = Vec::new();
    for region in mappable(&mut client)? {
        for area in areas(&region) {
            mappings.push(map(&region, &area)?);
        }
    }
    drop(client);
    for mapping in &mut mappings {
        mapping.write(0, 0x77);
        ensure!(mapping.read(0).is_some(), "a mapping is gone");
    }
    target.client().within("the next client")?.is_in_step()
}

fn mapped_parts_take_messages_too(target: &Target) -> Verdict {
    each_area(target, |client, region, area, _| {
        let middle = area.start + (area.end - area.start) / 2;
        for at in [area.start, middle, area.end - 4] {
            client.write(region, at, &[1, 2, 3, 4])?;
            let read = client.read(region, at, 4)?;
            ensure!(read == [1, 2, 3, 4], "{read:x?} is read at {at:#x}");
        }
        Ok(())
    })
}

/// The parts of a region that cannot be mapped.
fn gaps(region: &RegionAnswer) -> Vec<Range<u64>> {
    let mut areas = areas(region);
    areas.sort_by_key(|area| area.start);
    areas.push(region.info.size..region.info.size);
    let mut gaps = Vec::new();
    let mut end = 0;
    for area in areas {
        if area.start > end {
            gaps.push(end..area.start);
        }
        end = area.end;
    }
    gaps
}

fn parts_that_cannot_be_mapped_take_messages(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for region in mappable(&mut client)? {
        for gap in gaps(&region) {
            for at in [gap.start, gap.end - 4] {
                client
                    .read(region.info.index, at, 4)
                    .within(&format!("{gap:#x?} of region {}", region.info.index))?;
            }
        }
    }
    client.is_in_step()
}

fn a_message_may_cross_from_a_mapped_part(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for region in mappable(&mut client)? {
        for gap in gaps(&region).iter().filter(|gap| gap.start >= 4) {
            let at = gap.start - 4;
            client
                .read(region.info.index, at, 8)
                .within(&format!("{at:#x} of region {}", region.info.index))?;
        }
    }
    client.is_in_step()
}
