//! `./x demo`: two machines with a vGPU each, both of them the daemon's. Stock guests draw, and the
//! pictures that the servers hold are saved. It fails unless each shows what its guest printed on
//! its console.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use clap::Parser;
use e2e::daemon::Instance;
use e2e::screen::Font;
use e2e::steps::Steps;
use e2e::{Daemon, Machine, Programs, Screen, Vm};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How long the guest's console may take to draw a line.
const DRAWING: Duration = Duration::from_secs(30);

/// What each machine is given.
const MODES: [&str; 2] = ["mode=1024x768", "mode=800x600"];

/// Shows virtual GPUs at work in two guests.
#[derive(Parser)]
struct Arguments {
    /// Leave the VMs running, and take commands for the first
    #[arg(long)]
    keep: bool,
    /// Where to save the pictures: FILE-1.png and FILE-2.png
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A machine, its vGPU, and where its picture goes.
struct Seat {
    vm: Vm,
    display: Instance,
    file: PathBuf,
}

fn main() -> ExitCode {
    match show(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show(arguments: &Arguments) -> anyhow::Result<()> {
    let programs = Programs::from_env()?;
    let stem = match &arguments.output {
        Some(file) => file.clone(),
        None => programs.bin.with_file_name("demo"),
    };
    let steps = Steps::new();
    let mut daemon = steps.step("vgpud", || Daemon::run(&programs))?;
    let mut displays = Vec::new();
    for mode in MODES {
        let what = format!("vgpu start --parent soft0 --type bochs-16m --attr {mode}");
        displays.push(steps.step(&what, || daemon.start("bochs-16m", &[mode]))?);
    }
    let vms = steps.step("QEMU boots a Debian kernel, twice", || {
        boot(&programs, &displays)
    })?;
    let mut seats = Vec::new();
    for ((vm, display), number) in vms.into_iter().zip(displays).zip(1..) {
        let mut file = stem.clone().into_os_string();
        file.push(format!("-{number}.png"));
        let file = file.into();
        seats.push(Seat { vm, display, file });
    }
    for (seat, number) in seats.iter_mut().zip(1..) {
        let what = format!("picture {number} shows what its guest prints");
        let (screen, font) = steps.step(&what, || check_picture(&daemon, seat))?;
        print_picture(seat, &screen, &font);
    }
    steps.total();
    if arguments.keep {
        keep(&programs, &mut daemon, &mut seats)?;
    }
    Ok(())
}

/// Boots a machine for each vGPU, all at once.
fn boot(programs: &Programs, displays: &[Instance]) -> anyhow::Result<Vec<Vm>> {
    let boot = |display: &Instance| {
        Machine::new(programs)
            .vfio_user(&display.socket, &json!({}))
            .module("bochs")
            .boot()
    };
    thread::scope(|scope| {
        let booting: Vec<_> = displays
            .iter()
            .map(|display| scope.spawn(move || boot(display)))
            .collect();
        let vms = booting.into_iter().map(|vm| match vm.join() {
            Ok(vm) => Ok(vm?),
            Err(_) => Err(anyhow!("a machine's thread panicked")),
        });
        vms.collect()
    })
}

/// Has the guest print, and waits until its vGPU shows that.
fn check_picture(daemon: &Daemon, seat: &mut Seat) -> anyhow::Result<(Screen, Font)> {
    let line = print_line(&mut seat.vm)?;
    let font = seat.vm.guest.font()?;
    let started = Instant::now();
    loop {
        let screen = daemon.screenshot(&seat.display, &seat.file)?;
        if screen.shows(&font, &line) {
            return Ok((screen, font));
        }
        ensure!(
            started.elapsed() < DRAWING,
            "the picture does not show '{line}' but:\n{}",
            screen.text(&font).join("\n")
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// Has the guest print a line that is not the same in every run.
fn print_line(vm: &mut Vm) -> anyhow::Result<String> {
    let kernel = vm.guest.sh("uname -r")?;
    let driver = vm
        .guest
        .sh("basename $(readlink /sys/bus/pci/devices/*/drm/card0/device/driver | head -n 1)")?;
    // What the kernel said of our devices, for whoever looks at the picture.
    vm.guest
        .sh("dmesg | grep -E 'Linux version|bochs' | cut -c1-90 > /dev/tty0")?;
    let since_boot = vm.guest.sh("cut -d' ' -f1 /proc/uptime")?;
    let line = format!("vgpud: drawn by {driver} of Linux {kernel}, {since_boot} s after boot");
    vm.guest.say(&line)?;
    Ok(line)
}

fn print_picture(seat: &Seat, screen: &Screen, font: &Font) {
    let (width, height) = screen.size();
    println!(
        "\n{width}x{height} picture: {}, read as:",
        seat.file.display()
    );
    for line in screen.text(font) {
        let line = line.trim_end();
        if !line.is_empty() {
            println!("  | {line}");
        }
    }
    println!();
}

/// Leaves everything running until the person at the terminal has seen enough.
fn keep(programs: &Programs, daemon: &mut Daemon, seats: &mut [Seat]) -> anyhow::Result<()> {
    let mut children = vec![daemon.process().pid()];
    for seat in &mut *seats {
        children.extend([seat.vm.process().pid(), seat.display.pid]);
    }
    end_with_us(children)?;
    println!("The VMs run on. From another terminal:");
    println!("  export VGPUD_API={}", daemon.api().display());
    println!("  {} list", programs.ours("vgpu").display());
    println!("Commands are run in the first guest here; an empty line ends it.");
    let Some(Seat { vm, .. }) = seats.first_mut() else {
        return Ok(());
    };
    if !io::stdin().is_terminal() {
        vm.process().wait_exit(Duration::MAX)?;
        return Ok(());
    }
    loop {
        print!("guest# ");
        io::stdout().flush()?;
        let mut command = String::new();
        io::stdin().lock().read_line(&mut command)?;
        if command.trim().is_empty() {
            return Ok(());
        }
        let output = vm.guest.run(command.trim())?;
        io::stdout().write_all(&output.stdout)?;
        io::stderr().write_all(&output.stderr)?;
    }
}

/// A signal ends the children too: they would outlive us, and nobody would know of them.
fn end_with_us(children: Vec<u32>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            for pid in children {
                if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
                    // One that has ended by itself needs no signal: it is not reaped before us.
                    let _ = kill_process(pid, Signal::TERM);
                }
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}
