//! The vGPUs that are attached to: what is there, and what is defined.

use uuid::Uuid;
use vgpud::api::{CreateRequest, Instance, InstanceState};

use crate::libvirt::metadata::Vgpu;
use crate::target::{Api, whole_uuid};

/// One vGPU or several.
#[derive(clap::Args)]
#[group(id = "several", required = true, multiple = false)]
pub(crate) struct Several {
    /// Its UUID; of several vGPUs, theirs
    #[arg(value_name = "UUID", value_parser = whole_uuid)]
    names: Vec<Uuid>,
    /// Its UUID, as mdevctl takes it
    #[arg(short, long = "uuid", value_name = "UUID", value_parser = whole_uuid)]
    uuids: Vec<Uuid>,
}

/// A vGPU to attach to.
pub(crate) struct Found {
    pub(crate) uuid: Uuid,
    /// Where its VMM connects, once it runs.
    pub(crate) socket: String,
    pub(crate) is_running: bool,
    /// How it came to be, if it is not defined.
    created: Option<CreateRequest>,
}

impl Found {
    /// As a domain's metadata names it.
    pub(crate) fn named(&self) -> Vgpu {
        Vgpu {
            uuid: self.uuid,
            created: self.created.clone(),
        }
    }

    /// One that is not there yet.
    pub(super) fn defined(uuid: Uuid, socket: String) -> Self {
        Self {
            uuid,
            socket,
            is_running: false,
            created: None,
        }
    }

    fn there(instance: Instance) -> Self {
        let is_running = instance.state == InstanceState::Running;
        let created = (!instance.defined).then_some(CreateRequest {
            parent: instance.parent,
            type_name: instance.type_name,
            attributes: instance.attributes,
            socket: instance.access,
            start: true,
        });
        Self {
            uuid: instance.uuid,
            socket: instance.socket,
            is_running,
            created,
        }
    }
}

/// Looks them up.
pub(crate) fn find(several: &Several, api: &Api) -> anyhow::Result<Vec<Found>> {
    let client = api.client()?;
    let folder = api.folder()?;
    let uuids = several.names.iter().chain(&several.uuids);
    let found = uuids.map(|&uuid| match client.instance(uuid) {
        Ok(instance) => Ok(Found::there(instance)),
        Err(error) => {
            // What is not there may be defined, and is started under the same name.
            let is_defined = client.definitions()?.iter().any(|kept| kept.uuid == uuid);
            match is_defined {
                true => {
                    let socket = folder.join(format!("{uuid}.sock"));
                    Ok(Found::defined(uuid, socket.display().to_string()))
                }
                false => Err(error.into()),
            }
        }
    });
    found.collect()
}
