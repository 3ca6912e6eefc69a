//! The PCI function.

use std::io;
use std::sync::Arc;

use mdev::device::{AttributeError, Fault, Reset, ResizeError};
use mdev::dma::IovaRange;
use mdev::pci::{ConfigEvents, ConfigSpace};
use mdev::region::{RegionIndex, Regions};
use mdev::{MediatedDevice, Migration, Services};

use crate::common::{Common, Effect, status};
use crate::device::DeviceType;
use crate::engine::{Engine, QueueSetup, Setup};
use crate::layout::{self, MSIX, Place, REGISTERS};
use crate::ledger::{Ledger, MAX_QUEUES};
use crate::signals::Signals;
use crate::window::Window;

const NO_REGISTER: Fault = Fault("no register takes this access");
const NO_REGION: Fault = Fault("the device has no such region");

/// Name of the attribute that says whether the device has MSI-X.
pub const MSIX_ATTRIBUTE: &str = "msix";

/// What is decided about the transport when a device is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Whether the device has MSI-X; else it interrupts by its pin. QEMU 11.1 aborts when a device
    /// with MSI-X that it has over vfio-user is unplugged.
    pub msix: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Self { msix: true }
    }
}

impl Setting {
    /// Takes the value of the attribute [`MSIX_ATTRIBUTE`].
    pub fn set_msix(&mut self, value: &str) -> Result<(), AttributeError> {
        self.msix = match value {
            "on" => true,
            "off" => false,
            _ => {
                return Err(AttributeError::Invalid {
                    name: MSIX_ATTRIBUTE.to_owned(),
                    value: value.to_owned(),
                    reason: "it is on or off".to_owned(),
                });
            }
        };
        Ok(())
    }
}

/// A virtio device of some type, on PCI.
///
/// The registers belong to the session's thread; requests are handled by a thread of the device's
/// own.
pub struct VirtioPci {
    pub(crate) device: Box<dyn DeviceType>,
    setting: Setting,
    pub(crate) config: ConfigSpace,
    pub(crate) window: Window,
    regions: Regions,
    pub(crate) common: Common,
    pub(crate) signals: Arc<Signals>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) engine: Engine,
    /// How many resets there were. Behind the ledger's while another process's are done again.
    pub(crate) resets: u64,
    /// How many of each queue since the last of all. As above.
    pub(crate) queue_resets: Vec<u64>,
}

impl VirtioPci {
    /// A device as it is just after power-on.
    ///
    /// # Panics
    ///
    /// If the type has more queues or a larger configuration than [`DeviceType`] says.
    pub fn new(
        mut device: Box<dyn DeviceType>,
        setting: Setting,
        services: Services,
    ) -> io::Result<Self> {
        let sizes = device.queue_sizes().to_vec();
        assert!(sizes.len() <= MAX_QUEUES && device.config().len() <= 4096);
        let config = layout::config_space(&*device, setting.msix);
        let vectors = config.irqs().msix as u16;
        let signals = Arc::new(Signals::new(services.interrupts));
        let ledger = Arc::new(Ledger::open(&services.keep)?);
        let engine = Engine::start(
            services.memory,
            Arc::clone(&ledger),
            Arc::clone(&signals),
            device.handler(),
            services.polling,
        )?;
        device.wake_with(engine.waker());
        let mut transport = Self {
            regions: layout::regions(&config, sizes.len()),
            window: Window::of(&config),
            config,
            common: Common::new(device.features(), &sizes, vectors),
            device,
            setting,
            signals,
            resets: ledger.resets(),
            queue_resets: vec![0; sizes.len()],
            ledger,
            engine,
        };
        transport.follow();
        Ok(transport)
    }

    /// Tells the other thread how the registers stand.
    pub(crate) fn follow(&mut self) {
        let is_running = self.common.is_running() && !self.signals.needs_reset();
        let queues = self.common.queues.iter().zip(&self.queue_resets);
        let queues = queues.map(|(queue, resets)| {
            (queue.enabled && is_running).then_some(QueueSetup {
                resets: *resets,
                ring: queue.ring,
                vector: queue.vector,
            })
        });
        self.engine.set_up(Setup {
            resets: self.resets,
            queues: queues.collect(),
        });
        self.signals.set_config_vector(self.common.config_vector);
    }

    /// A reset, of whatever kind. One that another process has done is not done again: what came
    /// after it would be lost.
    fn reset_device(&mut self, cause: Reset) {
        self.resets += 1;
        let number = self.resets;
        let Self {
            device,
            ledger,
            engine,
            ..
        } = self;
        if number > ledger.resets() {
            engine.quiesced(|| {
                engine.forget();
                ledger.begin_reset(number);
                device.reset(cause);
                ledger.end_reset(number);
            });
        }
        self.queue_resets.fill(0);
        self.common.reset();
        self.signals.restore(0, false);
        self.follow();
    }

    /// A reset of one queue; as one of the device, done once.
    fn reset_queue(&mut self, queue: u16) {
        let Some(count) = self.queue_resets.get_mut(usize::from(queue)) else {
            return;
        };
        *count += 1;
        let number = *count;
        let Self { ledger, engine, .. } = self;
        if self.resets == ledger.resets() && number > ledger.queue_resets(queue) {
            engine.quiesced(|| {
                engine.forget_queue(queue);
                ledger.reset_queue(queue, number);
            });
        }
        self.common.reset_queue(queue);
        self.follow();
    }

    /// Tells the driver that the configuration has changed.
    fn tell_of_config(&mut self) {
        self.common.config_generation = self.common.config_generation.wrapping_add(1);
        if self.common.is_running() {
            self.signals.config();
        }
    }

