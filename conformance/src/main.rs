//! `vfu-conformance`: the suite as a program. Exit status: 0 if no check failed, 1 if one did,
//! 2 if there was nothing to hold to the rules.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{ArgGroup, Parser};
use conformance::check::{Check, Unmet};
use conformance::hostile::{self, Attack, Toll};
use conformance::report::{self, Tally};
use conformance::server::Server;
use conformance::target::Target;
use conformance::{checks, process, runner};

/// Hold a vfio-user server to what the protocol promises.
#[derive(Debug, Parser)]
#[command(version)]
#[command(group = ArgGroup::new("which").args(["socket", "server", "list"]).required(true))]
struct Arguments {
    /// A server that listens here already, and serves one client after the other.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// A server to start: words, of which {socket} is replaced by the path it shall listen at.
    #[arg(long, value_name = "CMD {socket}")]
    server: Option<String>,
    /// Only list the checks.
    #[arg(long)]
    list: bool,
    /// One JSON document instead of lines.
    #[arg(long)]
    json: bool,
    /// Seconds that the server may take for anything.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    timeout: f64,
    /// Instead of the checks send so many hostile messages, and see what they cost.
    #[arg(long, value_name = "N")]
    hostile: Option<u64>,
    /// What the hostile messages are made from.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "hostile")]
    seed: u64,
    /// The process of the server at --socket, to count its descriptors and its memory.
    #[arg(long, requires = "hostile", conflicts_with = "server")]
    pid: Option<u32>,
    /// Only checks with this in their names.
    filter: Option<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("vfu-conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Tells whether no check failed.
fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let checks: Vec<_> = checks::all()
        .filter(|check| check.name.contains(filter))
        .collect();
    ensure!(!checks.is_empty(), "no check has {filter} in its name");
    if arguments.list {
        list(&checks, arguments.json);
        return Ok(true);
    }
    let target = target(arguments)?;
    if let Some(messages) = arguments.hostile {
        return attack(arguments, &target, messages);
    }
    let mut outcomes = Vec::new();
    for check in checks {
        let outcome = runner::run(check, &target);
        if !arguments.json {
            println!("{}", report::line(&outcome));
        }
        outcomes.push(outcome);
    }
    let tally = Tally::of(&outcomes);
    if arguments.json {
        println!("{:#}", report::json(&outcomes));
    } else {
        println!("{tally}");
    }
    Ok(tally.failed == 0)
}

fn target(arguments: &Arguments) -> anyhow::Result<Target> {
    let patience =
        Duration::try_from_secs_f64(arguments.timeout).context("--timeout is not possible")?;
    let server = match (&arguments.socket, &arguments.server) {
        (Some(socket), _) => Server::listening(socket)?,
        (None, Some(command)) => Server::start(command)?,
        (None, None) => anyhow::bail!("no server"),
    };
    Ok(Target::new(server, patience))
}

/// Tells whether the server has stood it.
fn attack(arguments: &Arguments, target: &Target, messages: u64) -> anyhow::Result<bool> {
    let ours = target.server().pid();
    let ours = ours.map(|pid| process::serving(pid, target.server().socket()));
    let attack = Attack {
        messages,
        seed: arguments.seed,
        pid: arguments.pid.or(ours),
    };
    let mut toll = Toll::default();
    let mut verdict = hostile::run(target, attack, &mut toll);
    if let Some(status) = target.server().take_death() {
        verdict = Err(Unmet::fail(format!("the server died: {status}")));
    }
    let outcome = match &verdict {
        Ok(()) => "pass".to_owned(),
        Err(Unmet::Fail(words) | Unmet::Skip(words)) => words.clone(),
    };
    if arguments.json {
        println!("{:#}", report::toll_json(&toll, &outcome));
    } else {
        println!("{toll}");
        println!("{outcome}");
    }
    Ok(verdict.is_ok())
}

fn list(checks: &[Check], json: bool) {
    if json {
        let checks: Vec<_> = checks.iter().map(report::check_json).collect();
        println!("{:#}", serde_json::Value::from(checks));
        return;
    }
    for check in checks {
        println!("{}\n      [{}] {}", check.name, check.section, check.rule);
    }
}
