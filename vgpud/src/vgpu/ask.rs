//! `vgpu status`, `vgpu set`: one request to a vGPU that runs.

use std::fmt::Write;

use vgpud::api::{Attribute, WorkerStatus};

use crate::output::{print, print_json};
use crate::target::{Api, Target, Way, attribute};

#[derive(clap::Args)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: Api,
}

#[derive(clap::Args)]
#[command(allow_missing_positional = true)]
pub(crate) struct SetArguments {
    #[command(flatten)]
    target: Target,
    /// Which attribute, and its new value
    #[arg(value_name = "NAME=VALUE", value_parser = attribute, required = true)]
    assignment: Attribute,
    #[command(flatten)]
    api: Api,
}

pub(crate) fn status(arguments: &StatusArguments) -> anyhow::Result<()> {
    let (type_name, status) = match arguments.target.reach(&arguments.api)? {
        Way::Daemon(client, uuid) => {
            let status = client.status(uuid)?;
            if arguments.json {
                return print_json(&status);
            }
            (client.instance(uuid)?.type_name, status)
        }
        Way::Worker(control) => {
            let status = control.status()?;
            if arguments.json {
                return print_json(&status);
            }
            (status.type_name.clone(), WorkerStatus::from(status))
        }
    };
    let mut text = format!("type        {type_name}\n");
    describe_status(&mut text, &status);
    Ok(print(&text)?)
}

/// What a worker says, a line for each thing.
pub(crate) fn describe_status(text: &mut String, status: &WorkerStatus) {
    let client = match status.connected {
        true => "connected",
        false => "none",
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "process     {}", status.pid);
    let _ = writeln!(text, "client      {client}");
    let pictures = std::iter::once(&status.picture).chain(&status.further_pictures);
    for (head, picture) in pictures.enumerate() {
        let name = match head {
            0 => "picture".to_owned(),
            head => format!("on head {head}"),
        };
        let _ = match picture {
            Some(picture) => writeln!(text, "{name:11} {}x{}", picture.width, picture.height),
            None => writeln!(text, "{name:11} none"),
        };
    }
    for attribute in &status.attributes {
        let _ = writeln!(text, "{:11} {}", attribute.name, attribute.value);
    }
    let counter = |name: &str| status.counters.get(name).copied().unwrap_or(0);
    let _ = writeln!(
        text,
        "requests    {} ({} refused)",
        counter("requests"),
        counter("refused_requests")
    );
    let _ = writeln!(
        text,
        "accesses    {} reads, {} writes, {} faults",
        counter("region_reads"),
        counter("region_writes"),
        counter("faults")
    );
    let _ = writeln!(text, "interrupts  {}", counter("interrupts"));
    let _ = writeln!(text, "sandbox     {}", status.sandbox);
}

pub(crate) fn set(arguments: &SetArguments) -> anyhow::Result<()> {
    let assignment = &arguments.assignment;
    match arguments.target.reach(&arguments.api)? {
        Way::Daemon(client, uuid) => {
            client.set_attributes(uuid, vec![assignment.clone()])?;
        }
        Way::Worker(control) => control.set_attribute(&assignment.name, &assignment.value)?,
    }
    Ok(())
}
