//! `vgpu list`: the vGPUs that there are, or that are defined.

use std::fmt::Write;

use serde_json::{Value, json};
use uuid::Uuid;
use vgpud::api::{Attribute, Definition, DefinitionRequest, Instance, StartMode};
use vgpud::client::Client;
use vgpud::mdevctl_file;

use crate::output::{list_attributes, print, print_json};
use crate::show::{mode_word, state_word};
use crate::target::{Api, whole_uuid};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What is defined, whether it is there or not
    #[arg(short, long)]
    defined: bool,
    /// Only this one
    #[arg(short, long, value_name = "UUID", value_parser = whole_uuid)]
    uuid: Option<Uuid>,
    /// Only those on this parent
    #[arg(short, long, value_name = "PARENT")]
    parent: Option<String>,
    /// Attributes too, and where a VMM connects
    #[arg(short, long)]
    verbose: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print JSON of mdevctl's form; with --uuid, a file for `define --jsonfile`
    #[arg(long, conflicts_with = "json")]
    dumpjson: bool,
    #[command(flatten)]
    api: Api,
}

impl Arguments {
    fn wants(&self, uuid: Uuid, parent: &str) -> bool {
        self.uuid.is_none_or(|only| only == uuid)
            && self.parent.as_deref().is_none_or(|only| only == parent)
    }
}

pub(crate) fn list(arguments: &Arguments) -> anyhow::Result<()> {
    let client = arguments.api.client()?;
    if arguments.defined {
        let mut all = client.definitions()?;
        all.retain(|definition| arguments.wants(definition.uuid, &definition.parent));
        return print_definitions(arguments, all);
    }
    let mut all = client.instances()?;
    all.retain(|instance| arguments.wants(instance.uuid, &instance.parent));
    print_instances(arguments, &client, &all)
}

fn print_instances(
    arguments: &Arguments,
    client: &Client,
    instances: &[Instance],
) -> anyhow::Result<()> {
    if arguments.json {
        return print_json(&instances);
    }
    if arguments.dumpjson {
        // Whether it starts with the daemon stands in its definition alone.
        let definitions = client.definitions()?;
        let entries = instances.iter().map(|instance| Entry {
            parent: instance.parent.clone(),
            uuid: instance.uuid,
            file: as_file(instance, &definitions),
        });
        return print_mdevctl_json(arguments, &entries.collect::<Vec<_>>());
    }
    let mut text = String::new();
    for instance in instances {
        let Instance { uuid, parent, .. } = instance;
        let state = state_word(instance.state);
        let defined = if instance.defined { " (defined)" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{uuid} {parent} {} {state}{defined}",
            instance.type_name
        );
        if arguments.verbose {
            let _ = writeln!(text, "  Socket: {}", instance.socket);
            list_attributes(&mut text, &instance.attributes);
        }
    }
    Ok(print(&text)?)
}

fn print_definitions(arguments: &Arguments, definitions: Vec<Definition>) -> anyhow::Result<()> {
    if arguments.json {
        return print_json(&definitions);
    }
    if arguments.dumpjson {
        let entries = definitions.into_iter().map(|definition| Entry {
            parent: definition.parent,
            uuid: definition.uuid,
            file: DefinitionRequest {
                type_name: definition.type_name,
                start: definition.start,
                attributes: definition.attributes,
            },
        });
        return print_mdevctl_json(arguments, &entries.collect::<Vec<_>>());
    }
    let mut text = String::new();
    for definition in definitions {
        let Definition { uuid, parent, .. } = &definition;
        let mode = mode_word(definition.start);
        let active = if definition.active { " (active)" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{uuid} {parent} {} {mode}{active}",
            definition.type_name
        );
        if arguments.verbose {
            list_attributes(&mut text, &definition.attributes);
        }
    }
    Ok(print(&text)?)
}

/// One vGPU, as mdevctl writes it down.
struct Entry {
    parent: String,
    uuid: Uuid,
    file: DefinitionRequest,
}

/// The file that would define an instance as it is.
fn as_file(instance: &Instance, definitions: &[Definition]) -> DefinitionRequest {
    let kept = definitions
        .iter()
        .find(|kept| kept.uuid == instance.uuid && kept.parent == instance.parent);
    DefinitionRequest {
        type_name: instance.type_name.clone(),
        start: kept.map_or(StartMode::Manual, |kept| kept.start),
        attributes: instance.attributes.clone(),
    }
}

/// As mdevctl: one that was asked for by its UUID is the file itself, others are
/// `[{PARENT: [{UUID: {…}}]}]`.
fn print_mdevctl_json(arguments: &Arguments, entries: &[Entry]) -> anyhow::Result<()> {
    if let (Some(_), [entry]) = (arguments.uuid, entries) {
        let mut file = mdevctl_file::emit(&entry.file);
        file.push(b'\n');
        return Ok(print(&String::from_utf8(file)?)?);
    }
    let mut parents = serde_json::Map::new();
    for entry in entries {
        let pair = json!({ entry.uuid.to_string(): file_json(&entry.file) });
        let of_parent = parents
            .entry(entry.parent.clone())
            .or_insert_with(|| json!([]));
        if let Value::Array(of_parent) = of_parent {
            of_parent.push(pair);
        }
    }
    if parents.is_empty() {
        return print_json(&json!([]));
    }
    print_json(&json!([parents]))
}

fn file_json(file: &DefinitionRequest) -> Value {
    let attributes = file.attributes.iter();
    let attributes: Vec<_> = attributes
        .map(|Attribute { name, value }| json!({ name: value }))
        .collect();
    json!({
        "mdev_type": file.type_name,
        "start": mode_word(file.start),
        "attrs": attributes,
    })
}
