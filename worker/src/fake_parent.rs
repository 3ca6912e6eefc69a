//! A physical device that is none, to test what serves several vGPUs. Built only with the feature
//! `forbidden`, which nothing but the tests of this crate turn on.
//!
//! It has every type that there is in software, and the one that tries what the sandbox forbids; and
//! as many places as its setting `places` says. What it is given for its files, it only keeps open.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use libc::c_long;
use mdev::device::{AttributeError, BuildError, Fault, Reset, ResizeError};
use mdev::dma::IovaRange;
use mdev::host::HostFiles;
use mdev::pci::{ConfigEvents, ConfigSpace};
use mdev::region::{RegionIndex, Regions};
use mdev::{Attributes, Driver, MediatedDevice, Migration, Parent, Services, TypeSpec};

use crate::forbidden::{Attempt, ForbiddenDriver, call};

/// Where it is: no bus has this domain.
pub const ADDRESS: &str = "ffffffff:ff:1f.7";

/// What it is called.
pub const KIND: &str = "fake";

/// The setting that says how many vGPUs it has room for.
const PLACES: &str = "places";

/// The numbers of its address space's descriptor and of its own.
static FDS: [AtomicI32; 2] = [AtomicI32::new(-1), AtomicI32::new(-1)];

/// Calls of VFIO that a worker makes, each on the descriptor that it is meant for: /dev/null here.
pub const ON_ITS_FILES: &[Attempt] = &[
    ("MAP_DMA", || vfio(CONTAINER, 13)),
    ("UNMAP_DMA", || vfio(CONTAINER, 14)),
    ("GET_IRQ_INFO", || vfio(DEVICE, 9)),
    ("SET_IRQS", || vfio(DEVICE, 10)),
    ("RESET", || vfio(DEVICE, 11)),
    ("F_OFD_GETLK", || lock(DEVICE, libc::F_OFD_GETLK)),
];

/// Those that none makes: other calls, and the same on other descriptors, where they mean other
/// things: a reset of the whole bus for one.
pub const NOT_ON_ITS_FILES: &[Attempt] = &[
    ("hot reset", || vfio(DEVICE, 13)),
    ("migration", || vfio(DEVICE, 17)),
    ("open another device", || vfio(DEVICE, 6)),
    ("another IOMMU", || vfio(CONTAINER, 2)),
    ("dirty pages", || vfio(CONTAINER, 17)),
    ("give a part away", || lock(DEVICE, libc::F_OFD_SETLK)),
    ("locks elsewhere", || lock(CONTAINER, libc::F_OFD_GETLK)),
    ("elsewhere", || call(libc::SYS_ioctl, &[0, number(13)])),
];

const CONTAINER: usize = 0;
const DEVICE: usize = 1;

/// The address is none.
fn lock(file: usize, command: i32) -> c_long {
    let fd = FDS[file].load(Ordering::Relaxed);
    call(libc::SYS_fcntl, &[fd.into(), command.into(), 0])
}

fn vfio(file: usize, number_: i64) -> c_long {
    let fd = FDS[file].load(Ordering::Relaxed);
    call(libc::SYS_ioctl, &[fd.into(), number(number_)])
}

/// `_IO(';', 100 + n)`.
const fn number(n: i64) -> i64 {
    (b';' as i64) << 8 | (100 + n)
}

/// Its types.
pub fn types() -> Vec<TypeSpec> {
    let all = drivers::DRIVERS.iter().flat_map(|driver| driver.types());
    all.chain(ForbiddenDriver.types()).collect()
}

/// Takes it.
pub fn open(
    files: Option<HostFiles>,
    settings: &Attributes,
) -> Result<Arc<dyn Parent>, BuildError> {
    let mut places = u32::MAX;
    for (name, value) in &settings.0 {
        if name != PLACES {
            return Err(AttributeError::Unknown(name.clone()).into());
        }
        places = value.parse().map_err(|_| AttributeError::Invalid {
            name: name.clone(),
            value: value.clone(),
            reason: "a number".to_owned(),
        })?;
    }
    if let Some(files) = &files {
        FDS[CONTAINER].store(files.container.as_raw_fd(), Ordering::Relaxed);
        FDS[DEVICE].store(files.device.as_raw_fd(), Ordering::Relaxed);
    }
    Ok(Arc::new(FakeParent {
        _files: files,
        places: Arc::new(AtomicU32::new(places)),
    }))
}

#[derive(Debug)]
struct FakeParent {
    _files: Option<HostFiles>,
    /// How many are free.
    places: Arc<AtomicU32>,
}

impl Parent for FakeParent {
    fn build(
        &self,
        spec: &TypeSpec,
        attributes: &Attributes,
        services: Services,
    ) -> Result<Box<dyn MediatedDevice>, BuildError> {
        let place = Place::take(&self.places)?;
        let device = match drivers::find_type(&spec.name) {
            Some((driver, spec)) => driver.build(&spec, attributes, services)?,
            None => ForbiddenDriver.build(spec, attributes, services)?,
        };
        Ok(Box::new(Seated {
            device,
            _place: place,
        }))
    }
}

/// A part of the device. Dropping it gives it back.
struct Place(Arc<AtomicU32>);

impl Place {
    fn take(free: &Arc<AtomicU32>) -> Result<Self, BuildError> {
        let take = |free: u32| free.checked_sub(1);
        let taken = free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        taken.map_err(|_| BuildError::Os {
            what: "give it a place",
            source: rustix::io::Errno::NOSPC.into(),
        })?;
        Ok(Self(Arc::clone(free)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A device that has a place.
struct Seated {
    device: Box<dyn MediatedDevice>,
    _place: Place,
}

impl MediatedDevice for Seated {
    fn config(&mut self) -> &mut ConfigSpace {
        self.device.config()
    }

    fn read_config(&mut self, offset: u64, data: &mut [u8]) {
        self.device.read_config(offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) -> ConfigEvents {
        self.device.write_config(offset, data)
    }

    fn regions(&self) -> &Regions {
        self.device.regions()
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Result<(), Fault> {
        self.device.read(region, offset, data)
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Result<(), Fault> {
        self.device.write(region, offset, data)
    }

    fn reset(&mut self, cause: Reset) {
        self.device.reset(cause);
    }

    fn dma_unmap(&mut self, range: IovaRange) {
        self.device.dma_unmap(range);
    }

    fn migration(&mut self) -> Option<&mut dyn Migration> {
        self.device.migration()
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        self.device.attributes()
    }

    fn set_attribute(&mut self, name: &str, value: &str) -> Result<(), AttributeError> {
        self.device.set_attribute(name, value)
    }

    fn resize(&mut self, head: u32, width: u32, height: u32) -> Result<(), ResizeError> {
        self.device.resize(head, width, height)
    }
}
