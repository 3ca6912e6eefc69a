//! A physical device, and the worker that has it: one vGPU that its arguments name, or a seat for each
//! that is asked for.

mod refusal;
mod requests;
mod seats;

use std::os::fd::AsRawFd;
use std::sync::Arc;

use anyhow::Context;
use mdev::device::BuildError;
use mdev::host::{HostDevice, HostFiles, HostIdentity, PciAddress, PciBus};
use mdev::{Attributes, Parent, TypeSpec};
use signal_hook::iterator::Signals;
use worker::arguments::{Arguments, ParentArguments};
use worker::sandbox::filter::{self, DeviceFds};
use worker::sandbox::limits::{self, Bounds};
use worker::sandbox::{self, Confined};
use worker::{inherited, seat};

use crate::attendants::{Attendants, MAX_ASKERS};
use crate::listener;
use crate::serving::Maker;
use requests::ParentResponder;
use seats::{MOST, Seats};

/// A physical device that is open, and that nobody drives yet.
pub(crate) struct Device {
    /// The kind of device: its driver's name.
    kind: &'static str,
    types: Vec<TypeSpec>,
    /// Duplicates of its files, if they were handed over.
    parked: Option<HostFiles>,
    /// What the sandbox has to let through.
    fds: Option<DeviceFds>,
    drive: Box<dyn FnOnce() -> Result<Arc<dyn Parent>, BuildError>>,
}

impl Device {
    /// Opens the device, or takes its files from whoever has them open.
    pub(crate) fn open(address: PciAddress, arguments: &ParentArguments) -> anyhow::Result<Self> {
        let handed = arguments.parent_files.map(|number| {
            let socket = inherited::take("--parent-files", number)?;
            seat::accept_parent(&socket).context("the device's files have not come")
        });
        let handed = handed.transpose()?;
        if let Some(bytes) = arguments.lock_limit {
            limits::lock(bytes)?;
        }
        let parked = handed.as_ref().map(HostFiles::try_clone).transpose();
        let parked = parked.context("cannot duplicate the device's files")?;
        let settings = Attributes(arguments.settings.clone());
        #[cfg(feature = "forbidden")]
        if address.to_string() == worker::fake_parent::ADDRESS {
            return Ok(Self {
                kind: worker::fake_parent::KIND,
                types: worker::fake_parent::types(),
                parked,
                fds: handed.as_ref().map(|files| fds_of(files, &settings)),
                drive: Box::new(move || worker::fake_parent::open(handed, &settings)),
            });
        }
        let bus = PciBus::new("/");
        let identity = HostIdentity::read(&bus, address)?;
        let driver = drivers::parent_driver(&identity).with_context(|| {
            let HostIdentity { vendor, device, .. } = identity;
            format!("no driver here shares devices like {address}, {vendor:04x}:{device:04x}")
        })?;
        let files = match handed {
            Some(files) => files,
            None => HostFiles::open(&bus, address)?,
        };
        let fds = fds_of(&files, &settings);
        let host = HostDevice::from_files(files, address, driver.address_bits(&identity))?;
        Ok(Self {
            kind: driver.name(),
            types: driver.types(&identity),
            parked,
            fds: Some(fds),
            drive: Box::new(move || driver.open(host, &settings)),
        })
    }

    /// The type of that name.
    pub(crate) fn find_type(&self, name: &str) -> anyhow::Result<TypeSpec> {
        find_type(&self.types, name).with_context(|| {
            let names: Vec<_> = self.types.iter().map(|spec| spec.name.as_str()).collect();
            format!(
                "this device has no type '{name}'; it has {}",
                names.join(", ")
            )
        })
    }

    /// What the process is to be let do, of whom it is told by this.
    pub(crate) fn list(&self, confined: &Confined<'_>) -> anyhow::Result<filter::List> {
        let list = confined.list()?;
        match self.fds {
            Some(fds) => filter::with_a_device(list, fds).context(filter::UNSOUND),
            None => Ok(list),
        }
    }

    /// Quiets the device, and drives it from now on.
    pub(crate) fn drive(self) -> anyhow::Result<Arc<dyn Parent>> {
        (self.drive)().context("cannot drive the physical device")
    }
}

/// The setting that lets VMMs have files of the device's.
const DIRECT: (&str, &str) = ("direct", "on");

fn fds_of(files: &HostFiles, settings: &Attributes) -> DeviceFds {
    let mut given = settings.0.iter();
    let is_direct = given.any(|(name, value)| (name.as_str(), value.as_str()) == DIRECT);
    DeviceFds {
        container: files.container.as_raw_fd(),
        device: files.device.as_raw_fd(),
        group: is_direct.then(|| files.group.as_raw_fd()),
    }
}

fn find_type(types: &[TypeSpec], name: &str) -> Result<TypeSpec, BuildError> {
    let found = types.iter().find(|spec| spec.name == name);
    found
        .cloned()
        .ok_or_else(|| BuildError::UnknownType(name.to_owned()))
}

/// Serves the vGPUs that are asked for, until a signal or a request.
pub(crate) fn serve(
    arguments: &Arguments,
    address: PciAddress,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let path = arguments.control.as_deref().context("no control socket")?;
    let (control, control_path) =
        listener::claim_control(path).context("cannot take control requests")?;
    let mut device = Device::open(address, &arguments.parent)?;
    let folders = vec![control_path.folder()];
    let confinement = &arguments.confinement;
    let confined = sandbox::confine_within("vgpu-worker", confinement, folders, &Bounds::MANY)?;
    let list = filter::with_sockets(device.list(&confined)?).context(filter::UNSOUND)?;
    let (kind, types) = (device.kind, device.types.clone());
    let files = device.parked.take();
    let parent = device.drive()?;
    let sandbox = confined.filter_by(list)?;
    let seats = Seats::default();
    let attendants = Attendants::new(MAX_ASKERS + MOST).context("cannot make an eventfd")?;
    let responder = ParentResponder {
        kind,
        files,
        types,
        maker: Maker::Parent(parent),
        seats: seats.clone(),
        sandbox,
        stop: signals.handle(),
    };
    crate::requests::start(control, &attendants, move |asker| responder.serve(asker))?;
    let control = control_path.as_path().display().to_string();
    tracing::info!(control, "serving vGPUs on {address}, {kind}");
    crate::wait_for_signal(signals);
    let stopped = seats.stop();
    attendants.end();
    stopped
}
