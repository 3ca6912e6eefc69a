//! What the kernel answers when it is asked for a region, or for the IOMMU.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use std::mem::offset_of;

use vfio_bindings::bindings::vfio::{
    VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
    VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_FLAG_CAPS, VFIO_REGION_INFO_FLAG_MMAP,
    VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, vfio_info_cap_header,
    vfio_iommu_type1_info, vfio_iommu_type1_info_cap_iova_range, vfio_region_info,
    vfio_region_info_cap_sparse_mmap,
};

use super::device::Region;
use super::ioctl::Argument;
use crate::dma::{Iova, IovaRange};

/// More capabilities than the kernel knows.
const MAX_CAPABILITIES: usize = 64;

/// Reads a region's properties.
pub(super) fn region(info: &Argument) -> Region {
    let flags = info.u32(offset_of!(vfio_region_info, flags));
    let size = info.u64(offset_of!(vfio_region_info, size));
    let is = |flag| flags & flag != 0;
    let mut region = Region {
        index: info.u32(offset_of!(vfio_region_info, index)),
        size,
        is_readable: is(VFIO_REGION_INFO_FLAG_READ),
        is_writable: is(VFIO_REGION_INFO_FLAG_WRITE),
        mappable: Vec::new(),
        file_offset: info.u64(offset_of!(vfio_region_info, offset)),
    };
    if !is(VFIO_REGION_INFO_FLAG_MMAP) || size == 0 {
        return region;
    }
    region.mappable = vec![(0, size)];
    if is(VFIO_REGION_INFO_FLAG_CAPS) {
        let first = info.u32(offset_of!(vfio_region_info, cap_offset));
        for (id, at) in capabilities(info, first) {
            match u32::from(id) {
                VFIO_REGION_INFO_CAP_SPARSE_MMAP => region.mappable = areas(info, at, size),
                // It only says that the table of MSI-X does not keep the region from being mapped.
                VFIO_REGION_INFO_CAP_MSIX_MAPPABLE => {}
                _ => {}
            }
        }
    }
    region
}

/// The parts of a region that can be mapped: offset and size.
fn areas(info: &Argument, at: usize, size: u64) -> Vec<(u64, u64)> {
    type Areas = vfio_region_info_cap_sparse_mmap;
    let count = info.u32(at.saturating_add(offset_of!(Areas, nr_areas)));
    let first = at.saturating_add(offset_of!(Areas, areas));
    pairs(info, first, count)
        .filter(|&(start, len)| len > 0 && start.checked_add(len).is_some_and(|end| end <= size))
        .collect()
}

