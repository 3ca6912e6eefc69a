//! The vGPUs that are attached to: what is there, and what is defined.

use std::path::Path;

use uuid::Uuid;
use vgpud::api::{Attribute, CreateRequest, Instance, InstanceState};
use vgpud::client::{Client, ClientError};
use vgpud::functions::{self, Function, Name};

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
    /// Where its VMM connects, once it runs: to itself, and to its functions.
    pub(crate) sockets: Vec<String>,
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
    pub(super) fn defined(uuid: Uuid, sockets: Vec<String>) -> Self {
        Self {
            uuid,
            sockets,
            is_running: false,
            created: None,
        }
    }

    fn there(instance: Instance, sockets: Vec<String>) -> Self {
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
            sockets,
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
        Ok(instance) => {
            let (parent, type_name) = (&instance.parent, &instance.type_name);
            let functions = functions(&client, parent, type_name, &instance.attributes)?;
            let sockets = sockets(&folder, uuid, &functions);
            Ok(Found::there(instance, sockets))
        }
        Err(error) => {
            // What is not there may be defined, and is started under the same name.
            let definitions = client.definitions()?;
            match definitions.iter().find(|kept| kept.uuid == uuid) {
                Some(kept) => {
                    let (parent, type_name) = (&kept.parent, &kept.type_name);
                    let functions = functions(&client, parent, type_name, &kept.attributes)?;
                    Ok(Found::defined(uuid, sockets(&folder, uuid, &functions)))
                }
                None => Err(error.into()),
            }
        }
    });
    found.collect()
}

/// The functions of one of a type, with these attributes, whether it runs or not.
fn functions(
    client: &Client,
    parent: &str,
    type_name: &str,
    attributes: &[Attribute],
) -> Result<Vec<Function>, ClientError> {
    let parents = client.parents()?.into_iter();
    let mut types = parents
        .filter(|known| known.name == parent)
        .flat_map(|known| known.types);
    let Some(offered) = types.find(|offered| offered.name == type_name) else {
        // It cannot be started any more: that is told when it is.
        return Ok(Vec::new());
    };
    let attributes = [&offered.attributes[..], attributes].concat();
    Ok(functions::of(&offered.base, &attributes).unwrap_or_default())
}

/// Where a VMM connects: to the vGPU first.
fn sockets(folder: &Path, uuid: Uuid, functions: &[Function]) -> Vec<String> {
    let names = functions.iter().map(|function| Name {
        uuid,
        function: Some(*function),
    });
    let names = std::iter::once(Name::from(uuid)).chain(names);
    names
        .map(|name| folder.join(format!("{name}.sock")).display().to_string())
        .collect()
}
