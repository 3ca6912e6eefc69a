//! What a driver implements for one vGPU, and what it is given to do so.

use crate::dma::{GuestMemory, IovaRange};
use crate::engine::EngineLease;
use crate::input::InputPort;
use crate::irq::Interrupts;
use crate::keep::Keep;
use crate::migration::Migration;
use crate::pci::{ConfigEvents, ConfigSpace};
use crate::polling::Polling;
use crate::region::{RegionIndex, Regions};
use crate::scanout::ScanoutPublisher;

/// One virtual PCI device, as its client sees it.
///
/// Every call comes from the session's own thread, one at a time. None may block on a GPU or on
/// the client: QEMU holds its big lock while it waits, and gives up after 5 s.
pub trait MediatedDevice: Send {
    /// The configuration space. The session serves region 7 from it and acts on what a write
    /// to it asks for (function-level reset, INTx disable); the device only reads it. It also
    /// says how many vectors each interrupt group has, which is fixed for the device's life.
    fn config(&mut self) -> &mut ConfigSpace;

    /// Reads configuration space; bytes past its end are 0xff. Most devices leave this as it is:
    /// it is for those that have a window into their regions there.
    fn read_config(&mut self, offset: u64, data: &mut [u8]) {
        self.config().read(offset, data);
    }

    /// Writes configuration space, and says what that asks for. As [`Self::read_config`].
    fn write_config(&mut self, offset: u64, data: &[u8]) -> ConfigEvents {
        self.config().write(offset, data)
    }

    /// The regions apart from configuration space. Their number, sizes and kinds are fixed for
    /// the life of the device; a file behind a mapped region may be replaced in [`Self::reset`]
    /// with [`Reset::Close`].
    fn regions(&self) -> &Regions;

    /// Reads `data.len()` bytes, at least one, at `offset`. The access lies inside the region.
    ///
    /// Also called for mapped regions: a client may always use messages. On a fault the session
    /// counts it and the guest reads all-ones, as on a real bus.
    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Result<(), Fault>;

    /// Writes `data`, at least one byte, at `offset`. The access lies inside the region. A
    /// faulting write is counted and dropped.
    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Result<(), Fault>;

    /// Returns the device, its configuration space included, to its state just after creation:
    /// one that was stopped for migration runs again. What [`Reset::Close`] demands beyond that stands there.
    ///
    /// It may wait for the device's threads: whoever of them waits for the client meanwhile, for
    /// memory that is reached by messages, is told that the transfer was cancelled.
    fn reset(&mut self, cause: Reset);

    /// Guest memory is about to leave the map.
    ///
    /// On return the device has dropped its pins in `range` and begins no new transfer there; the
    /// session waits for what is left, 4 s at most, and answers the client after that. It may
    /// block while work drains. It must not fail: a device that cannot stop resets itself.
    fn dma_unmap(&mut self, range: IovaRange) {
        let _ = range;
    }

    /// Bus mastering was turned on, or a session has begun in which it is: guest memory may be reached
    /// from now on. That it is off, the device hears from each access.
    fn may_master(&mut self) {}

    /// Its ability to be taken to another process or machine, if it has that.
    fn migration(&mut self) -> Option<&mut dyn Migration> {
        None
    }

    /// The attributes of this device, with their values now.
    fn attributes(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Changes an attribute while the device runs. On error nothing has changed. A value that no
    /// device would take is refused as that, also where the attribute is fixed.
    fn set_attribute(&mut self, name: &str, value: &str) -> Result<(), AttributeError> {
        let _ = value;
        Err(AttributeError::Unknown(name.to_owned()))
    }

    /// Has a head ask its guest for a picture of this size, as someone who looks at it wishes. It is
    /// no attribute: what the operator sets next, or the next client, puts an end to it. On error
    /// nothing has changed.
    fn resize(&mut self, head: u32, width: u32, height: u32) -> Result<(), ResizeError> {
        let _ = (head, width, height);
        Err(ResizeError::Unsupported)
    }
}

/// Why a device is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The client sent DEVICE_RESET: the machine was reset, or the guest asked for it.
    Device,
    /// The guest started a function-level reset in configuration space.
    Function,
    /// The client is gone. Memory that it mapped stays mapped in it, so a device that gave out a
    /// file takes a fresh one: the next client must neither see nor share it. The published
    /// picture stays, for screenshots.
    Close,
}

