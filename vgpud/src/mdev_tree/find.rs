//! What of the tree is there.

use std::path::PathBuf;

use rustix::io::Errno;
use uuid::Uuid;

use crate::api::{Instance, InstanceState, WorkerStatus};
use crate::client::{Client, ClientError};

use super::Tree;
use super::content::STATISTICS;
use super::nodes::{Device, File, Folder, IN_DEVICE, IN_TYPE, Link, Node};
use super::refusal::errno_of;

/// What kind of thing a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has others in it.
    Folder,
    /// It leads to another.
    Link,
    /// It is read, or written.
    File,
}

/// What `stat` tells of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Its kind.
    pub kind: Kind,
    /// Its permissions.
    pub mode: u16,
}

impl Node<'_> {
    pub(super) fn meta(&self) -> Meta {
        let (kind, mode) = match self {
            Node::Folder(_) => (Kind::Folder, 0o755),
            Node::Link(_) => (Kind::Link, 0o777),
            Node::File(file) => (Kind::File, file.mode()),
        };
        Meta { kind, mode }
    }

    fn kind(&self) -> Kind {
        self.meta().kind
    }
}

impl Tree {
    /// What a node is, if it is there.
    pub(super) fn look_up(&self, client: &Client, node: &Node<'_>) -> Result<Meta, Errno> {
        let is_there = match node {
            Node::Folder(Folder::Fixed(_))
            | Node::Folder(Folder::ParentLinks | Folder::DeviceLinks | Folder::Parents)
            | Node::Link(Link::Definitions | Link::Scripts) => true,
            Node::Folder(Folder::Parent(parent) | Folder::Types(parent))
            | Node::Link(Link::Parent(parent)) => {
                self.snapshots.take(client)?.parent(parent).is_some()
            }
            Node::Folder(Folder::Type(of) | Folder::TypeDevices(of))
            | Node::File(File::Create(of) | File::OfType(of, _)) => {
                let snapshot = self.snapshots.take(client)?;
                snapshot.type_of(of.parent, of.name).is_some()
            }
            Node::Link(Link::TypeDevice(of, uuid)) => {
                let snapshot = self.snapshots.take(client)?;
                let of = snapshot.type_of(of.parent, of.name);
                of.is_some_and(|of| of.children.contains(uuid))
            }
            Node::Link(Link::Device(uuid)) => {
                self.snapshots.take(client)?.parent_of(*uuid).is_some()
            }
            Node::Folder(Folder::Device(of) | Folder::Statistics(of))
            | Node::Link(Link::MdevType(of))
            | Node::File(File::Remove(of) | File::OfDevice(of, _)) => self.has(client, of)?,
            Node::File(File::Policy(parent)) => has_engine(client, parent)?,
            Node::File(File::Statistic(of, name)) => {
                STATISTICS.contains(name) && self.has(client, of)?
            }
            Node::File(File::Attribute(of, name)) => {
                let (names, trouble) = self.attribute_names(client, of)?;
                match (names.iter().any(|known| known == name), trouble) {
                    (false, Some(trouble)) => return Err(trouble),
                    (is_known, _) => is_known,
                }
            }
        };
        if is_there {
            Ok(node.meta())
        } else {
            Err(Errno::NOENT)
        }
    }

    fn has(&self, client: &Client, of: &Device<'_>) -> Result<bool, Errno> {
        let snapshot = self.snapshots.take(client)?;
        let parent = snapshot.parent_of(of.uuid);
        Ok(parent.is_some_and(|parent| parent.name == of.parent))
    }

    /// What is in a folder.
    pub(super) fn entries(
        &self,
        client: &Client,
        folder: &Folder<'_>,
    ) -> Result<Vec<(String, Kind)>, Errno> {
        self.look_up(client, &Node::Folder(folder.clone()))?;
        let snapshot = || self.snapshots.take(client);
        let mut names = match folder {
            Folder::Fixed(names) => owned(names),
            Folder::ParentLinks | Folder::Parents => {
                let snapshot = snapshot()?;
                let parents = snapshot.parents();
                parents.map(|parent| parent.name.clone()).collect()
            }
            Folder::DeviceLinks => {
                let snapshot = snapshot()?;
                let parents = snapshot.parents();
                parents.flat_map(|parent| uuids(&parent.children)).collect()
            }
            Folder::Parent(name) => {
                let snapshot = snapshot()?;
                let children = snapshot.parent(name).map(|parent| &parent.children[..]);
                let policy = has_engine(client, name)?.then_some("policy");
                let own = ["mdev_supported_types"].into_iter().chain(policy);
                own.map(str::to_owned)
                    .chain(uuids(children.unwrap_or_default()))
                    .collect()
            }
            Folder::Types(name) => {
                let snapshot = snapshot()?;
                let parents = snapshot.parent(name).into_iter();
                let types = parents.flat_map(|parent| &parent.types);
                types.map(|offered| offered.name.clone()).collect()
            }
            Folder::Type(_) => owned(IN_TYPE),
            Folder::TypeDevices(of) => {
                let snapshot = snapshot()?;
                let of = snapshot.type_of(of.parent, of.name).into_iter();
                of.flat_map(|of| uuids(&of.children)).collect()
            }
            Folder::Device(of) => {
                let mut names = owned(IN_DEVICE);
                names.extend(self.attribute_names(client, of)?.0);
                names
            }
            Folder::Statistics(_) => owned(STATISTICS),
        };
        names.sort_unstable();
        names.dedup();
        let kind = |name: &str| kind_in(folder, name);
        Ok(names
            .into_iter()
            .map(|name| {
                let kind = kind(&name);
                (name, kind)
            })
            .collect())
    }