    /// The queues that the driver has notified of.
    pub(crate) fn notified(&self) -> u64 {
        (0..)
            .zip(&self.common.queues)
            .filter(|(_, queue)| queue.notified)
            .fold(0, |queues, (number, _): (u32, _)| queues | 1 << number)
    }

    fn notify(&mut self, queue: u16) {
        if let Some(registers) = self.common.queues.get_mut(usize::from(queue)) {
            registers.notified = true;
            self.engine.notify(1 << queue);
        }
    }

    fn status(&self) -> u8 {
        match self.signals.needs_reset() {
            true => self.common.status | status::NEEDS_RESET,
            false => self.common.status,
        }
    }

    fn read_register(&mut self, place: Place, data: &mut [u8]) -> Result<(), Fault> {
        match (place, data) {
            (Place::Common(at), data) => {
                if !self.common.read(at, data) {
                    return Err(NO_REGISTER);
                }
                if let (layout::STATUS, [byte]) = (at, data) {
                    *byte = self.status();
                }
                Ok(())
            }
            (Place::Isr, [byte]) => {
                *byte = self.signals.take_isr();
                Ok(())
            }
            (Place::Device(at), data) => {
                let config = self.device.config();
                let bytes = inside(at, data.len(), config.len()).ok_or(NO_REGISTER)?;
                data.copy_from_slice(config.get(bytes).ok_or(NO_REGISTER)?);
                Ok(())
            }
            (Place::Isr | Place::Notify(_), _) => Err(NO_REGISTER),
        }
    }

    fn write_register(&mut self, place: Place, data: &[u8]) -> Result<(), Fault> {
        match (place, data) {
            (Place::Common(at), data) => {
                match self.common.write(at, data).ok_or(NO_REGISTER)? {
                    Effect::None => {}
                    Effect::Setup => self.follow(),
                    Effect::Reset => self.reset_device(Reset::Device),
                    Effect::QueueReset(queue) => self.reset_queue(queue),
                }
                Ok(())
            }
            (Place::Device(at), data) => {
                let bytes = inside(at, data.len(), self.device.config().len());
                self.device
                    .write_config(bytes.ok_or(NO_REGISTER)?.start, data);
                Ok(())
            }
            // An eventfd tells no value, so the offset says which queue it is.
            (Place::Notify(at), [_, _]) => {
                self.notify(Place::notified(at).ok_or(NO_REGISTER)?);
                Ok(())
            }
            (Place::Isr | Place::Notify(_), _) => Err(NO_REGISTER),
        }
    }
}

/// The bytes of an access, if there are so many.
fn inside(at: u64, len: usize, available: usize) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(at).ok()?;
    let end = start.checked_add(len)?;
    (end <= available).then_some(start..end)
}

impl MediatedDevice for VirtioPci {
    /// The other thread may have changed the level of the pin since the last look.
    fn config(&mut self) -> &mut ConfigSpace {
        let asserted = self.signals.look_at_isr() != 0;
        self.config.set_interrupt_status(asserted);
        &mut self.config
    }

    fn read_config(&mut self, offset: u64, data: &mut [u8]) {
        if self.window.is_touched(offset, data.len()) {
            self.look_through_window();
        }
        self.config().read(offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) -> ConfigEvents {
        let events = self.config().write(offset, data);
        if self.window.is_touched(offset, data.len()) {
            self.reach_through_window();
        }
        events
    }

    fn regions(&self) -> &Regions {
        &self.regions
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Result<(), Fault> {
        match region {
            REGISTERS => self.read_register(Place::at(offset).ok_or(NO_REGISTER)?, data),
            MSIX if self.setting.msix => {
                data.fill(0);
                Ok(())
            }
            _ => Err(NO_REGION),
        }
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Result<(), Fault> {
        match region {
            REGISTERS => self.write_register(Place::at(offset).ok_or(NO_REGISTER)?, data),
            // The client's, who delivers.
            MSIX if self.setting.msix => Ok(()),
            _ => Err(NO_REGION),
        }
    }

    fn reset(&mut self, cause: Reset) {
        self.reset_device(cause);
        self.config.reset();
        self.engine.set_stopped(false);
    }

    fn dma_unmap(&mut self, _: IovaRange) {
        // One request ends; the next finds the memory gone.
        let Self { device, engine, .. } = self;
        engine.quiesced(|| device.settle());
    }

    /// A queue that was to be looked at meanwhile was found to be nowhere, and its driver may have been
    /// asked for no notification.
    fn may_master(&mut self) {
        self.engine.notify(self.notified());
    }

    fn migration(&mut self) -> Option<&mut dyn Migration> {
        self.device.is_whole().then_some(self as &mut dyn Migration)
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let msix = if self.setting.msix { "on" } else { "off" };
        let mut attributes = self.device.attributes();
        attributes.push((MSIX_ATTRIBUTE, msix.to_owned()));
        attributes
    }

    fn set_attribute(&mut self, name: &str, value: &str) -> Result<(), AttributeError> {
        if name == MSIX_ATTRIBUTE {
            return Err(AttributeError::Fixed(name.to_owned()));
        }
        if self.device.set_attribute(name, value)? {
            self.tell_of_config();
        }
        Ok(())
    }

    fn resize(&mut self, head: u32, width: u32, height: u32) -> Result<(), ResizeError> {
        if self.device.resize(head, width, height)? {
            self.tell_of_config();
        }
        Ok(())
    }
}
