//! The way to the device: a PCI bus with one function on it, which is reached over vfio-user.
//!
//! What the crate knows of PCI finds the function, sizes its BARs and walks its capabilities. Its
//! own transport reads and writes registers by pointers, which a server of messages has not; so
//! [`Pci`] does the same accesses, at the places that the capabilities tell, by messages.

#![expect(
    unsafe_code,
    reason = "a clone of the bus is called unsafe by the crate"
)]

use std::cell::RefCell;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use vfu::client::Client;
use vfu::wire::dma::{DmaFlags, DmaMap};
use vfu::wire::version::Capabilities;
use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, DeviceFunction, PciRoot,
};
use virtio_drivers::transport::pci::virtio_device_type;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::memory;

/// Longer than any answer takes: a test fails after it rather than hang.
const PATIENCE: Duration = Duration::from_secs(20);

const CONFIG_SPACE: u32 = 7;
const CAP_ID_VENDOR: u8 = 9;

/// Offsets in the common configuration.
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub(super) const DEVICE_FEATURE: u64 = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub(super) const DRIVER_FEATURE: u64 = 0x0c;
    pub(super) const STATUS: u64 = 0x14;
    pub(super) const CONFIG_GENERATION: u64 = 0x15;
    pub(super) const QUEUE_SELECT: u64 = 0x16;
    pub(super) const QUEUE_SIZE: u64 = 0x18;
    pub(super) const QUEUE_ENABLE: u64 = 0x1c;
    pub(super) const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    pub(super) const QUEUE_DESC: u64 = 0x20;
    pub(super) const QUEUE_DRIVER: u64 = 0x28;
    pub(super) const QUEUE_DEVICE: u64 = 0x30;
}

/// The bus. Clones are the same.
#[derive(Clone)]
pub(crate) struct Bus(Rc<RefCell<Client>>);

impl Bus {
    /// Connects, and maps the guest's memory in two parts that touch.
    pub(crate) fn new(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client::negotiate(socket.into(), Capabilities::default()).unwrap();
        let half = memory::LEN / 2;
        for offset in [0, half] {
            let map = DmaMap {
                flags: DmaFlags::READ | DmaFlags::WRITE,
                offset,
                iova: memory::START + offset,
                size: half,
            };
            client.dma_map(&map, Some(memory::file())).unwrap();
        }
        Self(Rc::new(RefCell::new(client)))
    }

    fn read<const N: usize>(&self, region: u32, at: u64) -> [u8; N] {
        let mut data = [0; N];
        let mut client = self.0.borrow_mut();
        client.region_read(region, at, &mut data).unwrap();
        data
    }

    fn write(&self, region: u32, at: u64, data: &[u8]) {
        self.0.borrow_mut().region_write(region, at, data).unwrap();
    }
}

fn is_ours(function: DeviceFunction) -> bool {
    (function.bus, function.device, function.function) == (0, 0, 0)
}

impl ConfigurationAccess for Bus {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        match is_ours(function) {
            true => u32::from_le_bytes(self.read(CONFIG_SPACE, offset.into())),
            // Nobody is there.
            false => u32::MAX,
        }
    }

    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        assert!(is_ours(function));
        self.write(CONFIG_SPACE, offset.into(), &data.to_le_bytes());
    }

    unsafe fn unsafe_clone(&self) -> Self {
        self.clone()
    }
}

/// A structure of registers: which BAR, where in it, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Structure {
    bar: u32,
    at: u64,
    len: u64,
}

/// The transport, by messages.
pub(crate) struct Pci {
    bus: Bus,
    kind: DeviceType,
    common: Structure,
    notify: Structure,
    notify_multiplier: u64,
    isr: Structure,
    device: Structure,
}

impl Pci {
    /// Finds the one function of the bus, gives its BARs addresses and switches it on.
    pub(crate) fn find(bus: &Bus) -> Self {
        let mut root = PciRoot::new(bus.clone());
        let found: Vec<_> = root.enumerate_bus(0).collect();
        let [(function, info)] = &found[..] else {
            panic!("not one function: {found:?}");
        };
        let kind = virtio_device_type(info).expect("a virtio device");
        let function = *function;
        let mut sizes = Vec::new();
        for (bar, info) in root.bars(function).unwrap().into_iter().enumerate() {
            if let Some(BarInfo::Memory { size, .. }) = info {
                root.set_bar_32(function, bar as u8, 0x1000_0000 * (bar as u32 + 1));
                sizes.push((bar as u32, size));
            }
        }
        root.set_command(function, Command::MEMORY_SPACE | Command::BUS_MASTER);
        let [common, notify, isr, device] = [1, 2, 3, 4].map(|kind| {
            let (_, structure) = structure(&root, bus, function, kind);
            let bar = sizes.iter().find(|(bar, _)| *bar == structure.bar);
            let size = bar.expect("there is such a BAR").1;
            assert!(structure.at + structure.len <= size, "{structure:?}");
            structure
        });
        let (notify_at, _) = structure(&root, bus, function, 2);
        let multiplier = bus.read_word(function, notify_at + 16);
        Self {
            bus: bus.clone(),
            kind,
            common,
            notify,
            notify_multiplier: multiplier.into(),
            isr,
            device,
        }
    }

