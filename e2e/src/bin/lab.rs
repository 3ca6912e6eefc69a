//! `lab`: a machine with a physical device to try programs on, that needs none. It has an IOMMU and an
//! educational device, both QEMU's, and a stock kernel whose `vfio-pci` has given the device to user
//! space; `docs/driver-guide.md` uses it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use e2e::{Machine, Programs, libraries};

/// How long the command may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs a command in a guest that has a physical device of its own: $EDU is its address
#[derive(Parser)]
struct Arguments {
    /// A program to have in the guest's /bin; its libraries come along
    #[arg(long = "program", value_name = "FILE")]
    programs: Vec<PathBuf>,
    /// What the guest's shell is to run
    command: String,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The status that the command has ended with.
fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let programs = Programs::from_env()?;
    let mut machine = Machine::new(&programs)
        // Programs with all that a debugger wants are large.
        .memory_mib(1024)
        .module("vfio-pci")
        .module("vfio_iommu_type1")
        // With interrupts remapped, the kernel panics where its timer is late, as on a busy machine.
        .kernel_arg("intel_iommu=on no_timer_check")
        .device("intel-iommu,intremap=on,caching-mode=on")
        .device("edu");
    for program in &arguments.programs {
        for (place, path) in files_of(program)? {
            let content = fs::read(&path).with_context(|| path.display().to_string())?;
            machine = machine.file(&place, content);
        }
    }
    let mut vm = machine.boot()?;
    let edu = vm.guest.give("1234:11e8")?;
    let line = format!(
        "export EDU={edu} LD_LIBRARY_PATH=/lib; {}",
        arguments.command
    );
    let output = vm.guest.run_within(&line, LIMIT)?;
    std::io::stdout().write_all(&output.stdout)?;
    std::io::stderr().write_all(&output.stderr)?;
    Ok(u8::try_from(output.status).unwrap_or(1))
}

/// A program and what it is linked with: where each is to be in the guest, and where it is here.
fn files_of(program: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let name = program.file_name().context("a program is a file")?;
    let mut files = libraries::of(program)?;
    ensure!(
        name != "guest",
        "the guest has a program of that name, which runs it"
    );
    files.push((format!("bin/{}", name.display()), program.to_owned()));
    Ok(files)
}