    /// Where a link leads: from its own folder, as the kernel's links, or out of the tree.
    pub(super) fn follow(&self, client: &Client, link: &Link<'_>) -> Result<PathBuf, Errno> {
        Ok(match link {
            Link::Definitions => self.definitions.clone(),
            Link::Scripts => self.scripts.clone(),
            Link::Parent(parent) => format!("../../devices/virtual/vgpud/{parent}").into(),
            Link::Device(uuid) => {
                let snapshot = self.snapshots.take(client)?;
                let parent = snapshot.parent_of(*uuid).ok_or(Errno::NOENT)?;
                let name = &parent.name;
                format!("../../../devices/virtual/vgpud/{name}/{uuid}").into()
            }
            Link::TypeDevice(_, uuid) => format!("../../../{uuid}").into(),
            Link::MdevType(of) => {
                let instance = self.instance(client, of)?;
                format!("../mdev_supported_types/{}", instance.type_name).into()
            }
        })
    }

    /// A vGPU as the daemon tells it. ENODEV if it is not there, or on another parent.
    pub(super) fn instance(&self, client: &Client, of: &Device<'_>) -> Result<Instance, Errno> {
        let instance = client.instance(of.uuid);
        let instance = instance.map_err(|error| errno_of(&error))?;
        match instance.parent == of.parent {
            true => Ok(instance),
            false => Err(Errno::NODEV),
        }
    }

    /// What a vGPU's worker says of itself. ENXIO if it has none, ENODEV if it has gone meanwhile.
    pub(super) fn status(&self, client: &Client, of: &Device<'_>) -> Result<WorkerStatus, Errno> {
        let error = match client.status(of.uuid) {
            Ok(status) => return Ok(status),
            Err(error) => errno_of(&error),
        };
        if error != Errno::IO {
            return Err(error);
        }
        // A worker that does not answer may be on its way out, and another in its place.
        match self.instance(client, of)?.state {
            InstanceState::Running => client.status(of.uuid).map_err(|error| errno_of(&error)),
            _ => Err(Errno::NXIO),
        }
    }

    /// The attributes of a device: of one that runs all, of another those that it was given. And
    /// why these may not be all, if its worker does not answer.
    fn attribute_names(
        &self,
        client: &Client,
        of: &Device<'_>,
    ) -> Result<(Vec<String>, Option<Errno>), Errno> {
        let instance = match self.instance(client, of) {
            Err(Errno::NODEV) => return Err(Errno::NOENT),
            instance => instance?,
        };
        let (attributes, trouble) = match self.status(client, of) {
            Ok(status) => (status.attributes, None),
            Err(Errno::NODEV) => return Err(Errno::NOENT),
            Err(Errno::NXIO) => (instance.attributes, None),
            // That is no reason not to show the rest.
            Err(error) => (instance.attributes, Some(error)),
        };
        let names = attributes.into_iter().map(|attribute| attribute.name);
        let names = names.filter(|name| !IN_DEVICE.contains(&name.as_str()));
        Ok((names.collect(), trouble))
    }
}

/// Whether the vGPUs of a parent share an engine.
fn has_engine(client: &Client, parent: &str) -> Result<bool, Errno> {
    match client.engine(parent) {
        Ok(_) => Ok(true),
        Err(ClientError::Refused(problem)) if problem.status == 404 => Ok(false),
        Err(error) => Err(errno_of(&error)),
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn uuids(uuids: &[Uuid]) -> Vec<String> {
    uuids.iter().map(Uuid::to_string).collect()
}

/// What kind of thing an entry of a folder is.
fn kind_in(folder: &Folder<'_>, name: &str) -> Kind {
    match folder {
        Folder::Fixed(_) => match name {
            "mdevctl.d" | "mdevctl" => Kind::Link,
            _ => Kind::Folder,
        },
        Folder::ParentLinks | Folder::DeviceLinks | Folder::TypeDevices(_) => Kind::Link,
        Folder::Parent(_) if name == "policy" => Kind::File,
        Folder::Parents | Folder::Parent(_) | Folder::Types(_) => Kind::Folder,
        Folder::Type(of) => kind_of_row(super::nodes::of_type(*of, &[name])),
        Folder::Device(of) => kind_of_row(super::nodes::of_device(*of, &[name])),
        Folder::Statistics(_) => Kind::File,
    }
}

fn kind_of_row(node: Option<Node<'_>>) -> Kind {
    node.map_or(Kind::File, |node| node.kind())
}
