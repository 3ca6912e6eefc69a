//! Which answer each command has: one, with its number and name, and in the form that its sender
//! has room for.

use vfu::wire::access::RegionAccess;
use vfu::wire::device::DeviceInfo;
use vfu::wire::dma::DmaUnmap;
use vfu::wire::feature::{DeviceFeature, FeatureHead};
use vfu::wire::header::MessageType;
use vfu::wire::io_fds::{RegionIoFds, RegionIoFdsRequest};
use vfu::wire::irq::IrqInfo;
use vfu::wire::migration::MigDataRead;
use vfu::wire::region::{RegionInfo, RegionInfoRequest};
use vfu::wire::{Command, Header};

/// A command that waits for its answer.
#[derive(Debug)]
pub(super) struct Owed {
    header: Header,
    payload: Vec<u8>,
}

impl Owed {
    /// What this message is owed; `None` if nothing.
    pub(super) fn by(header: Header, payload: &[u8]) -> Option<Self> {
        // What is neither command nor reply is refused, which is an answer too.
        let is_answered = header.message_type() != MessageType::Reply && !header.is_no_reply();
        is_answered.then(|| Self {
            header,
            payload: payload.to_vec(),
        })
    }

    /// Whether the answer may be of megabytes, and takes long: a report on all that was written.
    pub(super) fn is_large(&self) -> bool {
        const LARGE: u64 = 1 << 20;
        self.header.command == Command::DeviceFeature as u16
            && matches!(DeviceFeature::parse(&self.payload),
                Ok(DeviceFeature::ReportLogging(report)) if report.length / 4096 > LARGE
                    || report.bits() > LARGE)
    }

    /// Checks the answer.
    pub(super) fn check(&self, reply: &Header, payload: &[u8], fds: usize) {
        let ids = |header: &Header| (header.id, header.command);
        assert_eq!(ids(reply), ids(&self.header), "of another command");
        if reply.error().is_some() {
            assert!(
                payload.is_empty() && fds == 0,
                "an error has nothing with it"
            );
            return;
        }
        let command = Command::try_from(self.header.command);
        let command = command.expect("what is not known is refused");
        let may_bring_fds = [
            Command::Version,
            Command::DeviceGetRegionInfo,
            Command::DeviceGetRegionIoFds,
        ];
        assert!(
            fds == 0 || may_bring_fds.contains(&command),
            "{command:?} brought {fds}"
        );
        self.check_payload(command, payload, fds);
    }

    fn check_payload(&self, command: Command, payload: &[u8], fds: usize) {
        let sent = &self.payload[..];
        match command {
            Command::RegionRead => {
                let access = RegionAccess::parse_read(sent).expect("it was understood");
                assert!(
                    access.offset.checked_add(access.count.into()).is_some(),
                    "it wraps"
                );
                assert_eq!(&payload[..RegionAccess::LEN], sent);
                assert_eq!(payload.len() - RegionAccess::LEN, access.count as usize);
            }
            Command::RegionWrite => assert_eq!(payload, &sent[..RegionAccess::LEN]),
            Command::RegionWriteMulti => assert_eq!(payload, &sent[..8]),
            Command::DmaUnmap => {
                assert_eq!(
                    DmaUnmap::parse(payload),
                    DmaUnmap::parse(&sent[..DmaUnmap::LEN])
                );
            }
            Command::DmaMap | Command::DeviceSetIrqs | Command::DeviceReset => {
                assert_eq!(payload, b"");
            }
            Command::DeviceGetInfo
            | Command::DeviceGetIrqInfo
            | Command::DeviceGetRegionInfo
            | Command::DeviceGetRegionIoFds => self.check_description(command, payload, fds),
            Command::DeviceFeature => {
                let (asked, _) = FeatureHead::parse(sent).expect("it was understood");
                let (head, _) = FeatureHead::parse(payload).expect("a feature");
                assert_eq!(head.feature, asked.feature);
                assert!(
                    payload.len() <= asked.argsz as usize,
                    "more than there is room for"
                );
            }
            Command::MigDataRead => {
                let asked = MigDataRead::parse(sent).expect("it was understood");
                let data = MigDataRead::parse_reply(payload).expect("part of a stream");
                assert!(data.len() <= asked.size as usize, "more than was asked for");
            }
            Command::MigDataWrite => assert_eq!(payload, b""),
            Command::Version => {}
            Command::DmaRead | Command::DmaWrite => panic!("{command:?} is no client's command"),
        }
    }

    /// What a device says of itself has no more bytes than there is room for.
    fn check_description(&self, command: Command, payload: &[u8], fds: usize) {
        let sent = &self.payload[..];
        match command {
            Command::DeviceGetInfo => {
                DeviceInfo::parse(payload).expect("device info");
                assert_eq!(payload.len(), DeviceInfo::LEN);
            }
            Command::DeviceGetIrqInfo => {
                let info = IrqInfo::parse(payload).expect("interrupt info");
                assert_eq!(Ok(info.index), IrqInfo::parse_request(sent));
                assert_eq!(payload.len(), IrqInfo::LEN);
            }
            Command::DeviceGetRegionInfo => {
                let request = RegionInfoRequest::parse(sent).expect("it was understood");
                let (info, needed) = RegionInfo::parse(payload).expect("region info");
                assert_eq!(info.index, request.index);
                assert!(
                    payload.len() <= request.argsz as usize,
                    "more than there is room for"
                );
                assert!(needed as usize >= payload.len());
            }
            Command::DeviceGetRegionIoFds => {
                let request = RegionIoFdsRequest::parse(sent).expect("it was understood");
                let (described, _) = RegionIoFds::parse(payload).expect("region I/O fds");
                assert_eq!(
                    (described.index, described.events.len()),
                    (request.index, fds)
                );
                assert!(
                    payload.len() <= request.argsz as usize,
                    "more than there is room for"
                );
            }
            _ => panic!("{command:?} asks for no description"),
        }
    }
}
