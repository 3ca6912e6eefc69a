//! The one table of the tree: what a path is, by its form. Whether it is there, `find` asks.

use uuid::Uuid;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node<'a> {
    Folder(Folder<'a>),
    Link(Link<'a>),
    File(File<'a>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Folder<'a> {
    /// One that is always there, and what is in it.
    Fixed(&'static [&'static str]),
    /// `class/mdev_bus`: a link for each parent.
    ParentLinks,
    /// `bus/mdev/devices`: a link for each device.
    DeviceLinks,
    /// A folder for each parent.
    Parents,
    Parent(&'a str),
    Types(&'a str),
    Type(Type<'a>),
    /// A link for each device of a type.
    TypeDevices(Type<'a>),
    Device(Device<'a>),
    Statistics(Device<'a>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link<'a> {
    /// Out of the tree, to where mdevctl keeps definitions.
    Definitions,
    /// Out of the tree, to where scripts of mdevctl's lie.
    Scripts,
    /// In `class/mdev_bus`.
    Parent(&'a str),
    /// In `bus/mdev/devices`.
    Device(Uuid),
    /// In a type's `devices`.
    TypeDevice(Type<'a>, Uuid),
    /// A device's `mdev_type`.
    MdevType(Device<'a>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum File<'a> {
    /// How the engine of a parent is shared.
    Policy(&'a str),
    Create(Type<'a>),
    OfType(Type<'a>, TypeText),
    Remove(Device<'a>),
    OfDevice(Device<'a>, DeviceText),
    Statistic(Device<'a>, &'a str),
    Attribute(Device<'a>, &'a str),
}

/// A type of a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Type<'a> {
    pub(super) parent: &'a str,
    pub(super) name: &'a str,
}

/// A vGPU of a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device<'a> {
    pub(super) parent: &'a str,
    pub(super) uuid: Uuid,
}

/// What a type tells of itself: the kernel's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TypeText {
    AvailableInstances,
    DeviceApi,
    Name,
    Description,
}

/// What a device tells of itself: our own files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceText {
    Socket,
    State,
    Control,
}

/// What is in the folder of each type.
pub(super) const IN_TYPE: &[&str] = &[
    "available_instances",
    "create",
    "description",
    "device_api",
    "devices",
    "name",
];

/// What is in the folder of each device, beside its attributes. An attribute of such a name cannot
/// be reached here.
pub(super) const IN_DEVICE: &[&str] = &[
    "control",
    "mdev_type",
    "remove",
    "socket",
    "state",
    "statistics",
];

impl File<'_> {
    /// Its permissions, which are the kernel's where the file is.
    pub(super) fn mode(&self) -> u16 {
        match self {
            File::Create(_) | File::Remove(_) => 0o200,
            File::Attribute(..) | File::Policy(_) => 0o644,
            File::OfType(..) | File::OfDevice(..) | File::Statistic(..) => 0o444,
        }
    }
}

/// What a path is.
pub(super) fn find(path: &[String]) -> Option<Node<'_>> {
    // Deep enough for all; what is deeper is nothing.
    let mut names = [""; 9];
    let names = names.get_mut(..path.len())?;
    for (name, part) in names.iter_mut().zip(path) {
        *name = part;
    }
    let fixed = |names| Some(Node::Folder(Folder::Fixed(names)));
    match *names {
        [] => fixed(&["etc", "sys", "usr"]),
        ["etc"] => fixed(&["mdevctl.d"]),
        ["etc", "mdevctl.d"] => Some(Node::Link(Link::Definitions)),
        ["usr"] => fixed(&["lib"]),
        ["usr", "lib"] => fixed(&["mdevctl"]),
        ["usr", "lib", "mdevctl"] => Some(Node::Link(Link::Scripts)),
        ["sys"] => fixed(&["bus", "class", "devices"]),
        ["sys", "class"] => fixed(&["mdev_bus"]),
        ["sys", "class", "mdev_bus"] => Some(Node::Folder(Folder::ParentLinks)),
        ["sys", "class", "mdev_bus", parent] => Some(Node::Link(Link::Parent(parent))),
        ["sys", "bus"] => fixed(&["mdev"]),
        ["sys", "bus", "mdev"] => fixed(&["devices"]),
        ["sys", "bus", "mdev", "devices"] => Some(Node::Folder(Folder::DeviceLinks)),
        ["sys", "bus", "mdev", "devices", name] => {
            Some(Node::Link(Link::Device(uuid_of_name(name)?)))
        }
        ["sys", "devices"] => fixed(&["virtual"]),
        ["sys", "devices", "virtual"] => fixed(&["vgpud"]),
        ["sys", "devices", "virtual", "vgpud"] => Some(Node::Folder(Folder::Parents)),
        ["sys", "devices", "virtual", "vgpud", parent, ref rest @ ..] => of_parent(parent, rest),
        _ => None,
    }
}

fn of_parent<'a>(parent: &'a str, rest: &[&'a str]) -> Option<Node<'a>> {
    Some(match *rest {
        [] => Node::Folder(Folder::Parent(parent)),
        ["policy"] => Node::File(File::Policy(parent)),
        ["mdev_supported_types"] => Node::Folder(Folder::Types(parent)),
        ["mdev_supported_types", name, ref rest @ ..] => of_type(Type { parent, name }, rest)?,
        [name, ref rest @ ..] => {
            let uuid = uuid_of_name(name)?;
            of_device(Device { parent, uuid }, rest)?
        }
    })
}

pub(super) fn of_type<'a>(of: Type<'a>, rest: &[&'a str]) -> Option<Node<'a>> {
    Some(match *rest {
        [] => Node::Folder(Folder::Type(of)),
        ["create"] => Node::File(File::Create(of)),
        ["available_instances"] => Node::File(File::OfType(of, TypeText::AvailableInstances)),
        ["device_api"] => Node::File(File::OfType(of, TypeText::DeviceApi)),
        ["name"] => Node::File(File::OfType(of, TypeText::Name)),
        ["description"] => Node::File(File::OfType(of, TypeText::Description)),
        ["devices"] => Node::Folder(Folder::TypeDevices(of)),
        ["devices", name] => Node::Link(Link::TypeDevice(of, uuid_of_name(name)?)),
        _ => return None,
    })
}

pub(super) fn of_device<'a>(of: Device<'a>, rest: &[&'a str]) -> Option<Node<'a>> {
    Some(match *rest {
        [] => Node::Folder(Folder::Device(of)),
        ["mdev_type"] => Node::Link(Link::MdevType(of)),
        ["remove"] => Node::File(File::Remove(of)),
        ["socket"] => Node::File(File::OfDevice(of, DeviceText::Socket)),
        ["state"] => Node::File(File::OfDevice(of, DeviceText::State)),
        ["control"] => Node::File(File::OfDevice(of, DeviceText::Control)),
        ["statistics"] => Node::Folder(Folder::Statistics(of)),
        ["statistics", name] => Node::File(File::Statistic(of, name)),
        [name] => Node::File(File::Attribute(of, name)),
        _ => return None,
    })
}

/// The UUID that a file is named by: as the kernel prints it (`%pUl`), and in no other way.
fn uuid_of_name(name: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(name).ok()?;
    let mut form = [0; 36];
    (uuid.hyphenated().encode_lower(&mut form) == name).then_some(uuid)
}

#[cfg(test)]
mod tests;
