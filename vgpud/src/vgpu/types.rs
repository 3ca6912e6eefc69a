//! `vgpu types`: what can be created.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Map, Value, json};
use vgpud::api::Type;
use vgpud::client::ClientError;

use crate::output::{print, print_json, size};
use crate::target::Api;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only those that this parent offers
    #[arg(short, long, value_name = "PARENT")]
    parent: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print JSON of mdevctl's form
    #[arg(long, conflicts_with = "json")]
    dumpjson: bool,
    #[command(flatten)]
    api: Api,
}

pub(crate) fn list(arguments: &Arguments) -> anyhow::Result<()> {
    let types = match arguments.api.client()?.types() {
        Ok(types) => types,
        Err(error @ ClientError::Unreachable { .. }) => return list_built_in(arguments, error),
        Err(error) => return Err(error.into()),
    };
    let wanted = |parent: &str| {
        arguments
            .parent
            .as_deref()
            .is_none_or(|only| only == parent)
    };
    let types: Vec<_> = types
        .into_iter()
        .filter(|offered| wanted(&offered.parent))
        .collect();
    if arguments.json {
        return print_json(&types);
    }
    if arguments.dumpjson {
        return print_json(&mdevctl_json(&types));
    }
    Ok(print(&describe(&types))?)
}

/// As mdevctl lists them.
fn describe(types: &[Type]) -> String {
    let mut text = String::new();
    let mut parent = "";
    // Writing to a String cannot fail.
    for offered in types {
        if parent != offered.parent {
            parent = &offered.parent;
            let _ = writeln!(text, "{parent}");
        }
        let _ = writeln!(text, "  {}", offered.name);
        let available = offered.available_instances;
        let _ = writeln!(text, "    Available instances: {available}");
        let _ = writeln!(text, "    Device API: {}", offered.device_api);
        let _ = writeln!(text, "    Name: {}", offered.title);
        let _ = writeln!(text, "    Description: {}", offered.description);
        if offered.video_memory > 0 {
            let _ = writeln!(text, "    Video memory: {}", size(offered.video_memory));
        }
    }
    text
}

/// `[{PARENT: [{TYPE: {…}}]}]`, as `mdevctl types --dumpjson`.
fn mdevctl_json(types: &[Type]) -> Value {
    let mut parents: Vec<(&str, Vec<Value>)> = Vec::new();
    for offered in types {
        let entry = json!({ &offered.name: {
            "available_instances": offered.available_instances,
            "device_api": offered.device_api,
            "name": offered.title,
            "description": offered.description.replace('\n', ", "),
        }});
        match parents.last_mut() {
            Some((parent, entries)) if *parent == offered.parent => entries.push(entry),
            _ => parents.push((&offered.parent, vec![entry])),
        }
    }
    let whole: Map<_, _> = parents
        .into_iter()
        .map(|(parent, entries)| (parent.to_owned(), entries.into()))
        .collect();
    if whole.is_empty() {
        return json!([]);
    }
    json!([whole])
}

/// A type that a driver has.
#[derive(Serialize)]
struct BuiltIn {
    parent: Option<String>,
    name: String,
    title: String,
    description: String,
    /// Bytes.
    video_memory: u64,
}

fn list_built_in(arguments: &Arguments, error: ClientError) -> anyhow::Result<()> {
    if arguments.dumpjson || arguments.parent.is_some() {
        // What a parent offers only the daemon knows.
        return Err(error.into());
    }
    let specs = drivers::DRIVERS.iter().flat_map(|driver| driver.types());
    let rows: Vec<_> = specs
        .map(|spec| BuiltIn {
            parent: None,
            name: spec.name,
            title: spec.title,
            description: spec.description,
            video_memory: spec.video_memory,
        })
        .collect();
    if arguments.json {
        return print_json(&rows);
    }
    eprintln!("vgpu: {error}: these are the built-in types");
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let _ = writeln!(text, "{:width$}  {}", row.name, row.description);
    }
    Ok(print(&text)?)
}
