//! One message, parsed as everything that it could be. A value means the same after it was emitted
//! and parsed again.

use std::fmt::Debug;
use std::os::fd::OwnedFd;

use vfu::wire::access::{RegionAccess, WriteMulti};
use vfu::wire::device::DeviceInfo;
use vfu::wire::dma::{DmaAccess, DmaMap, DmaUnmap};
use vfu::wire::feature::{DeviceFeature, DmaReport, FeatureHead};
use vfu::wire::io_fds::{RegionIoFds, RegionIoFdsRequest};
use vfu::wire::irq::{IrqData, IrqInfo, SetIrqs};
use vfu::wire::migration::{MigDataRead, MigDataWrite, MigState};
use vfu::wire::region::{RegionFlags, RegionInfo, RegionInfoRequest};
use vfu::wire::version::{Capabilities, TwinSocket, Version};
use vfu::wire::{Header, Malformed, Request};

/// Parses a message in every way.
pub(super) fn check(header: &Header, payload: &[u8], fds: Vec<OwnedFd>) {
    assert_eq!(Header::parse(&header.to_bytes()), Ok(*header));
    replies(payload);
    let fds_len = fds.len();
    match Request::parse(header, payload, fds) {
        Ok(request) => again(header, payload, request),
        Err(Malformed::Fds(counted, _)) => assert_eq!(counted, fds_len),
        Err(_) => {}
    }
}

fn emitted(emit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    emit(&mut out);
    out
}

/// `value` is what its own bytes are parsed as.
fn same<T: Debug + PartialEq, E: Debug>(
    value: &T,
    emit: impl Fn(&T, &mut Vec<u8>),
    parse: impl Fn(&[u8]) -> Result<T, E>,
) {
    let bytes = emitted(|out| emit(value, out));
    let parsed = parse(&bytes).unwrap_or_else(|error| panic!("{value:?}: {error:?}"));
    assert_eq!(&parsed, value);
}

fn again(header: &Header, payload: &[u8], request: Request<'_>) {
    match request {
        Request::DmaMap(map, _) => same(&map, DmaMap::emit, DmaMap::parse),
        Request::DmaUnmap(unmap) => same(&unmap, DmaUnmap::emit, DmaUnmap::parse),
        Request::DeviceGetRegionInfo(info) => {
            same(&info, RegionInfoRequest::emit, RegionInfoRequest::parse);
        }
        Request::DeviceSetIrqs(set) => set_irqs(set),
        Request::RegionRead(access) => same(&access, RegionAccess::emit, RegionAccess::parse_read),
        Request::RegionWrite(access, data) => {
            assert_eq!(data.len(), access.count as usize);
            let bytes = emitted(|out| access.emit(out));
            assert_eq!(
                [&bytes, data].concat(),
                payload,
                "a write has no other form"
            );
        }
        Request::RegionWriteMulti(multi) => write_multi(multi),
        Request::DeviceGetIrqInfo(index) => {
            assert_eq!(IrqInfo::parse_request(payload), Ok(index));
        }
        Request::DmaReply(of, data) => assert_eq!((&of, data), (header, payload)),
        Request::DeviceGetInfo => assert!(payload.len() >= DeviceInfo::LEN),
        Request::DeviceReset => assert!(payload.is_empty()),
        Request::DeviceGetRegionIoFds(request) => {
            same(
                &request,
                RegionIoFdsRequest::emit,
                RegionIoFdsRequest::parse,
            );
        }
        Request::DeviceFeature(feature) => device_feature(&feature, payload),
        Request::MigDataRead(read) => same(&read, MigDataRead::emit, MigDataRead::parse),
        Request::MigDataWrite(write) => {
            let bytes = emitted(|out| write.emit(out));
            assert_eq!(MigDataWrite::parse(&bytes), Ok(write));
            assert_eq!(MigDataRead::parse_reply(&bytes), Ok(write.data));
        }
    }
}

/// The reply to a feature has the form of its request, and fits what the client takes.
fn device_feature(feature: &DeviceFeature<'_>, payload: &[u8]) {
    let (head, data) = FeatureHead::parse(payload).expect("it was understood");
    let bytes = emitted(|out| head.emit(out));
    assert_eq!(FeatureHead::parse(&bytes), Ok((head, &b""[..])));
    let reply = match feature {
        DeviceFeature::Probe { head: own, data } => {
            assert_eq!(*own, head);
            emitted(|out| out.extend(*data))
        }
        DeviceFeature::StartLogging(logging) => {
            for (iova, length) in logging.ranges() {
                assert!(length > 0 && iova.checked_add(length - 1).is_some());
            }
            let reply = emitted(|out| logging.emit(logging.page_size, out));
            assert_eq!(reply[..12], data[..12]);
            assert_eq!(reply[16..], data[16..], "the ranges");
            reply
        }
        DeviceFeature::ReportLogging(report) => {
            assert!(report.iova.checked_add(report.length - 1).is_some());
            let reply = emitted(|out| report.emit(&[], out));
            assert_eq!(reply, data[..DmaReport::LEN]);
            assert!(
                report.bits().div_ceil(8) <= head.argsz.into(),
                "the bitmap fits"
            );
            reply
        }
        DeviceFeature::SetState(state) => {
            let reply = emitted(|out| state.emit(out));
            assert_eq!(MigState::parse_reply(&reply), Ok(*state));
            reply
        }
        DeviceFeature::GetMigration | DeviceFeature::GetState => vec![0; 8],
        DeviceFeature::StopLogging => Vec::new(),
    };
    assert!(
        FeatureHead::LEN + reply.len() <= head.argsz as usize,
        "it fits"
    );
}

