//! `vgpu`: the command line, in mdevctl's words.
//!
//! - What there is: [`types`], [`list`], [`show`], [`events`], [`doctor`].
//! - How an engine is shared: [`policy`].
//! - Definitions, which last: [`define`], [`modify`].
//! - vGPUs, which run: [`life`] (start, stop), [`upgrade`], [`ask`] (status, set), [`screenshot`], [`console`], [`state`] (save
//!   and restore), [`attach`] (what a VMM is to be told).
//! - Who uses an engine: [`top`], [`trace`].
//! - For libvirt: [`libvirt`] (its hook).
//! - Physical devices: [`physical`] (bind, unbind).
//! - Without a daemon: [`run`], and whatever takes `--control`.
//! - About the command itself: [`pages`] (completions, man pages).
//!
//! What they share: [`target`] (which vGPU is meant, and where the daemon listens), [`output`]
//! (printing, files), [`failure`] (what went wrong, and the exit code), [`signals`].

mod ask;
mod attach;
mod console;
mod define;
mod doctor;
mod events;
mod failure;
mod libvirt;
mod life;
mod list;
mod modify;
mod output;
mod pages;
mod physical;
mod policy;
mod run;
mod screenshot;
mod show;
mod signals;
mod state;
mod target;
mod top;
mod trace;
mod types;
mod upgrade;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What `--help` says at its end. Scripts rely on it.
const EXIT_CODES: &str = "Exit codes:
  0  done
  1  refused, or failed
  2  the command line makes no sense
  3  the daemon cannot be reached";

/// Shares graphics between virtual machines.
#[derive(Parser)]
#[command(name = "vgpu", version, after_help = EXIT_CODES)]
pub(crate) struct Vgpu {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the types of vGPU that can be created
    ///
    /// Without a daemon: the types of this build's drivers. As JSON, their parent is null then.
    Types(types::Arguments),
    /// List the vGPUs that there are
    List(list::Arguments),
    /// Keep the definition of a vGPU
    ///
    /// Without --parent and --type, what runs under the UUID is defined as it is. Without --uuid, a
    /// fresh one is taken and printed.
    Define(define::DefineArguments),
    /// Remove a definition; a vGPU that runs lives on
    Undefine(define::UndefineArguments),
    /// Change a definition, or a vGPU that runs
    ///
    /// Without --live, the definition is changed, and a vGPU that runs stays as it is. With --live, the
    /// one that runs is changed; with --defined as well, both.
    Modify(modify::Arguments),
    /// Start a vGPU that is defined, or one that lasts until it is stopped
    ///
    /// With a UUID, and a parent if it is defined on several, what is defined under it is started,
    /// or what was stopped with --keep. With --parent and --type, a vGPU that is gone when it is
    /// stopped; without a UUID it gets one, which is printed.
    Start(life::StartArguments),
    /// End a vGPU and free its place
    ///
    /// A definition is kept, and can be started again.
    Stop(life::StopArguments),
    /// Replace the workers of running vGPUs by the program that is installed now
    ///
    /// Their virtual machines run on, and see a pause of milliseconds. If the new worker cannot take
    /// over, the one that served goes on. Ends with 1 if one could not be upgraded.
    Upgrade(upgrade::Arguments),
    /// Tell how the engine of a parent is shared, or share it in another way
    ///
    /// best-effort: by weight among those who want it. equal-share: each has its part and no more,
    /// whoever wants it. fixed-share: each has what it has reserved and no more. What a vGPU is given
    /// are attributes: weight, cap, reservation, priority, frame_rate_limit, stop.
    Policy(policy::Arguments),
    /// Show all that is known of a vGPU
    Show(show::Arguments),
    /// Print what a VMM is to be told, to use a vGPU
    ///
    /// For libvirt: the parts to add to a domain with `virsh edit`, or a whole domain. Else: a VMM's
    /// arguments, quoted for a shell. The guest's memory is shared, without which a device works, but
    /// slower. What is defined is attached to as well as what runs.
    Attach(attach::Arguments),
    /// Start the vGPUs that a domain of libvirt's names, or end them
    ///
    /// For libvirt's hook script, which hands on its arguments; the domain comes on standard input.
    LibvirtHook(libvirt::hook::Arguments),
    /// Save what a running vGPU shows as a PNG file
    Screenshot(screenshot::Arguments),
    /// Show a running vGPU's display to VNC viewers, and print where
    ///
    /// The daemon starts the console, once for each vGPU; it ends with the vGPU. With --control, it
    /// is served here, until the vGPU is gone; with --keyboard and --tablet, viewers type and point.
    Console(console::Arguments),
    /// Save the state of a running vGPU to a file
    Save(state::SaveArguments),
    /// Put a saved state into a running vGPU of the same type
    Restore(state::RestoreArguments),
    /// Print what happens, as it happens
    ///
    /// Ends when the daemon does.
    Events(events::Arguments),
    /// Show who uses an engine, as it happens
    ///
    /// For each vGPU: its part of what all have used (SHARE%), how much of the engine it has used
    /// (BUSY%) and how much of the last second it had something to do (WANT%), how many jobs wait,
    /// how long it waited for its turn, what its worker takes of the CPU and of memory. Where the
    /// output is no terminal: a table after the other.
    Top(top::Arguments),
    /// Write down who had an engine when, for a trace viewer
    ///
    /// The file opens in Perfetto (ui.perfetto.dev) and in chrome://tracing. Ends after --seconds, or
    /// with Ctrl-C, or with 3 when the daemon does; the file is whole in any case.
    Trace(trace::Arguments),
    /// Tell what this host can and cannot do, and what to do about it
    ///
    /// Ends with 1 if something is missing without which there are no vGPUs.
    Doctor(doctor::Arguments),
    /// Give physical PCI devices to user space
    ///
    /// The kernel's vfio-pci takes them from their drivers, until unbind or the next start of the
    /// machine. Refused while something uses one, and where the IOMMU cannot tell one from a device
    /// that is not given along. Takes no daemon, but root.
    Bind(physical::BindArguments),
    /// Give physical PCI devices back to the kernel's drivers
    Unbind(physical::UnbindArguments),
    /// Serve one vGPU until SIGTERM, without a daemon
    Run(worker::arguments::Arguments),
    /// Show how a running vGPU is
    Status(ask::StatusArguments),
    /// Change an attribute of a running vGPU
    Set(ask::SetArguments),
    /// Print a script that completes this command in a shell
    Completions(pages::CompletionsArguments),
    /// Print the man page, or write those of all commands
    Man(pages::ManArguments),
}

