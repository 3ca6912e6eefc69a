//! `vgpu doctor`: what this host can and cannot do, and the remedy.
//!
//! The daemon tells what it can; what concerns machines and this user is looked at here. Without a
//! daemon, that is the whole report.

use std::fmt::Write;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use serde::Serialize;
use vgpud::api::{Fact, HostFacts};
use vgpud::client::ClientError;

use crate::failure::reach_remedy;
use crate::output::{print, print_json, size};
use crate::physical;
use crate::target::Api;

/// Without these there are no vGPUs. The rest makes them safer, faster or easier to reach.
const NEEDED: [&str; 4] = ["daemon", "worker", "shared-memory", "seccomp"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The QEMU that is to use vGPUs
    #[arg(
        long,
        value_name = "PROGRAM",
        env = "VGPUD_QEMU",
        hide_env_values = true,
        default_value = "qemu-system-x86_64"
    )]
    qemu: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: Api,
}

/// What was found.
#[derive(Serialize)]
struct Report {
    /// Whether nothing is missing that is needed.
    is_ready: bool,
    host: Option<Host>,
    facts: Vec<Finding>,
}

/// What the daemon says of the host.
#[derive(Serialize)]
struct Host {
    version: String,
    pid: u32,
    kernel: String,
    cpus: u64,
    memory: u64,
}

/// A fact, and whether it matters.
#[derive(Serialize)]
struct Finding {
    is_needed: bool,
    #[serde(flatten)]
    fact: Fact,
}

pub(crate) fn look(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let report = examine(arguments)?;
    if arguments.json {
        print_json(&report)?;
    } else {
        print(&describe(&report))?;
    }
    Ok(match report.is_ready {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn examine(arguments: &Arguments) -> anyhow::Result<Report> {
    let (host, mut facts) = match arguments.api.client()?.host() {
        Ok(facts) => split(facts),
        Err(error) => (None, vec![no_daemon(&error)]),
    };
    facts.extend([qemu(arguments), cloud_hypervisor(), kvm()]);
    facts.extend(physical::facts());
    let facts: Vec<_> = facts
        .into_iter()
        .map(|fact| Finding {
            is_needed: NEEDED.contains(&fact.name.as_str()),
            fact,
        })
        .collect();
    Ok(Report {
        is_ready: facts
            .iter()
            .all(|finding| finding.fact.is_good || !finding.is_needed),
        host,
        facts,
    })
}

fn split(told: HostFacts) -> (Option<Host>, Vec<Fact>) {
    let found = format!("vgpud {}, process {}", told.version, told.pid);
    let mut facts = vec![good("daemon", found)];
    facts.extend(told.facts);
    let host = Host {
        version: told.version,
        pid: told.pid,
        kernel: told.kernel,
        cpus: told.cpus,
        memory: told.memory,
    };
    (Some(host), facts)
}

fn no_daemon(error: &ClientError) -> Fact {
    let remedy = match error {
        ClientError::Unreachable { source, .. } => reach_remedy(source.kind()),
        _ => "run the vgpu and the vgpud of one version",
    };
    bad("daemon", error.to_string(), remedy)
}

pub(crate) fn good(name: &str, found: String) -> Fact {
    Fact {
        name: name.to_owned(),
        is_good: true,
        found,
        remedy: None,
    }
}

pub(crate) fn bad(name: &str, found: String, remedy: &str) -> Fact {
    Fact {
        name: name.to_owned(),
        is_good: false,
        found,
        remedy: Some(remedy.to_owned()),
    }
}

/// What a program prints to standard output, if it runs and ends well.
fn output_of(program: &std::path::Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

fn qemu(arguments: &Arguments) -> Fact {
    const REMEDY: &str = "install QEMU 10.1 or later, or name one: --qemu, or VGPUD_QEMU";
    let program = &arguments.qemu;
    let Some(version) = output_of(program, &["--version"]) else {
        let found = format!("{} does not run", program.display());
        return bad("qemu", found, REMEDY);
    };
    let version = version.lines().next().unwrap_or_default();
    // Asked for the device itself: a QEMU may be built without it.
    match output_of(program, &["-device", "vfio-user-pci,help"]) {
        Some(_) => good("qemu", version.to_owned()),
        None => bad("qemu", format!("{version} has no vfio-user-pci"), REMEDY),
    }
}

fn cloud_hypervisor() -> Fact {
    match output_of("cloud-hypervisor".as_ref(), &["--version"]) {
        Some(version) => good("cloud-hypervisor", version.trim().to_owned()),
        None => bad(
            "cloud-hypervisor",
            "it is not on the path".to_owned(),
            "none is needed beside QEMU",
        ),
    }
}

fn kvm() -> Fact {
    const PATH: &str = "/dev/kvm";
    match File::options().read(true).write(true).open(PATH) {
        Ok(_) => good("kvm", PATH.to_owned()),
        Err(error) => bad(
            "kvm",
            format!("{PATH}: {error}"),
            "machines run without it, slowly; turn on virtualisation, and be in the group kvm",
        ),
    }
}

fn describe(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let Some(host) = &report.host {
        let (kernel, cpus, memory) = (&host.kernel, host.cpus, size(host.memory));
        let _ = writeln!(text, "kernel {kernel}, {cpus} CPUs, {memory}");
    }
    for Finding { is_needed, fact } in &report.facts {
        let mark = match (fact.is_good, is_needed) {
            (true, _) => "good",
            (false, true) => "MISSING",
            (false, false) => "lacking",
        };
        let found = match fact.found.as_str() {
            "" => "none",
            found => found,
        };
        let name = &fact.name;
        let line = format!("{mark:8} {name:17} {found}");
        let _ = writeln!(text, "{line}");
        if let Some(remedy) = &fact.remedy {
            let _ = writeln!(text, "{:26} {remedy}", "");
        }
    }
    let end = match report.is_ready {
        true => "vGPUs can be used here.",
        false => "What is missing is needed: there are no vGPUs without it.",
    };
    let _ = writeln!(text, "{end}");
    text
}
