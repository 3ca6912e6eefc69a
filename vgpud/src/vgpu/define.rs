//! `vgpu define`, `vgpu undefine`: what is kept of a vGPU that need not be there.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use uuid::Uuid;
use vgpud::api::{Attribute, Definition, DefinitionRequest, StartMode};
use vgpud::client::Client;
use vgpud::mdevctl_file;

use crate::failure::Usage;
use crate::output::{print, print_json};
use crate::target::{Api, Named, attribute, whole_uuid};

/// Longest file that is read. It becomes a definition, which is smaller.
const MAX_FILE: u64 = 64 << 10;

#[derive(clap::Args)]
pub(crate) struct DefineArguments {
    /// Its UUID
    #[arg(short, long, value_name = "UUID", value_parser = whole_uuid, required_unless_present = "parent")]
    uuid: Option<Uuid>,
    /// The parent that it takes its share of
    #[arg(short, long, value_name = "PARENT")]
    parent: Option<String>,
    /// Its type
    #[arg(short = 't', long = "type", value_name = "TYPE", requires = "parent")]
    type_name: Option<String>,
    #[command(flatten)]
    mode: Mode,
    /// An attribute; may be given several times
    #[arg(long = "attr", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<Attribute>,
    /// Take type, start mode and attributes from a file of mdevctl's form; '-' for standard input
    #[arg(long, value_name = "FILE", requires = "parent", conflicts_with_all = ["type_name", "attributes", "auto", "manual"])]
    jsonfile: Option<PathBuf>,
    /// Print the definition as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: Api,
}

/// When it is started.
#[derive(clap::Args)]
pub(crate) struct Mode {
    /// Start it with the daemon
    #[arg(short, long, conflicts_with = "manual")]
    auto: bool,
    /// Start it when that is asked for
    #[arg(short, long)]
    manual: bool,
}

impl Mode {
    pub(crate) fn wanted(&self) -> Option<StartMode> {
        match (self.auto, self.manual) {
            (true, _) => Some(StartMode::Auto),
            (_, true) => Some(StartMode::Manual),
            _ => None,
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct UndefineArguments {
    #[command(flatten)]
    named: Named,
    /// Only the definition on this parent
    #[arg(short, long, value_name = "PARENT")]
    parent: Option<String>,
    #[command(flatten)]
    api: Api,
}

pub(crate) fn define(arguments: &DefineArguments) -> anyhow::Result<()> {
    let client = arguments.api.client()?;
    let (parent, request) = wanted(arguments, &client)?;
    let uuid = arguments.uuid.unwrap_or_else(Uuid::new_v4);
    let kept = client.definitions()?;
    if kept
        .iter()
        .any(|kept| kept.uuid == uuid && kept.parent == parent)
    {
        // As mdevctl has it: what is there is changed by `modify`.
        anyhow::bail!(
            "{uuid} is defined on {parent} already\n\
             remedy: vgpu modify {uuid}, or vgpu undefine {uuid}"
        );
    }
    let definition = client.define(&parent, uuid, &request)?;
    if arguments.json {
        return print_json(&definition);
    }
    if arguments.uuid.is_none() {
        print(&format!("{uuid}\n"))?;
    }
    Ok(())
}

/// What is to be defined, and on which parent.
fn wanted(
    arguments: &DefineArguments,
    client: &Client,
) -> anyhow::Result<(String, DefinitionRequest)> {
    let start = arguments.mode.wanted().unwrap_or_default();
    if let (Some(file), Some(parent)) = (&arguments.jsonfile, &arguments.parent) {
        return Ok((parent.clone(), read_file(file)?));
    }
    if let (Some(type_name), Some(parent)) = (&arguments.type_name, &arguments.parent) {
        let request = DefinitionRequest {
            type_name: type_name.clone(),
            start,
            attributes: arguments.attributes.clone(),
        };
        return Ok((parent.clone(), request));
    }
    let (Some(uuid), None) = (arguments.uuid, &arguments.parent) else {
        let words = "a parent wants --type or --jsonfile beside it";
        return Err(Usage(words.to_owned()).into());
    };
    let instance = client.instance(uuid)?;
    let mut attributes = instance.attributes;
    attributes.extend(arguments.attributes.iter().cloned());
    let request = DefinitionRequest {
        type_name: instance.type_name,
        start,
        attributes,
    };
    Ok((instance.parent, request))
}

pub(crate) fn undefine(arguments: &UndefineArguments) -> anyhow::Result<()> {
    let client = arguments.api.client()?;
    let uuid = arguments.named.uuid()?;
    if let Some(parent) = &arguments.parent {
        return Ok(client.undefine(parent, uuid)?);
    }
    for kept in defined(&client, uuid, None)? {
        client.undefine(&kept.parent, uuid)?;
    }
    Ok(())
}

/// The definitions of a UUID, one at least.
pub(crate) fn defined(
    client: &Client,
    uuid: Uuid,
    parent: Option<&str>,
) -> anyhow::Result<Vec<Definition>> {
    let mut all = client.definitions()?;
    all.retain(|kept| kept.uuid == uuid && parent.is_none_or(|only| only == kept.parent));
    if all.is_empty() {
        anyhow::bail!("{uuid} is not defined\nremedy: list what is defined: vgpu list --defined");
    }
    Ok(all)
}

/// The definition in a file of mdevctl's form.
pub(crate) fn read_file(path: &Path) -> anyhow::Result<DefinitionRequest> {
    let mut content = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin()
            .lock()
            .take(MAX_FILE + 1)
            .read_to_end(&mut content)
    } else {
        File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut content))
    };
    let length = read.with_context(|| format!("cannot read {}", path.display()))?;
    if length as u64 > MAX_FILE {
        anyhow::bail!("{} is too long for a definition", path.display());
    }
    mdevctl_file::parse(&content)
        .map_err(|error| anyhow::anyhow!("{} is no definition: {error}", path.display()))
}
