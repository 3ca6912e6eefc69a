//! A vGPU that shares a physical device takes a seat in the device's worker.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;
use worker::control::{Control, ControlError};
use worker::parking::Parking;
use worker::protocol::{self, SeatRequest};
use worker::resume::Handing;
use worker::seat::SeatFiles;

use crate::api::Attribute;
use crate::error::Error;
use crate::held::process::DeviceProcess;
use crate::held::{DevicePlan, HeldDevice};

use super::keeping::Keeping;
use super::launch::{Launcher, Plan};
use super::life::{DYING, Life, Seat};
use super::socket::SocketFile;
use super::successor::{Process, Successor};
use super::{Worker, socket};

/// How a seat is taken.
#[derive(Clone, Debug)]
pub(crate) struct SeatPlan {
    pub(crate) held: Arc<HeldDevice>,
    pub(crate) device: DevicePlan,
    /// Whether it waits for the engine that it shares.
    pub(crate) leased: bool,
}

/// A seat that is to be taken.
#[derive(Debug)]
pub(super) struct Vacant {
    uuid: Uuid,
    how: SeatPlan,
    process: Arc<DeviceProcess>,
    request: SeatRequest,
    files: SeatFiles,
    parking: Parking,
}

impl Launcher {
    /// Has a vGPU served by the worker of its device, which is started if need be. On error nothing of
    /// it is left.
    pub(super) fn take_seat(&self, plan: &Plan, how: &SeatPlan) -> Result<Worker, Error> {
        let (listener, socket_file) = socket::bind(&self.paths, plan.name, plan.access)?;
        let (vacant, control_file) = self.find_seat(plan, how, listener, None)?;
        let log = vacant.log().to_owned();
        let Process {
            life,
            identity,
            parking,
        } = vacant.fill(|| Ok(()))?;
        socket_file.keep();
        control_file.keep();
        let (control, keeping) = (self.paths.control(plan.name), Keeping::new(parking));
        Ok(Worker::new(life, identity, control, log, keeping))
    }

    /// One that is to go on from another, with the socket where clients connect.
    pub(super) fn start_seat_successor(
        &self,
        plan: &Plan,
        how: &SeatPlan,
        listener: OwnedFd,
    ) -> Result<Successor, Error> {
        let (handing, resume) = Handing::new().map_err(Error::os("make a socket pair"))?;
        let (vacant, control_file) = self.find_seat(plan, how, listener, Some(resume))?;
        control_file.keep();
        let control = self.paths.control(plan.name);
        Ok(Successor::seated(plan, vacant, handing, control))
    }

    fn find_seat(
        &self,
        plan: &Plan,
        how: &SeatPlan,
        listener: OwnedFd,
        resume: Option<OwnedFd>,
    ) -> Result<(Vacant, SocketFile), Error> {
        let process = how.held.worker(self, &how.device)?;
        let (control, control_file) = socket::bind_control(&self.paths, plan.name)?;
        let (parking, keeper) = Parking::new().map_err(Error::os("make a socket pair"))?;
        let vacant = Vacant {
            uuid: plan.name.uuid,
            how: how.clone(),
            process,
            request: request(plan, how),
            files: SeatFiles {
                listener,
                control,
                keeper: Some(keeper),
                resume,
            },
            parking,
        };
        Ok((vacant, control_file))
    }
}

impl Vacant {
    /// What whoever takes it says.
    pub(super) fn log(&self) -> &Path {
        &self.process.log
    }

    /// Takes it; see [`Control::serve`].
    pub(super) fn fill(self, meanwhile: impl FnOnce() -> io::Result<()>) -> Result<Process, Error> {
        let asked = Control::connect(&self.process.control)
            .and_then(|control| control.serve(&self.request, &self.files, meanwhile));
        let line = match asked {
            Ok(line) => line,
            Err(error) => return Err(self.why_not(error)),
        };
        let life = Life::Seat(Seat {
            line,
            process: Arc::clone(&self.process),
            device: self.how.held,
        });
        Ok(Process {
            life,
            identity: self.process.identity.clone(),
            parking: self.parking,
        })
    }

    fn why_not(&self, error: ControlError) -> Error {
        match error {
            // What a process of its own would end with.
            ControlError::Refused { errno, message } if errno == "EINVAL" => {
                Error::Invalid(message)
            }
            ControlError::Refused { errno, message } if errno == "ENOMEM" => Error::Locked {
                parent: self.how.device.host.address.to_string(),
                message,
            },
            ControlError::Refused { errno, message } => Error::Refused { errno, message },
            mute if self.process.is_dying(DYING) => {
                let exit = self.how.held.reap(&self.process);
                let words = exit.last_words.unwrap_or_else(|| mute.to_string());
                Error::Stillborn(self.uuid, format!("{} ({words})", exit.reason))
            }
            mute => Error::Mute(self.uuid, mute.to_string()),
        }
    }
}

/// What the device's worker is asked for.
fn request(plan: &Plan, how: &SeatPlan) -> SeatRequest {
    let attributes = plan.attributes.iter();
    let attributes = attributes.map(|Attribute { name, value }| protocol::Attribute {
        name: name.clone(),
        value: value.clone(),
    });
    SeatRequest {
        type_name: plan.base.clone(),
        attributes: attributes.collect(),
        name: Some(plan.name.to_string()),
        leased: how.leased,
        ..SeatRequest::default()
    }
}

/// Takes in a seat that an earlier daemon took: what it parks, and a line to it. Blocks.
pub(crate) fn adopt(
    control: &Path,
    held: &Arc<HeldDevice>,
    process: &Arc<DeviceProcess>,
) -> Result<(Life, Keeping), ControlError> {
    let asking = Control::connect(control)?;
    // Another vGPU's, or that of a process which has its number.
    if asking.status()?.pid != process.identity.pid {
        let words = "another process answers".to_owned();
        return Err(ControlError::Garbled(words));
    }
    let (parking, theirs) = Parking::new()?;
    asking.adopt(theirs.as_fd())?;
    let life = Life::Seat(Seat {
        // Its worker closes it when the seat ends.
        line: asking.into_socket(),
        process: Arc::clone(process),
        device: Arc::clone(held),
    });
    Ok((life, Keeping::new(parking)))
}
