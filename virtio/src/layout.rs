//! What lies where: configuration space, and the two BARs.
//!
//! BAR0 has the registers, each kind on a page of its own, and only messages reach it. BAR2 has the
//! table of MSI-X and its pending bits: the client delivers, and keeps both itself.

use mdev::pci::{Bar, Capability, ConfigSpace, Identity, Pin};
use mdev::region::{Doorbell, RegionIndex, Regions};

use crate::device::DeviceType;
use crate::window::Window;

/// The registers.
pub(crate) const REGISTERS: RegionIndex = RegionIndex::Bar0;
const REGISTERS_LEN: u32 = 0x4000;
/// The table of MSI-X, and its pending bits.
pub(crate) const MSIX: RegionIndex = RegionIndex::Bar2;
const MSIX_LEN: u32 = 0x1000;
const MSIX_PENDING: u32 = 0x800;

/// Bytes from the notification register of one queue to the next: a doorbell of its own for each.
const NOTIFY_MULTIPLIER: u32 = 4;
/// Bytes of a notification: the number of the queue.
const NOTIFY_LEN: u8 = 2;

/// Virtio's number as a vendor, and the first of its modern devices (Virtio 1.2, section 4.1.2).
const VENDOR: u16 = 0x1af4;
const FIRST_DEVICE: u16 = 0x1040;
/// What QEMU says it is.
const SUBSYSTEM: u16 = 0x1100;
/// At least 1: not a device of the time before.
const REVISION: u8 = 1;

/// Where in BAR0 an access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The common configuration, from its first byte.
    Common(u64),
    /// The ISR status.
    Isr,
    /// The device's configuration, from its first byte.
    Device(u64),
    /// Notifications, from the first queue's.
    Notify(u64),
}

/// The kinds of registers, each with its number (section 4.1.4) and where it begins.
const COMMON: (u8, u32) = (1, 0x0000);
const NOTIFY: (u8, u32) = (2, 0x3000);
const ISR: (u8, u32) = (3, 0x1000);
const DEVICE: (u8, u32) = (4, 0x2000);
const PAGE: u64 = 0x1000;

/// The device status, in the common configuration.
pub(crate) const STATUS: u64 = 0x14;

/// Bytes of the common configuration, up to `queue_reset`.
pub(crate) const COMMON_LEN: u32 = 0x3c;

impl Place {
    /// Where an access at this offset of BAR0 goes.
    pub(crate) fn at(offset: u64) -> Option<Self> {
        let rest = offset % PAGE;
        match offset / PAGE {
            0 => Some(Self::Common(rest)),
            1 if rest == 0 => Some(Self::Isr),
            2 => Some(Self::Device(rest)),
            3 => Some(Self::Notify(rest)),
            _ => None,
        }
    }

    /// The queue that a notification at this offset is for.
    pub(crate) fn notified(offset: u64) -> Option<u16> {
        let multiplier = u64::from(NOTIFY_MULTIPLIER);
        u16::try_from(offset / multiplier)
            .ok()
            .filter(|_| offset.is_multiple_of(multiplier))
    }
}

/// The configuration space of a device.
pub(crate) fn config_space(device: &dyn DeviceType, has_msix: bool) -> ConfigSpace {
    let identity = Identity {
        vendor: VENDOR,
        device: FIRST_DEVICE + device.id(),
        subsystem_vendor: VENDOR,
        subsystem: SUBSYSTEM,
        revision: REVISION,
        class: device.class(),
    };
    let memory = |size| Bar::Memory32 {
        size,
        prefetchable: false,
    };
    let queues = device.queue_sizes().len() as u32;
    let mut space = ConfigSpace::new(identity)
        .with_bar(REGISTERS, memory(REGISTERS_LEN))
        .with_interrupt_pin(Pin::A);
    if has_msix {
        // One for each queue, and one for changes of the configuration.
        space = space
            .with_bar(MSIX, memory(MSIX_LEN))
            .with_capability(Capability::Msix {
                vectors: queues as u16 + 1,
                table: (MSIX, 0),
                pba: (MSIX, MSIX_PENDING),
            });
    }
    let config_len = device.config().len() as u32;
    let structure = |(kind, at): (u8, u32), len, more: &[u8]| {
        let [a0, a1, a2, a3] = u32::to_le_bytes(at);
        let [l0, l1, l2, l3] = u32::to_le_bytes(len);
        let bar = REGISTERS as u8;
        let content = [kind, bar, 0, 0, 0, a0, a1, a2, a3, l0, l1, l2, l3];
        Capability::Vendor([&content[..], more].concat())
    };
    let multiplier = NOTIFY_MULTIPLIER.to_le_bytes();
    space
        .with_capability(structure(COMMON, COMMON_LEN, &[]))
        .with_capability(structure(ISR, 1, &[]))
        .with_capability(structure(DEVICE, config_len, &[]))
        .with_capability(structure(NOTIFY, queues * NOTIFY_MULTIPLIER, &multiplier))
        .with_capability(Window::capability())
}

/// The regions, with a doorbell for each of the first queues.
pub(crate) fn regions(config: &ConfigSpace, queues: usize) -> Regions {
    let mut regions = Regions::of(config);
    for queue in 0..queues.min(Regions::MAX_DOORBELLS) {
        let doorbell = Doorbell {
            offset: u64::from(NOTIFY.1) + queue as u64 * u64::from(NOTIFY_MULTIPLIER),
            size: NOTIFY_LEN,
            datamatch: None,
        };
        regions.add_doorbell(REGISTERS, doorbell);
    }
    regions
}