fn set_irqs(set: SetIrqs<'_>) {
    let bytes = emitted(|out| set.emit(out));
    let shape = |data: &IrqData<'_>| match data {
        IrqData::None => (0, Vec::new()),
        IrqData::Bool(bytes) => (1, bytes.to_vec()),
        IrqData::Eventfd(fds) => (2, fds.iter().map(|fd| fd.is_some().into()).collect()),
    };
    let before = (
        set.index,
        set.start,
        set.count,
        set.action,
        shape(&set.data),
    );
    if before.4.0 > 0 {
        assert_eq!(before.4.1.len(), set.count as usize, "one for each vector");
    }
    let fds = match set.data {
        IrqData::Eventfd(fds) => fds.into_iter().flatten().collect(),
        IrqData::None | IrqData::Bool(_) => Vec::new(),
    };
    let set = SetIrqs::parse(&bytes, fds).expect("what was emitted is understood");
    let after = (
        set.index,
        set.start,
        set.count,
        set.action,
        shape(&set.data),
    );
    assert_eq!(after, before);
}

fn write_multi(multi: WriteMulti<'_>) {
    let writes: Vec<_> = multi.writes().collect();
    assert_eq!(
        (writes.len(), writes.is_empty()),
        (multi.len(), multi.is_empty())
    );
    for (access, data) in &writes {
        assert_eq!(data.len(), access.count as usize);
    }
    let bytes = emitted(|out| WriteMulti::emit(&writes, out));
    let parsed = WriteMulti::parse(&bytes).expect("what was emitted is understood");
    assert!(parsed.writes().eq(writes));
}

/// What a client may be answered, and a server by QEMU.
fn replies(payload: &[u8]) {
    if let Ok(version) = Version::parse(payload) {
        same(&version, Version::emit, Version::parse);
        answer(&version);
    }
    if let Ok(info) = DeviceInfo::parse(payload) {
        same(&info, DeviceInfo::emit, DeviceInfo::parse);
    }
    if let Ok(info) = IrqInfo::parse(payload) {
        same(&info, IrqInfo::emit, IrqInfo::parse);
    }
    if let Ok((access, _)) = DmaAccess::parse(payload) {
        let parse = |bytes: &[u8]| DmaAccess::parse(bytes).map(|(access, _)| access);
        same(&access, DmaAccess::emit, parse);
    }
    if let Ok((info, _)) = RegionInfo::parse(payload) {
        region_info(info);
    }
    if let Ok((fds, _)) = RegionIoFds::parse(payload) {
        let bytes = emitted(|out| fds.emit(u32::MAX, out));
        let argsz = fds.argsz();
        assert_eq!(bytes.len(), argsz as usize);
        assert_eq!(RegionIoFds::parse(&bytes), Ok((fds, argsz)));
    }
}

/// QEMU has no room for keys that it did not offer.
fn answer(offer: &Version) {
    let able = Capabilities {
        max_msg_fds: Some(16),
        max_data_xfer_size: Some(1 << 20),
        max_dma_maps: Some(65_535),
        pgsizes: Some(4096),
        write_multiple: Some(true),
        twin_socket: Some(TwinSocket {
            supported: true,
            fd_index: None,
        }),
    };
    let Ok(answer) = offer.answer(&able) else {
        assert_ne!(offer.major, 0);
        return;
    };
    let (offered, answered) = (&offer.capabilities, &answer.capabilities);
    assert!(answer.minor <= offer.minor);
    assert_eq!(
        answered.max_msg_fds.is_some(),
        offered.max_msg_fds.is_some()
    );
    assert_eq!(answered.pgsizes.is_some(), offered.pgsizes.is_some());
    assert!(answered.max_dma_maps <= offered.max_dma_maps);
    assert!(answered.write_multiple <= offered.write_multiple);
    assert!(answered.twin_socket.is_some() <= offered.twin_socket.is_some_and(|it| it.supported));
}

fn region_info(mut info: RegionInfo) {
    // Follows from whether there are areas.
    info.flags.set(RegionFlags::CAPS, !info.sparse.is_empty());
    let argsz = info.argsz();
    let whole = emitted(|out| info.emit(argsz, out));
    assert_eq!(whole.len(), argsz as usize);
    assert_eq!(RegionInfo::parse(&whole), Ok((info.clone(), argsz)));
    let fixed = emitted(|out| info.emit(RegionInfo::LEN as u32, out));
    let (fixed_info, needed) = RegionInfo::parse(&fixed).expect("the fixed part is enough");
    assert_eq!((fixed.len(), needed), (RegionInfo::LEN, argsz));
    assert_eq!((fixed_info.size, fixed_info.flags), (info.size, info.flags));
}
