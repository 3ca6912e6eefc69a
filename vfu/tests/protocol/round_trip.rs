//! What is emitted is parsed back, and no bytes make a parser panic.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use proptest::prelude::*;
use vfu::wire::access::{RegionAccess, WriteMulti};
use vfu::wire::device::{DeviceFlags, DeviceInfo};
use vfu::wire::dma::{DmaAccess, DmaFlags, DmaMap, DmaUnmap};
use vfu::wire::irq::{IrqAction, IrqData, IrqFlags, IrqInfo, SetIrqs};
use vfu::wire::region::{RegionFlags, RegionInfo, RegionInfoRequest};
use vfu::wire::version::{Capabilities, Version};
use vfu::wire::{Header, Request};

use crate::peer::{emitted, file, identity};

/// Payloads that get past the first check now and then: words that are mostly small.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![8 => 0..64_u32, 1 => any::<u32>()];
    let words = prop::collection::vec(word, 0..40);
    (words, prop::collection::vec(any::<u8>(), 0..4)).prop_map(|(words, tail)| {
        let words = words.into_iter().flat_map(u32::to_ne_bytes);
        words.chain(tail).collect()
    })
}

fn areas() -> impl Strategy<Value = Vec<Range<u64>>> {
    let area = (any::<u64>(), any::<u64>()).prop_map(|(a, b)| a.min(b)..a.max(b));
    prop::collection::vec(area, 0..5)
}

fn capabilities() -> impl Strategy<Value = Capabilities> {
    let numbers = (
        any::<Option<u32>>(),
        any::<[Option<u64>; 3]>(),
        any::<Option<bool>>(),
    );
    numbers.prop_map(
        |(max_msg_fds, [xfer, maps, pgsizes], write_multiple)| Capabilities {
            max_msg_fds,
            max_data_xfer_size: xfer,
            max_dma_maps: maps,
            pgsizes,
            write_multiple,
            twin_socket: None,
        },
    )
}

fn parse(header: &Header, payload: &[u8], fds: Vec<OwnedFd>) {
    if let Ok(Request::RegionWriteMulti(multi)) = Request::parse(header, payload, fds) {
        assert_eq!(multi.writes().count(), multi.len());
    }
}

