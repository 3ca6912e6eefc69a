//! `vgpu status`, `vgpu set`, `vgpu stop`: one request to a running worker.

use std::path::PathBuf;

use anyhow::Context;
use worker::arguments::SandboxMode;
use worker::control::Control;
use worker::protocol::{Landlock, Sandbox, Status};

/// Which worker is meant.
#[derive(clap::Args)]
pub(crate) struct ControlArguments {
    /// The worker's control socket
    #[arg(long, value_name = "PATH")]
    control: PathBuf,
}

impl ControlArguments {
    pub(crate) fn connect(&self) -> anyhow::Result<Control> {
        Control::connect(&self.control)
            .with_context(|| format!("cannot use the control socket {}", self.control.display()))
    }
}

#[derive(clap::Args)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    worker: ControlArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct SetArguments {
    #[command(flatten)]
    worker: ControlArguments,
    /// Which attribute, and its new value
    #[arg(value_name = "NAME=VALUE")]
    assignment: String,
}

pub(crate) fn status(arguments: &StatusArguments) -> anyhow::Result<()> {
    let status = arguments.worker.connect()?.status()?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print_status(&status);
    }
    Ok(())
}

fn print_status(status: &Status) {
    let client = if status.connected {
        "connected"
    } else {
        "none"
    };
    println!("type        {}", status.type_name);
    println!("process     {}", status.pid);
    println!("client      {client}");
    match &status.scanout {
        Some(picture) => println!("picture     {}x{}", picture.width, picture.height),
        None => println!("picture     none"),
    }
    for attribute in &status.attributes {
        println!("{:11} {}", attribute.name, attribute.value);
    }
    let counters = &status.counters;
    println!(
        "requests    {} ({} refused)",
        counters.requests, counters.refused_requests
    );
    println!(
        "accesses    {} reads, {} writes, {} faults",
        counters.region_reads, counters.region_writes, counters.faults
    );
    println!("interrupts  {}", counters.interrupts);
    println!("sandbox     {}", describe(&status.sandbox));
}

fn describe(sandbox: &Sandbox) -> String {
    let seccomp = match sandbox.seccomp {
        SandboxMode::On => "seccomp",
        SandboxMode::Log => "seccomp, which only logs",
        SandboxMode::Off => "no seccomp",
    };
    let landlock = match sandbox.landlock {
        Landlock::Full => "Landlock",
        Landlock::Partial => "an older Landlock",
        Landlock::None => "no Landlock",
    };
    let capabilities = match sandbox.capabilities {
        0 => "no capabilities".to_owned(),
        some => format!("capabilities {some:#x}"),
    };
    format!(
        "{seccomp}; {landlock}; {capabilities}; user {}",
        sandbox.user
    )
}

pub(crate) fn set(arguments: &SetArguments) -> anyhow::Result<()> {
    let (name, value) = arguments
        .assignment
        .split_once('=')
        .context("an attribute is NAME=VALUE")?;
    arguments.worker.connect()?.set_attribute(name, value)?;
    Ok(())
}

pub(crate) fn stop(arguments: &ControlArguments) -> anyhow::Result<()> {
    arguments.connect()?.stop()?;
    Ok(())
}
