//! DEVICE_GET_REGION_INFO of regions that can be mapped in parts.

use vfu::wire::region::RegionFlags;

use crate::check::{Unmet, Verdict, Within};
use crate::negotiated::{Client, RegionAnswer};
use crate::payload::PAGE;
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "Message sizes" {
        region_info_that_does_not_fit_is_its_fixed_part, needs SparseRegion:
            "Where capabilities do not fit argsz the reply ends with the fixed part.";
        region_info_that_does_not_fit_tells_the_need, needs SparseRegion:
            "A reply that was cut has the argsz that the whole one needs.";
        region_info_that_does_not_fit_tells_of_capabilities, needs SparseRegion:
            "A reply that was cut has its flags and cap_offset, or the client would not ask again.";
    }
    "VFIO region capabilities" {
        capabilities_are_a_list_with_an_end, needs SparseRegion:
            "Each capability lies inside of the reply, and the list of them ends.";
        sparse_capability_has_version_1, needs SparseRegion:
            "The capability of areas that can be mapped has version 1.";
        sparse_areas_are_all_there, needs SparseRegion:
            "The capability has as many areas as it says.";
        sparse_areas_are_inside_of_the_region, needs SparseRegion:
            "An area that can be mapped is a part of the region, and has bytes.";
        sparse_areas_are_of_whole_pages, needs SparseRegion:
            "An area that can be mapped begins and ends where pages do.";
        sparse_areas_do_not_overlap, needs SparseRegion:
            "Each part of a region that can be mapped is in one area.";
    }
}

/// `VFIO_REGION_INFO_CAP_SPARSE_MMAP` in `linux/vfio.h`.
const SPARSE_MMAP: u16 = 1;

/// The regions that have a capability.
fn with_capabilities(client: &mut Client) -> Result<Vec<RegionAnswer>, Unmet> {
    let mut regions = client.regions()?;
    regions.retain(|region| region.info.flags.contains(RegionFlags::CAPS));
    Ok(regions)
}

/// Asks each region that has capabilities with too little room for them, and calls `look` with
/// the whole and the cut answer.
fn each_cut(target: &Target, look: impl Fn(&RegionAnswer, &RegionAnswer) -> Verdict) -> Verdict {
    let mut client = target.client()?;
    for whole in with_capabilities(&mut client)? {
        for argsz in [32, 33, whole.argsz - 1] {
            let cut = client.region_info_within(whole.info.index, argsz)?;
            let place = format!("region {} with argsz {argsz}", whole.info.index);
            look(&whole, &cut).within(&place)?;
        }
    }
    client.is_in_step()
}

fn region_info_that_does_not_fit_is_its_fixed_part(target: &Target) -> Verdict {
    each_cut(target, |_, cut| {
        let len = cut.payload.len();
        ensure!(len == 32, "{len} bytes came");
        Ok(())
    })
}

fn region_info_that_does_not_fit_tells_the_need(target: &Target) -> Verdict {
    each_cut(target, |whole, cut| {
        let (needed, told) = (whole.argsz, cut.argsz);
        ensure!(told == needed, "{needed} are needed, {told} told");
        Ok(())
    })
}

fn region_info_that_does_not_fit_tells_of_capabilities(target: &Target) -> Verdict {
    each_cut(target, |whole, cut| {
        let flags = cut.info.flags;
        ensure!(flags == whole.info.flags, "the flags are {flags:?}");
        let (at, right) = (cut.cap_offset, whole.cap_offset);
        ensure!(at == right, "cap_offset is {at} instead of {right}");
        Ok(())
    })
}

/// A capability: its ID, its version, and the bytes after its head, up to the end of the reply.
type Capability<'a> = (u16, u16, &'a [u8]);

/// Walks the list of capabilities.
fn capabilities(region: &RegionAnswer) -> Result<Vec<Capability<'_>>, Unmet> {
    let mut capabilities = Vec::new();
    let mut at = region.cap_offset;
    while at != 0 {
        let index = region.info.index;
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        let head = region
            .payload
            .get(from..)
            .and_then(<[u8]>::split_first_chunk);
        let Some(([a, b, c, d, e, f, g, h], rest)) = head else {
            let words = format!("a capability of region {index} at {at} is not inside");
            return Err(Unmet::fail(words));
        };
        let id = u16::from_ne_bytes([*a, *b]);
        capabilities.push((id, u16::from_ne_bytes([*c, *d]), rest));
        at = u32::from_ne_bytes([*e, *f, *g, *h]);
        let count = capabilities.len();
        ensure!(
            count <= 100,
            "the capabilities of region {index} do not end"
        );
    }
    Ok(capabilities)
}

fn capabilities_are_a_list_with_an_end(target: &Target) -> Verdict {
    for region in with_capabilities(&mut target.client()?)? {
        let count = capabilities(&region)?.len();
        ensure!(count > 0, "region {} has none", region.info.index);
    }
    Ok(())
}

fn sparse_capability_has_version_1(target: &Target) -> Verdict {
    for region in with_capabilities(&mut target.client()?)? {
        for (id, version, _) in capabilities(&region)? {
            let is_right = id != SPARSE_MMAP || version == 1;
            ensure!(is_right, "region {} has {version}", region.info.index);
        }
    }
    Ok(())
}

fn sparse_areas_are_all_there(target: &Target) -> Verdict {
    for region in with_capabilities(&mut target.client()?)? {
        for (id, _, rest) in capabilities(&region)? {
            if id != SPARSE_MMAP {
                continue;
            }
            let count = rest.first_chunk().map_or(0, |n| u32::from_ne_bytes(*n));
            ensure!(count > 0, "region {} has no areas", region.info.index);
            let room = rest.len().saturating_sub(8) / 16;
            ensure!(
                usize::try_from(count).is_ok_and(|count| count <= room),
                "region {} says {count} areas, and has room for {room}",
                region.info.index
            );
        }
    }
    Ok(())
}

fn sparse_areas_are_inside_of_the_region(target: &Target) -> Verdict {
    for region in with_capabilities(&mut target.client()?)? {
        let size = region.info.size;
        for area in &region.info.sparse {
            let is_inside = area.start < area.end && area.end <= size;
            ensure!(is_inside, "{area:#x?} of a region of {size:#x} bytes");
        }
    }
    Ok(())
}

fn sparse_areas_are_of_whole_pages(target: &Target) -> Verdict {
    for region in with_capabilities(&mut target.client()?)? {
        for area in &region.info.sparse {
            let is_whole = area.start.is_multiple_of(PAGE) && area.end.is_multiple_of(PAGE);
            ensure!(is_whole, "{area:#x?} of region {}", region.info.index);
        }
    }
    Ok(())
}

fn sparse_areas_do_not_overlap(target: &Target) -> Verdict {
    for region in with_capabilities(&mut target.client()?)? {
        let mut areas = region.info.sparse.clone();
        areas.sort_by_key(|area| area.start);
        for pair in areas.windows(2) {
            let is_apart = pair[0].end <= pair[1].start;
            ensure!(is_apart, "{pair:#x?} of region {}", region.info.index);
        }
    }
    Ok(())
}
