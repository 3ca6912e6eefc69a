//! `vgpu modify`: a definition, a vGPU that runs, or both.

use std::path::PathBuf;

use anyhow::anyhow;
use uuid::Uuid;
use vgpud::api::{Attribute, Definition, DefinitionRequest};
use vgpud::client::Client;

use crate::define::{Mode, defined, read_file};
use crate::failure::Usage;
use crate::output::print_json;
use crate::target::{Api, Named};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// Only the definition on this parent
    #[arg(short, long, value_name = "PARENT")]
    parent: Option<String>,
    /// Its new type
    #[arg(
        short = 't',
        long = "type",
        value_name = "TYPE",
        conflicts_with = "live"
    )]
    type_name: Option<String>,
    #[command(flatten)]
    mode: Mode,
    /// Add an attribute; with --live, set it
    #[arg(
        long,
        value_name = "NAME",
        requires = "value",
        conflicts_with = "delattr"
    )]
    addattr: Option<String>,
    /// The value of the attribute that is added
    #[arg(long, value_name = "VALUE", requires = "addattr")]
    value: Option<String>,
    /// Remove an attribute: the last one, or the one at --index
    #[arg(long, conflicts_with = "live")]
    delattr: bool,
    /// Where among the attributes, from 0
    #[arg(short, long, value_name = "INDEX", conflicts_with = "jsonfile")]
    index: Option<usize>,
    /// Take all from a file of mdevctl's form; '-' for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["type_name", "addattr", "delattr", "auto", "manual"])]
    jsonfile: Option<PathBuf>,
    /// Change what runs
    #[arg(long)]
    live: bool,
    /// Change the definition
    #[arg(short, long)]
    defined: bool,
    /// Print what came of it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: Api,
}

impl Arguments {
    fn added(&self) -> Option<Attribute> {
        Some(Attribute {
            name: self.addattr.clone()?,
            value: self.value.clone()?,
        })
    }

    fn check(&self) -> Result<(), Usage> {
        let mode = self.mode.wanted();
        let changes_definition = !self.live || self.defined;
        let words = if self.index.is_some() && self.addattr.is_none() && !self.delattr {
            "--index goes with --addattr or --delattr"
        } else if mode.is_some() && !changes_definition {
            "--auto and --manual are of the definition: add --defined"
        } else if self.live && self.addattr.is_none() && self.jsonfile.is_none() {
            "--live changes attributes: --addattr NAME --value VALUE, or --jsonfile"
        } else if self.live && self.index.is_some() && !changes_definition {
            "a vGPU that runs has each attribute once: --index goes with the definition"
        } else if self.addattr.is_none()
            && self.jsonfile.is_none()
            && self.type_name.is_none()
            && !self.delattr
            && mode.is_none()
        {
            "nothing is to be changed"
        } else {
            return Ok(());
        };
        Err(Usage(words.to_owned()))
    }
}

pub(crate) fn modify(arguments: &Arguments) -> anyhow::Result<()> {
    arguments.check()?;
    let file = arguments.jsonfile.as_deref().map(read_file).transpose()?;
    let client = arguments.api.client()?;
    let uuid = arguments.named.uuid()?;
    // All that can be refused without a change is looked at first.
    let kept = match arguments.live && !arguments.defined {
        true => None,
        false => Some(one_definition(arguments, &client, uuid)?),
    };
    let changed = kept
        .map(|kept| Ok::<_, anyhow::Error>((kept.parent.clone(), change(arguments, kept, &file)?)))
        .transpose()?;
    if arguments.live {
        let attributes = match file {
            Some(file) => file.attributes,
            None => arguments.added().into_iter().collect(),
        };
        // A file may hold none: mdevctl hands over what it keeps.
        let instance = match attributes.is_empty() {
            true => client.instance(uuid)?,
            false => client.set_attributes(uuid, attributes)?,
        };
        if arguments.json && changed.is_none() {
            print_json(&instance)?;
        }
    }
    if let Some((parent, request)) = changed {
        let definition = client.define(&parent, uuid, &request)?;
        if arguments.json {
            print_json(&definition)?;
        }
    }
    Ok(())
}

fn one_definition(
    arguments: &Arguments,
    client: &Client,
    uuid: Uuid,
) -> anyhow::Result<Definition> {
    let mut all = defined(client, uuid, arguments.parent.as_deref())?;
    match (all.pop(), all.is_empty()) {
        (Some(kept), true) => Ok(kept),
        _ => {
            let words = format!("{uuid} is defined on several parents: say which, with --parent");
            Err(Usage(words).into())
        }
    }
}

/// The definition as it is to be.
fn change(
    arguments: &Arguments,
    kept: Definition,
    file: &Option<DefinitionRequest>,
) -> anyhow::Result<DefinitionRequest> {
    if let Some(file) = file {
        return Ok(file.clone());
    }
    let mut attributes = kept.attributes;
    let count = attributes.len();
    let outside = |index| anyhow!("there is no attribute {index}: it has {count}");
    match (arguments.added(), arguments.delattr, arguments.index) {
        (Some(added), _, None) => attributes.push(added),
        (Some(added), _, Some(index)) if index <= count => attributes.insert(index, added),
        (None, true, None) => {
            let last = count.checked_sub(1).ok_or_else(|| outside(0))?;
            attributes.remove(last);
        }
        (None, true, Some(index)) if index < count => {
            attributes.remove(index);
        }
        (None, false, _) => {}
        (_, _, Some(index)) => return Err(outside(index)),
    }
    Ok(DefinitionRequest {
        type_name: arguments.type_name.clone().unwrap_or(kept.type_name),
        start: arguments.mode.wanted().unwrap_or(kept.start),
        attributes,
    })
}
