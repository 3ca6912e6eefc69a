//! The vGPUs that a domain names in its `<metadata>`, as XML and as values; no I/O.
//!
//! The XML is libvirt's own rendering of what an administrator wrote, so nothing in it is taken for
//! granted: no entities, a bound on everything, and what is not understood is refused.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use roxmltree::{Document, Node, ParsingOptions};
use uuid::Uuid;
use vgpud::api::{Attribute, CreateRequest, SocketAccess};

use super::escape;
use crate::target::whole_uuid;

/// The name of what a domain says of vGPUs. It is a name alone: nothing can be fetched there.
pub(crate) const NAMESPACE: &str = "urn:vgpud:domain:1";

/// Longest XML that is read: libvirt itself carries no longer text.
pub(crate) const MAX_XML: usize = 4 << 20;

/// Most elements, attributes and texts in it.
const MAX_NODES: u32 = 200_000;

/// Most vGPUs of a domain: a bus has room for no more.
const MAX_VGPUS: usize = 31;

/// The vGPUs of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// Where their daemon listens, if it is not where the hook looks.
    pub(crate) api: Option<PathBuf>,
    /// Themselves, in the order in which they are started.
    pub(crate) vgpus: Vec<Vgpu>,
}

/// A vGPU of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vgpu {
    /// Its name.
    pub(crate) uuid: Uuid,
    /// What is to be created. None: it is defined, or is there already.
    pub(crate) created: Option<CreateRequest>,
}

impl Metadata {
    /// Reads a domain. It has none if it speaks of none.
    pub(crate) fn of_domain(xml: &[u8]) -> Result<Option<Self>, String> {
        // The hook is run for every domain of the host, and most are none of its business.
        let name = NAMESPACE.as_bytes();
        if !xml.windows(name.len()).any(|window| window == name) {
            return Ok(None);
        }
        if xml.len() > MAX_XML {
            return Err(format!("it is longer than {MAX_XML} bytes"));
        }
        let text = std::str::from_utf8(xml).map_err(|error| error.to_string())?;
        let options = ParsingOptions {
            allow_dtd: false,
            nodes_limit: MAX_NODES,
            ..ParsingOptions::default()
        };
        let document =
            Document::parse_with_options(text, options).map_err(|error| error.to_string())?;
        let mut found = document
            .root_element()
            .children()
            .filter(|node| node.has_tag_name("metadata"))
            .flat_map(|node| node.children())
            .filter(|node| node.has_tag_name((NAMESPACE, "vgpus")));
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some(vgpus), None) => Self::parse(vgpus).map(Some),
            _ => Err("<vgpus> is there twice".to_owned()),
        }
    }

    fn parse(node: Node<'_, '_>) -> Result<Self, String> {
        let api = match known(node, ["api"])? {
            [Some(path)] if Path::new(path).is_absolute() => Some(PathBuf::from(path)),
            [Some(path)] => return Err(format!("api='{path}' is no path from the root")),
            [None] => None,
        };
        let children = elements(node)?;
        if children.len() > MAX_VGPUS {
            return Err(format!("a domain has at most {MAX_VGPUS} vGPUs"));
        }
        let vgpus: Vec<_> = children
            .into_iter()
            .map(parse_vgpu)
            .collect::<Result<_, _>>()?;
        let mut seen = BTreeSet::new();
        match vgpus.iter().find(|vgpu| !seen.insert(vgpu.uuid)) {
            Some(twice) => Err(format!("{} is there twice", twice.uuid)),
            None => Ok(Self { api, vgpus }),
        }
    }

    /// Writes it as a child of `<metadata>`, each line after `indent`.
    pub(crate) fn write(&self, text: &mut String, indent: &str) {
        let api = self.api.as_deref().map(Path::to_string_lossy);
        let api = attribute("api", api.as_deref());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{indent}<vgpu:vgpus xmlns:vgpu='{NAMESPACE}'{api}>");
        for vgpu in &self.vgpus {
            let inner = format!("{indent}  ");
            vgpu.write(text, &inner);
        }
        let _ = writeln!(text, "{indent}</vgpu:vgpus>");
    }
}