fn main() -> ExitCode {
    match obey(Vgpu::parse().command) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}

fn obey(command: Command) -> anyhow::Result<ExitCode> {
    let done = match command {
        Command::Types(arguments) => types::list(&arguments),
        Command::List(arguments) => list::list(&arguments),
        Command::Define(arguments) => define::define(&arguments),
        Command::Undefine(arguments) => define::undefine(&arguments),
        Command::Modify(arguments) => modify::modify(&arguments),
        Command::Start(arguments) => life::start(&arguments),
        Command::Stop(arguments) => life::stop(&arguments),
        Command::Upgrade(arguments) => return upgrade::upgrade(&arguments),
        Command::Policy(arguments) => policy::tell(&arguments),
        Command::Show(arguments) => show::show(&arguments),
        Command::Attach(arguments) => attach::print(&arguments),
        Command::LibvirtHook(arguments) => libvirt::hook::obey(arguments),
        Command::Screenshot(arguments) => screenshot::save(&arguments),
        Command::Console(arguments) => console::console(&arguments),
        Command::Save(arguments) => state::save(&arguments),
        Command::Restore(arguments) => state::restore(&arguments),
        Command::Events(arguments) => events::follow(&arguments),
        Command::Top(arguments) => top::top(&arguments),
        Command::Trace(arguments) => trace::trace(&arguments),
        Command::Doctor(arguments) => return doctor::look(&arguments),
        Command::Bind(arguments) => physical::bind(&arguments),
        Command::Unbind(arguments) => physical::unbind(&arguments),
        Command::Run(_) => run::run(),
        Command::Status(arguments) => ask::status(&arguments),
        Command::Set(arguments) => ask::set(&arguments),
        Command::Completions(arguments) => pages::completions(&arguments),
        Command::Man(arguments) => pages::man(&arguments),
    };
    done.map(|()| ExitCode::SUCCESS)
}