/// Which addresses an IOMMU translates; all of them if it does not say.
pub(super) fn iova_ranges(info: &Argument) -> Vec<IovaRange> {
    type Ranges = vfio_iommu_type1_info_cap_iova_range;
    let flags = info.u32(offset_of!(vfio_iommu_type1_info, flags));
    if flags & VFIO_IOMMU_INFO_CAPS != 0 {
        let first = info.u32(offset_of!(vfio_iommu_type1_info, cap_offset));
        let ranges = capabilities(info, first)
            .find(|&(id, _)| u32::from(id) == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
        if let Some((_, at)) = ranges {
            let count = info.u32(at.saturating_add(offset_of!(Ranges, nr_iovas)));
            let first = at.saturating_add(offset_of!(Ranges, iova_ranges));
            return pairs(info, first, count)
                .filter_map(|(start, last)| {
                    let len = last.checked_sub(start)?.saturating_add(1);
                    IovaRange::new(Iova(start), len)
                })
                .collect();
        }
    }
    vec![IovaRange::EVERYTHING]
}

/// The capabilities of an answer: what each is, and where it begins.
fn capabilities(info: &Argument, first: u32) -> impl Iterator<Item = (u16, usize)> {
    let within = |at: u32| (at != 0 && at < info.len()).then_some(at as usize);
    std::iter::successors(within(first), move |&at| {
        within(info.u32(at.saturating_add(offset_of!(vfio_info_cap_header, next))))
    })
    .map(|at| {
        let id = at.saturating_add(offset_of!(vfio_info_cap_header, id));
        (info.u16(id), at)
    })
    .take(MAX_CAPABILITIES)
}

/// Pairs of numbers that follow each other, as many as there are in the answer.
fn pairs(info: &Argument, first: usize, count: u32) -> impl Iterator<Item = (u64, u64)> {
    const PAIR: usize = 16;
    let room = (info.len() as usize).saturating_sub(first) / PAIR;
    (0..room.min(count as usize)).map(move |n| {
        let at = first.saturating_add(n.saturating_mul(PAIR));
        (info.u64(at), info.u64(at.saturating_add(8)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A region of 16 MiB that can be mapped, with one capability after 32 bytes, another behind it.
    fn answer(flags: u32, id: u32, pairs: &[(u64, u64)]) -> Argument {
        let mut info = Argument::new(32 + 24 + 16 + 16 * pairs.len());
        info.set_u32(4, flags);
        info.set_u32(8, 2);
        info.set_u32(12, 32);
        info.set_u64(16, 16 * MIB);
        info.set_u64(24, 2 << 40);
        info.set_u32(32, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE | 1 << 16);
        info.set_u32(36, 56);
        info.set_u32(56, id | 1 << 16);
        info.set_u32(64, u32::try_from(pairs.len()).unwrap());
        for (n, &(first, second)) in pairs.iter().enumerate() {
            info.set_u64(72 + 16 * n, first);
            info.set_u64(80 + 16 * n, second);
        }
        info
    }

    const SPARSE: u32 = VFIO_REGION_INFO_CAP_SPARSE_MMAP;

    #[test]
    fn a_region_is_mappable_whole_in_parts_or_not_at_all() {
        let parts = [(0, MIB), (2 * MIB, 14 * MIB)];
        for (flags, id, expected) in [
            (0xf, SPARSE, &parts[..]),
            (0xf, 99, &[(0, 16 * MIB)]),
            (0x7, SPARSE, &[(0, 16 * MIB)]),
            (0xb, SPARSE, &[]),
        ] {
            let region = region(&answer(flags, id, &parts));
            assert_eq!(region.mappable, expected, "{flags:#x}, {id}");
            assert_eq!((region.index, region.size), (2, 16 * MIB));
            assert_eq!(region.file_offset, 2 << 40);
            assert!(region.is_readable && region.is_writable);
        }
    }

    #[test]
    fn parts_that_are_not_in_the_region_are_left_out() {
        let parts = [(15 * MIB, 2 * MIB), (u64::MAX, 1), (MIB, 0), (MIB, MIB)];
        let region = region(&answer(0xf, SPARSE, &parts));
        assert_eq!(region.mappable, [(MIB, MIB)]);
    }

    #[test]
    fn an_answer_that_leads_in_circles_or_says_too_much_is_read_to_an_end() {
        let mut info = answer(0xf, SPARSE, &[(0, MIB)]);
        info.set_u32(64, u32::MAX);
        info.set_u32(60, 32);
        assert_eq!(region(&info).mappable, [(0, MIB)]);
        info.set_u32(36, u32::MAX);
        assert_eq!(region(&info).mappable, [(0, 16 * MIB)]);
    }

    #[test]
    fn an_iommu_translates_what_it_says_or_everything() {
        let mut info = Argument::new(24 + 16 + 3 * 16);
        info.set_u32(4, VFIO_IOMMU_INFO_CAPS);
        info.set_u32(16, 24);
        info.set_u32(24, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE | 1 << 16);
        info.set_u32(32, 3);
        for (n, pair) in [(0, 0xfedf_ffff), (5, 4), (0, u64::MAX)].iter().enumerate() {
            info.set_u64(40 + 16 * n, pair.0);
            info.set_u64(48 + 16 * n, pair.1);
        }
        let ranges = iova_ranges(&info);
        let ends: Vec<_> = ranges
            .iter()
            .map(|range| (range.start().0, range.last().0))
            .collect();
        assert_eq!(ends, [(0, 0xfedf_ffff), (0, u64::MAX - 1)]);
        info.set_u32(4, 0);
        assert_eq!(iova_ranges(&info), [IovaRange::EVERYTHING]);
    }
}