    fn common<const N: usize>(&self, register: u64) -> [u8; N] {
        self.bus.read(self.common.bar, self.common.at + register)
    }

    fn set_common(&self, register: u64, data: &[u8]) {
        let at = self.common.at + register;
        self.bus.write(self.common.bar, at, data);
    }

    fn select(&self, queue: u16) {
        self.set_common(common::QUEUE_SELECT, &queue.to_le_bytes());
    }
}

/// Where the capability for a kind of structure lies, and what it tells.
fn structure(
    root: &PciRoot<Bus>,
    bus: &Bus,
    function: DeviceFunction,
    kind: u8,
) -> (u8, Structure) {
    let mut all = root.capabilities(function);
    let found = all.find(|it| it.id == CAP_ID_VENDOR && (it.private_header >> 8) as u8 == kind);
    let at = found.expect("such a structure").offset;
    let word = |offset| bus.read_word(function, at + offset);
    let structure = Structure {
        bar: word(4) & 0xff,
        at: word(8).into(),
        len: word(12).into(),
    };
    (at, structure)
}

impl Transport for Pci {
    fn device_type(&self) -> DeviceType {
        self.kind
    }

    fn read_device_features(&mut self) -> u64 {
        let half = |select: u32| {
            self.set_common(common::DEVICE_FEATURE_SELECT, &select.to_le_bytes());
            u64::from(u32::from_le_bytes(self.common(common::DEVICE_FEATURE)))
        };
        half(0) | half(1) << 32
    }

    fn write_driver_features(&mut self, features: u64) {
        for (select, half) in [(0_u32, features as u32), (1, (features >> 32) as u32)] {
            self.set_common(common::DRIVER_FEATURE_SELECT, &select.to_le_bytes());
            self.set_common(common::DRIVER_FEATURE, &half.to_le_bytes());
        }
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.select(queue);
        u16::from_le_bytes(self.common(common::QUEUE_SIZE)).into()
    }

    fn notify(&mut self, queue: u16) {
        self.select(queue);
        let offset = u16::from_le_bytes(self.common(common::QUEUE_NOTIFY_OFF));
        let offset = u64::from(offset) * self.notify_multiplier;
        assert!(offset + 2 <= self.notify.len);
        let at = self.notify.at + offset;
        self.bus.write(self.notify.bar, at, &queue.to_le_bytes());
    }

    fn get_status(&self) -> DeviceStatus {
        let [status] = self.common(common::STATUS);
        DeviceStatus::from_bits_truncate(status.into())
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.set_common(common::STATUS, &[status.bits() as u8]);
    }

    fn set_guest_page_size(&mut self, _: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        self.select(queue);
        self.set_common(common::QUEUE_SIZE, &(size as u16).to_le_bytes());
        for (register, at) in [
            (common::QUEUE_DESC, descriptors),
            (common::QUEUE_DRIVER, driver_area),
            (common::QUEUE_DEVICE, device_area),
        ] {
            self.set_common(register, &at.to_le_bytes());
        }
        self.set_common(common::QUEUE_ENABLE, &[1, 0]);
    }

    /// As the crate's own for PCI: whoever has not agreed on the reset of single queues resets the
    /// device, which is done when this is dropped.
    fn queue_unset(&mut self, _: u16) {}

    fn queue_used(&mut self, queue: u16) -> bool {
        self.select(queue);
        self.common(common::QUEUE_ENABLE) == [1, 0]
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        let [isr] = self.bus.read(self.isr.bar, self.isr.at);
        InterruptStatus::from_bits_retain(isr.into())
    }

    fn read_config_generation(&self) -> u32 {
        let [generation] = self.common(common::CONFIG_GENERATION);
        generation.into()
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T> {
        let mut value = T::new_zeroed();
        let bytes = value.as_mut_bytes();
        if (offset + bytes.len()) as u64 > self.device.len {
            return Err(Error::ConfigSpaceTooSmall);
        }
        let at = self.device.at + offset as u64;
        let mut client = self.bus.0.borrow_mut();
        client.region_read(self.device.bar, at, bytes).unwrap();
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: T,
    ) -> Result<()> {
        let at = self.device.at + offset as u64;
        self.bus.write(self.device.bar, at, value.as_bytes());
        Ok(())
    }
}

impl Drop for Pci {
    /// The rings are about to be freed.
    fn drop(&mut self) {
        self.set_status(DeviceStatus::empty());
        assert!(std::thread::panicking() || self.get_status().is_empty());
    }
}