/// An access that the device could not serve. Never an error on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub &'static str);

/// One kind of vGPU, as it can be created on a parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeSpec {
    /// `<driver>-<id>`, as mdev names types.
    pub name: String,
    /// A few words for a list.
    pub title: String,
    /// What one gets, in a sentence.
    pub description: String,
    /// Bytes of video memory that one instance takes from its parent; 0 for none.
    pub video_memory: u64,
}

/// Attributes given at creation, in the order they are to be applied.
///
/// The form of mdevctl's `attrs`: a name may come twice, and the later one wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub Vec<(String, String)>);

/// A family of virtual devices: what types there are, and how one is built.
pub trait Driver: Sync {
    /// The part of a type's name before the dash.
    fn name(&self) -> &'static str;

    /// The types of this driver, smallest first.
    fn types(&self) -> Vec<TypeSpec>;

    /// Whether devices of that type ask [`Services::engine`] before each job: then those of one
    /// parent share its engine.
    fn uses_engine(&self, spec: &TypeSpec) -> bool {
        let _ = spec;
        false
    }

    /// Builds one device of a type that [`Self::types`] listed.
    fn build(
        &self,
        spec: &TypeSpec,
        attributes: &Attributes,
        services: Services,
    ) -> Result<Box<dyn MediatedDevice>, BuildError>;
}

/// What the framework gives a device: its ways to the world outside.
///
/// Later needs become fields here, not new trait methods.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Services {
    /// The guest's memory. May be cloned into the device's own threads.
    pub memory: GuestMemory,
    /// Interrupts the guest. May be cloned into the device's own threads.
    pub interrupts: Interrupts,
    /// Where the device says what it shows.
    pub scanout: ScanoutPublisher,
    /// Where the device takes what people type and point at, if it takes any.
    pub input: InputPort,
    /// Memory of the device's own, which outlives its process where something else does.
    pub keep: Keep,
    /// How its threads wait for what the guest says by memory alone.
    pub polling: Polling,
    /// Time on the parent's engine, which other devices use too. May be cloned into the device's own
    /// threads.
    pub engine: EngineLease,
}

/// Why a device could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An attribute is not known, or its value is not one it can have.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// The type is not one of this driver's.
    #[error("no type is called '{0}'")]
    UnknownType(String),
    /// The kernel refused something the device needs.
    #[error("cannot {what}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// Why a head did not ask for another size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResizeError {
    /// No device of this kind can ask for one.
    #[error("a display of this type cannot ask its guest for another size")]
    Unsupported,
    /// The head is not there, or is off.
    #[error("head {0} is off, or there is no such head")]
    NoHead(u32),
    /// The size cannot be.
    #[error("a picture of {width}x{height} cannot be: {reason}")]
    Invalid {
        /// What was asked for.
        width: u32,
        /// What was asked for.
        height: u32,
        /// What it would accept.
        reason: String,
    },
}

/// Why an attribute was not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// The device has no such attribute.
    #[error("there is no attribute '{0}'")]
    Unknown(String),
    /// The attribute is fixed once the device exists.
    #[error("attribute '{0}' can only be given when the device is created")]
    Fixed(String),
    /// The value cannot be taken.
    #[error("attribute '{name}' cannot be '{value}': {reason}")]
    Invalid {
        /// The attribute.
        name: String,
        /// What was asked for.
        value: String,
        /// What it would accept.
        reason: String,
    },
}
