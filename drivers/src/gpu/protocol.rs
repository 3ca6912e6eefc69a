//! The commands' numbers, and their fields (Virtio 1.2, section 5.7.6.7); `linux/virtio_gpu.h`.

use mdev::scanout::Rect;

/// Features, by their bit; `VIRTIO_GPU_F_*`.
pub(super) mod feature {
    pub(crate) const EDID: u64 = 1 << 1;
    pub(crate) const RESOURCE_UUID: u64 = 1 << 2;
    pub(crate) const RESOURCE_BLOB: u64 = 1 << 3;
}

/// The configuration's event: the display has changed; `VIRTIO_GPU_EVENT_DISPLAY`.
pub(super) const EVENT_DISPLAY: u32 = 1;

/// Most heads that an answer has room for; `VIRTIO_GPU_MAX_SCANOUTS`.
pub(super) const MAX_SCANOUTS: usize = 16;

/// Bytes of a header, of a command and of an answer.
pub(super) const HEADER: usize = 24;

/// Room for an EDID in an answer.
pub(super) const EDID_ROOM: usize = 1024;

/// Where a blob lies: in guest memory; `VIRTIO_GPU_BLOB_MEM_GUEST`.
pub(super) const BLOB_MEM_GUEST: u32 = 1;

/// What may be done with a blob, all of which is the driver's own business as long as it lies in guest
/// memory; `VIRTIO_GPU_BLOB_FLAG_USE_*`.
pub(super) const BLOB_FLAGS: u32 = 1 | 2 | 4;

/// A flag of a header: the answer is a fence; `VIRTIO_GPU_FLAG_FENCE`.
const FLAG_FENCE: u32 = 1;
/// The index of a ring counts; `VIRTIO_GPU_FLAG_INFO_RING_IDX`.
const FLAG_RING_INDEX: u32 = 2;

/// Commands; `VIRTIO_GPU_CMD_*`.
pub(super) mod command {
    pub(crate) const GET_DISPLAY_INFO: u32 = 0x0100;
    pub(crate) const RESOURCE_CREATE_2D: u32 = 0x0101;
    pub(crate) const RESOURCE_UNREF: u32 = 0x0102;
    pub(crate) const SET_SCANOUT: u32 = 0x0103;
    pub(crate) const RESOURCE_FLUSH: u32 = 0x0104;
    pub(crate) const TRANSFER_TO_HOST_2D: u32 = 0x0105;
    pub(crate) const RESOURCE_ATTACH_BACKING: u32 = 0x0106;
    pub(crate) const RESOURCE_DETACH_BACKING: u32 = 0x0107;
    pub(crate) const GET_CAPSET_INFO: u32 = 0x0108;
    pub(crate) const GET_CAPSET: u32 = 0x0109;
    pub(crate) const GET_EDID: u32 = 0x010a;
    pub(crate) const RESOURCE_ASSIGN_UUID: u32 = 0x010b;
    pub(crate) const RESOURCE_CREATE_BLOB: u32 = 0x010c;
    pub(crate) const SET_SCANOUT_BLOB: u32 = 0x010d;
    pub(crate) const CTX_DESTROY: u32 = 0x0201;
    pub(crate) const CTX_ATTACH_RESOURCE: u32 = 0x0202;
    pub(crate) const CTX_DETACH_RESOURCE: u32 = 0x0203;
    pub(crate) const SUBMIT_3D: u32 = 0x0207;
    pub(crate) const UPDATE_CURSOR: u32 = 0x0300;
    pub(crate) const MOVE_CURSOR: u32 = 0x0301;
}

/// Answers; `VIRTIO_GPU_RESP_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Answer {
    Ok = 0x1100,
    DisplayInfo = 0x1101,
    Edid = 0x1104,
    ResourceUuid = 0x1105,
    Unspecified = 0x1200,
    OutOfMemory = 0x1201,
    InvalidScanout = 0x1202,
    InvalidResource = 0x1203,
    InvalidContext = 0x1204,
    InvalidParameter = 0x1205,
}

/// The header of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) command: u32,
    flags: u32,
    fence: u64,
    context: u32,
    ring: u8,
}

impl Header {
    pub(super) fn parse(bytes: &[u8; HEADER]) -> Self {
        let mut fields = Reader(bytes);
        Self {
            command: fields.u32(),
            flags: fields.u32(),
            fence: fields.u64(),
            context: fields.u32(),
            ring: fields.0.first().copied().unwrap_or(0),
        }
    }

    /// The header of the answer, with the fence if there is one.
    pub(super) fn answer(&self, answer: Answer) -> Vec<u8> {
        let flags = self.flags & (FLAG_FENCE | FLAG_RING_INDEX);
        let (flags, fence, context, ring) = match flags & FLAG_FENCE {
            0 => (0, 0, 0, 0),
            _ => (flags, self.fence, self.context, self.ring),
        };
        let mut out = Vec::with_capacity(HEADER);
        out.extend((answer as u32).to_le_bytes());
        out.extend(flags.to_le_bytes());
        out.extend(fence.to_le_bytes());
        out.extend(context.to_le_bytes());
        out.extend([ring, 0, 0, 0]);
        out
    }
}

/// Takes fields off the front of a command. Past its end all are 0.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *head
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// `struct virtio_gpu_rect`.
    pub(super) fn rect(&mut self) -> Rect {
        Rect {
            x: self.u32(),
            y: self.u32(),
            width: self.u32(),
            height: self.u32(),
        }
    }
}