impl Vgpu {
    fn write(&self, text: &mut String, indent: &str) {
        let uuid = self.uuid;
        // Writing to a String cannot fail.
        let Some(request) = &self.created else {
            let _ = writeln!(text, "{indent}<vgpu:vgpu uuid='{uuid}'/>");
            return;
        };
        let parent = attribute("parent", Some(&request.parent));
        let type_name = attribute("type", Some(&request.type_name));
        let _ = writeln!(text, "{indent}<vgpu:vgpu uuid='{uuid}'{parent}{type_name}>");
        for Attribute { name, value } in &request.attributes {
            let name = attribute("name", Some(name));
            let value = attribute("value", Some(value));
            let _ = writeln!(text, "{indent}  <vgpu:attribute{name}{value}/>");
        }
        let socket = &request.socket;
        if *socket != SocketAccess::default() {
            let owner = attribute("owner", socket.owner.as_deref());
            let group = attribute("group", socket.group.as_deref());
            let mode = attribute("mode", socket.mode.as_deref());
            let _ = writeln!(text, "{indent}  <vgpu:socket{owner}{group}{mode}/>");
        }
        let _ = writeln!(text, "{indent}</vgpu:vgpu>");
    }
}

/// An attribute of XML with its blank, or nothing.
fn attribute(name: &str, value: Option<&str>) -> String {
    value.map_or_else(String::new, |value| format!(" {name}='{}'", escape(value)))
}

fn parse_vgpu(node: Node<'_, '_>) -> Result<Vgpu, String> {
    named(node, "vgpu")?;
    let [uuid, parent, type_name] = known(node, ["uuid", "parent", "type"])?;
    let uuid = uuid.ok_or("a <vgpu> has no uuid")?;
    let uuid = whole_uuid(uuid).map_err(|error| format!("uuid='{uuid}': {error}"))?;
    let children = elements(node)?;
    let (parent, type_name) = match (parent, type_name) {
        (Some(parent), Some(type_name)) => (parent, type_name),
        (None, None) if children.is_empty() => {
            return Ok(Vgpu {
                uuid,
                created: None,
            });
        }
        _ => {
            return Err(format!(
                "{uuid} has parent and type, or is defined and has a uuid alone"
            ));
        }
    };
    let mut request = CreateRequest {
        parent: parent.to_owned(),
        type_name: type_name.to_owned(),
        attributes: Vec::new(),
        socket: SocketAccess::default(),
        start: true,
    };
    for child in children {
        add_to(&mut request, child)?;
    }
    Ok(Vgpu {
        uuid,
        created: Some(request),
    })
}

/// What stands inside of a vGPU.
fn add_to(request: &mut CreateRequest, node: Node<'_, '_>) -> Result<(), String> {
    if !elements(node)?.is_empty() {
        return Err(format!("<{}> has nothing inside", node.tag_name().name()));
    }
    if node.has_tag_name((NAMESPACE, "attribute")) {
        let [Some(name), Some(value)] = known(node, ["name", "value"])? else {
            return Err("an <attribute> has a name and a value".to_owned());
        };
        request.attributes.push(Attribute {
            name: name.to_owned(),
            value: value.to_owned(),
        });
        return Ok(());
    }
    named(node, "socket")?;
    let [owner, group, mode] = known(node, ["owner", "group", "mode"])?;
    if request.socket != SocketAccess::default() {
        return Err("<socket> is there twice".to_owned());
    }
    request.socket = SocketAccess {
        owner: owner.map(str::to_owned),
        group: group.map(str::to_owned),
        mode: mode.map(str::to_owned),
    };
    Ok(())
}

fn named(node: Node<'_, '_>, name: &str) -> Result<(), String> {
    match node.has_tag_name((NAMESPACE, name)) {
        true => Ok(()),
        false => Err(format!(
            "<{}> is not understood there",
            node.tag_name().name()
        )),
    }
}

/// The elements inside of one, among which there is no text.
fn elements<'a, 'input>(node: Node<'a, 'input>) -> Result<Vec<Node<'a, 'input>>, String> {
    let is_blank = |node: Node<'_, '_>| node.text().is_none_or(|text| text.trim().is_empty());
    if node
        .children()
        .any(|child| child.is_text() && !is_blank(child))
    {
        let name = node.tag_name().name();
        return Err(format!("text inside of <{name}> is not understood"));
    }
    Ok(node.children().filter(|child| child.is_element()).collect())
}

/// The values of these attributes; there is no other.
fn known<'a, const N: usize>(
    node: Node<'a, '_>,
    names: [&str; N],
) -> Result<[Option<&'a str>; N], String> {
    let unknown = node
        .attributes()
        .find(|attribute| attribute.namespace().is_some() || !names.contains(&attribute.name()));
    if let Some(unknown) = unknown {
        let (element, name) = (node.tag_name().name(), unknown.name());
        return Err(format!("<{element} {name}=…> is not understood"));
    }
    Ok(names.map(|name| node.attribute(name)))
}

#[cfg(test)]
mod tests;
