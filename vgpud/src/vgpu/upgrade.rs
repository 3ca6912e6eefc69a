//! `vgpu upgrade`: workers of the installed program take over from those that serve.

use std::fmt::Write;
use std::process::ExitCode;

use serde::Serialize;
use uuid::Uuid;
use vgpud::api::{InstanceState, Problem, Upgrade};
use vgpud::client::{Client, ClientError};

use crate::failure::in_commands;
use crate::output::{one_line, print, print_json};
use crate::target::{Api, whole_uuid};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: Api,
}

/// Which of the daemon's.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Its UUID
    #[arg(value_name = "UUID", value_parser = whole_uuid)]
    name: Option<Uuid>,
    /// Its UUID, as mdevctl takes it
    #[arg(short, long, value_name = "UUID", value_parser = whole_uuid)]
    uuid: Option<Uuid>,
    /// All that run, one after the other
    #[arg(long)]
    all: bool,
}

/// What came of one: the one or the other is there.
#[derive(Serialize)]
struct Outcome {
    uuid: Uuid,
    upgrade: Option<Upgrade>,
    problem: Option<Problem>,
}

pub(crate) fn upgrade(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.api.client()?;
    let Some(uuid) = arguments.which.name.or(arguments.which.uuid) else {
        return upgrade_all(&client, arguments.json);
    };
    let upgrade = client.upgrade(uuid)?;
    if arguments.json {
        print_json(&upgrade)?;
    } else {
        print(&format!("{}\n", describe(&upgrade)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Goes on after one that fails, and tells it at the end.
fn upgrade_all(client: &Client, is_json: bool) -> anyhow::Result<ExitCode> {
    let mut outcomes = Vec::new();
    let instances = client.instances()?.into_iter();
    for instance in instances.filter(|instance| instance.state == InstanceState::Running) {
        let uuid = instance.uuid;
        let (upgrade, problem) = match client.upgrade(uuid) {
            Ok(upgrade) => (Some(upgrade), None),
            Err(ClientError::Refused(problem)) => (None, Some(*problem)),
            Err(error) => return Err(error.into()),
        };
        let outcome = Outcome {
            uuid,
            upgrade,
            problem,
        };
        if !is_json {
            print(&tell(&outcome))?;
        }
        outcomes.push(outcome);
    }
    if is_json {
        print_json(&outcomes)?;
    }
    let all_done = outcomes.iter().all(|outcome| outcome.problem.is_none());
    Ok(match all_done {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn tell(outcome: &Outcome) -> String {
    let mut text = String::new();
    if let Some(upgrade) = &outcome.upgrade {
        text = format!("{}\n", describe(upgrade));
    }
    // Writing to a String cannot fail.
    if let Some(problem) = &outcome.problem {
        let detail = one_line(&problem.detail);
        let _ = writeln!(text, "{}: not upgraded: {detail}", outcome.uuid);
        if let Some(remedy) = &problem.remedy {
            let _ = writeln!(text, "  remedy: {}", in_commands(remedy));
        }
    }
    text
}

fn describe(upgrade: &Upgrade) -> String {
    let Upgrade { uuid, pid, .. } = upgrade;
    let (ms, tenth) = (upgrade.pause_us / 1000, upgrade.pause_us % 1000 / 100);
    let state = match (upgrade.exact, upgrade.connected) {
        (true, _) => "",
        (false, true) => "; the device was reset: its driver has to be bound anew",
        (false, false) => "; the device was reset",
    };
    format!("{uuid}: upgraded, pid {pid}, pause {ms}.{tenth} ms{state}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_each_is_told() {
        let uuid = Uuid::nil();
        let upgrade = Upgrade {
            uuid,
            pid: 7,
            pause_us: 12_345,
            connected: true,
            exact: true,
        };
        assert_eq!(
            describe(&upgrade),
            format!("{uuid}: upgraded, pid 7, pause 12.3 ms")
        );
        let problem = vgpud::Error::NotTakenOver(uuid, "\x1bno".to_owned()).problem();
        let told = tell(&Outcome {
            uuid,
            upgrade: None,
            problem: Some(problem),
        });
        assert!(told.contains("not upgraded"), "{told}");
        assert!(!told.contains('\x1b'));
        assert_eq!(told.lines().count(), 2, "{told}");
    }
}
