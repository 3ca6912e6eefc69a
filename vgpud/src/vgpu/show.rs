//! `vgpu show`: all that is known of a vGPU.

use std::fmt::Write;

use serde::Serialize;
use uuid::Uuid;
use vgpud::api::{Definition, Instance, InstanceState, StartMode, WorkerStatus};
use vgpud::client::{Client, ClientError};

use crate::ask::describe_status;
use crate::output::{list_attributes, one_line, print, print_json};
use crate::target::{Api, Named};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: Api,
}

/// What is known. At least one of them is there.
#[derive(Serialize)]
struct Known {
    instance: Option<Instance>,
    /// What its worker says, if it runs.
    worker: Option<WorkerStatus>,
    /// One for each parent that it is defined on.
    definitions: Vec<Definition>,
}

pub(crate) fn show(arguments: &Arguments) -> anyhow::Result<()> {
    let client = arguments.api.client()?;
    let known = find(&client, arguments.named.uuid()?)?;
    if arguments.json {
        return print_json(&known);
    }
    Ok(print(&describe(&known))?)
}

fn find(client: &Client, uuid: Uuid) -> Result<Known, ClientError> {
    let mut definitions = client.definitions()?;
    definitions.retain(|definition| definition.uuid == uuid);
    let instance = match client.instance(uuid) {
        Ok(instance) => Some(instance),
        Err(ClientError::Refused(problem)) if problem.status == 404 && !definitions.is_empty() => {
            None
        }
        Err(error) => return Err(error),
    };
    let runs = instance
        .as_ref()
        .is_some_and(|instance| instance.state == InstanceState::Running);
    let worker = match client.status(uuid) {
        _ if !runs => None,
        Ok(status) => Some(status),
        // It may have ended just now: the rest is told all the same.
        Err(ClientError::Refused(_)) => None,
        Err(error) => return Err(error),
    };
    Ok(Known {
        instance,
        worker,
        definitions,
    })
}

fn describe(known: &Known) -> String {
    let mut text = String::new();
    if let Some(instance) = &known.instance {
        describe_instance(&mut text, instance);
    }
    if let Some(worker) = &known.worker {
        describe_status(&mut text, worker);
    }
    // Writing to a String cannot fail.
    for definition in &known.definitions {
        let Definition { uuid, parent, .. } = definition;
        let type_name = &definition.type_name;
        let mode = mode_word(definition.start);
        let _ = writeln!(text, "defined: {uuid} {parent} {type_name} {mode}");
        list_attributes(&mut text, &definition.attributes);
    }
    text
}

fn describe_instance(text: &mut String, instance: &Instance) {
    let access = [
        ("owner", &instance.access.owner),
        ("group", &instance.access.group),
        ("mode", &instance.access.mode),
    ];
    let access: Vec<_> = access
        .into_iter()
        .filter_map(|(what, value)| value.as_ref().map(|value| format!("{what} {value}")))
        .collect();
    let rows = [
        ("uuid", instance.uuid.to_string()),
        ("parent", instance.parent.clone()),
        ("type", instance.type_name.clone()),
        ("state", state_word(instance.state).to_owned()),
        ("socket", instance.socket.clone()),
        ("access", access.join(", ")),
        ("control", instance.control.clone()),
        ("crashes", instance.crashes.to_string()),
        ("recoveries", instance.recoveries.to_string()),
        ("upgrades", instance.upgrades.to_string()),
    ];
    // Writing to a String cannot fail.
    for (what, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "{what:11} {value}");
    }
    for function in &instance.functions {
        let (name, state) = (function.name.name(), state_word(function.state));
        let _ = writeln!(text, "{name:11} {} ({state})", function.socket);
    }
    if let Some(exit) = &instance.last_exit {
        let _ = writeln!(text, "{:11} {}", "last exit", one_line(&exit.reason));
        if let Some(words) = &exit.last_words {
            let _ = writeln!(text, "{:11} {}", "last words", one_line(words));
        }
    }
    if let Some(recovery) = &instance.last_recovery {
        let detail = one_line(&recovery.detail);
        let _ = writeln!(text, "{:11} {detail}", "recovery");
    }
}

pub(crate) fn state_word(state: InstanceState) -> &'static str {
    match state {
        InstanceState::Stopped => "stopped",
        InstanceState::Starting => "starting",
        InstanceState::Running => "running",
        InstanceState::Recovering => "recovering",
        InstanceState::Stopping => "stopping",
        InstanceState::Failed => "failed",
    }
}

pub(crate) fn mode_word(mode: StartMode) -> &'static str {
    match mode {
        StartMode::Auto => "auto",
        StartMode::Manual => "manual",
    }
}