proptest! {
    #[test]
    fn any_header_is_emitted_as_it_was_parsed(bytes: [u8; 16]) {
        prop_assert_eq!(Header::parse(&bytes).unwrap().to_bytes(), bytes);
    }

    #[test]
    fn no_request_makes_the_parser_panic(
        number in 0..20_u16,
        flags in prop_oneof![8 => Just(0), 1 => any::<u32>()],
        payload in payload(),
        fds in 0..3_usize,
    ) {
        let header = Header { id: 0, command: number, size: 0, flags, errno: 0 };
        parse(&header, &payload, (0..fds).map(|_| file()).collect());
    }

    #[test]
    fn no_reply_makes_the_parser_panic(payload in payload()) {
        let _ = RegionInfo::parse(&payload);
        let _ = DeviceInfo::parse(&payload);
        let _ = IrqInfo::parse(&payload);
        let _ = DmaAccess::parse(&payload);
        let _ = Version::parse(&payload);
    }

    #[test]
    fn no_json_makes_the_parser_panic(json in "[\\[\\]{}\":,a-z0-9\\\\ -]{0,60}") {
        let payload = [&[0; 4], json.as_bytes(), &[0]].concat();
        let _ = Version::parse(&payload);
    }

    #[test]
    fn version(major: u16, minor: u16, capabilities in capabilities()) {
        let version = Version { major, minor, capabilities };
        let parsed = Version::parse(&emitted(|out| version.emit(out))).unwrap();
        prop_assert_eq!(parsed, version);
    }

    #[test]
    fn dma_map(flags in 0..4_u32, offset: u64, iova: u64, size: u64) {
        let flags = DmaFlags::from_bits(flags).unwrap();
        let map = DmaMap { flags, offset, iova, size };
        prop_assert_eq!(DmaMap::parse(&emitted(|out| map.emit(out))), Ok(map));
    }

    #[test]
    fn dma_unmap(iova: u64, size: u64) {
        for unmap in [DmaUnmap::One { iova, size }, DmaUnmap::All] {
            prop_assert_eq!(DmaUnmap::parse(&emitted(|out| unmap.emit(out))), Ok(unmap));
        }
    }

    #[test]
    fn dma_access(address: u64, count: u64, data: Vec<u8>) {
        let access = DmaAccess { address, count };
        let mut payload = emitted(|out| access.emit(out));
        payload.extend(&data);
        prop_assert_eq!(DmaAccess::parse(&payload), Ok((access, &data[..])));
    }

    #[test]
    fn device_info(flags: u32, num_regions: u32, num_irqs: u32) {
        let flags = DeviceFlags::from_bits_retain(flags);
        let info = DeviceInfo { flags, num_regions, num_irqs };
        prop_assert_eq!(DeviceInfo::parse(&emitted(|out| info.emit(out))), Ok(info));
    }

    #[test]
    fn region_info_request(argsz in 32..=u32::MAX, index: u32) {
        let request = RegionInfoRequest { argsz, index };
        let payload = emitted(|out| request.emit(out));
        prop_assert_eq!(RegionInfoRequest::parse(&payload), Ok(request));
    }

    #[test]
    fn region_info(flags in 0..8_u32, index: u32, size: u64, offset: u64, sparse in areas()) {
        let mut flags = RegionFlags::from_bits(flags).unwrap();
        flags.set(RegionFlags::CAPS, !sparse.is_empty());
        let info = RegionInfo { flags, index, size, offset, sparse };
        let payload = emitted(|out| info.emit(u32::MAX, out));
        prop_assert_eq!(u32::try_from(payload.len()), Ok(info.argsz()));
        let needed = info.argsz();
        prop_assert_eq!(RegionInfo::parse(&payload), Ok((info, needed)));
    }

    #[test]
    fn irq_info(flags: u32, index: u32, count: u32) {
        let flags = IrqFlags::from_bits_retain(flags);
        let info = IrqInfo { flags, index, count };
        let payload = emitted(|out| info.emit(out));
        prop_assert_eq!(IrqInfo::parse(&payload), Ok(info));
        prop_assert_eq!(IrqInfo::parse_request(&payload), Ok(index));
    }

    #[test]
    fn region_write(offset: u64, region: u32, data: Vec<u8>) {
        let count = u32::try_from(data.len()).unwrap();
        let access = RegionAccess { offset, region, count };
        let mut payload = emitted(|out| access.emit(out));
        if data.is_empty() {
            prop_assert_eq!(RegionAccess::parse_read(&payload), Ok(access));
        }
        payload.extend(&data);
        prop_assert_eq!(RegionAccess::parse_write(&payload), Ok((access, &data[..])));
        payload.push(0);
        prop_assert!(RegionAccess::parse_write(&payload).is_err());
    }

    #[test]
    fn region_write_multi(
        writes in prop::collection::vec(
            (any::<u64>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..=8)),
            0..20,
        ),
    ) {
        let writes: Vec<_> = writes
            .iter()
            .map(|(offset, region, data)| {
                let count = u32::try_from(data.len()).unwrap();
                (RegionAccess { offset: *offset, region: *region, count }, &data[..])
            })
            .collect();
        let payload = emitted(|out| WriteMulti::emit(&writes, out));
        let multi = WriteMulti::parse(&payload).unwrap();
        prop_assert_eq!(multi.len(), writes.len());
        prop_assert_eq!(multi.is_empty(), writes.is_empty());
        prop_assert_eq!(multi.writes().collect::<Vec<_>>(), writes);
    }

    #[test]
    fn set_irqs_with_bytes(index: u32, start in 0..1000_u32, bools: Vec<u8>) {
        for data in [IrqData::None, IrqData::Bool(&bools)] {
            let count = u32::try_from(bools.len()).unwrap();
            let set = SetIrqs { index, start, count, action: IrqAction::Unmask, data };
            let payload = emitted(|out| set.emit(out));
            let parsed = SetIrqs::parse(&payload, Vec::new()).unwrap();
            prop_assert_eq!(format!("{parsed:?}"), format!("{set:?}"));
        }
    }

    #[test]
    fn set_irqs_with_eventfds(index: u32, start: u32, is_set in prop::collection::vec(any::<bool>(), 0..9)) {
        let fds: Vec<_> = is_set.iter().map(|is_set| is_set.then(file)).collect();
        let count = u32::try_from(fds.len()).unwrap();
        let start = start.saturating_sub(count);
        let known = |fds: &[Option<OwnedFd>]| -> Vec<_> {
            fds.iter().map(|fd| fd.as_ref().map(identity)).collect()
        };
        let expected = known(&fds);
        let set = SetIrqs { index, start, count, action: IrqAction::Trigger, data: IrqData::Eventfd(fds) };
        let payload = emitted(|out| set.emit(out));
        let IrqData::Eventfd(fds) = &set.data else { unreachable!() };
        let sent = fds.iter().flatten().map(|fd| fd.as_fd().try_clone_to_owned().unwrap());
        let parsed = SetIrqs::parse(&payload, sent.collect()).unwrap();
        prop_assert_eq!((parsed.index, parsed.start, parsed.count), (index, start, count));
        let IrqData::Eventfd(fds) = parsed.data else { panic!("no eventfds") };
        prop_assert_eq!(known(&fds), expected);
    }
}
