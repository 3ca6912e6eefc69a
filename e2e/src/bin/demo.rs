//! `./x demo`: a stock guest draws on a vGPU of ours, and the picture that the server holds is
//! saved. It fails unless that picture shows what the guest printed on its console.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use e2e::screen::Font;
use e2e::steps::Steps;
use e2e::{Machine, Programs, Screen, Vgpu, Vm};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How long the guest's console may take to draw a line.
const DRAWING: Duration = Duration::from_secs(30);

/// Bytes that go round through the serial port.
const ROUND: usize = 1024;

/// Shows a virtual GPU at work in a guest.
#[derive(Parser)]
struct Arguments {
    /// Leave the VM running, and take commands for it
    #[arg(long)]
    keep: bool,
    /// Where to save the picture
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
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
    let picture = match &arguments.output {
        Some(file) => file.clone(),
        None => programs.bin.with_file_name("demo.png"),
    };
    let steps = Steps::new();
    let mut display = steps.step("vgpu run --type bochs-16m", || {
        Vgpu::run(&programs, "bochs-16m", &["-o", "mode=1024x768"])
    })?;
    let mut serial = steps.step("vgpu run --type serial-1", || {
        Vgpu::run(&programs, "serial-1", &[])
    })?;
    let machine = Machine::new(&programs)
        .vfio_user(&display.socket(), &json!({}))
        .vfio_user(&serial.socket(), &json!({}))
        .module("bochs");
    let mut vm = steps.step("QEMU boots a Debian kernel", || machine.boot())?;
    let line = steps.step("the guest prints on its console", || print_line(&mut vm))?;
    let font = vm.guest.font()?;
    let screen = steps.step("the picture shows it", || {
        wait_for_line(&display, &font, &line)
    })?;
    steps.step("bytes go round through the serial port", || {
        send_round(&mut vm)
    })?;
    display.save_screenshot(&picture)?;
    steps.total();
    let (width, height) = screen.size();
    println!("\nThe console of the guest, read off the server's picture:\n");
    print_text(&screen, &font);
    println!("\n{width}x{height} picture: {}", picture.display());
    if arguments.keep {
        let vgpu = programs.ours("vgpu").display().to_string();
        keep(&vgpu, &mut vm, [&mut display, &mut serial])?;
    }
    Ok(())
}

/// Has the guest print a line that is not the same in every run.
fn print_line(vm: &mut Vm) -> anyhow::Result<String> {
    let kernel = vm.guest.sh("uname -r")?;
    let driver = vm
        .guest
        .sh("basename $(readlink /sys/bus/pci/devices/*/drm/card0/device/driver | head -n 1)")?;
    // What the kernel said of our devices, for whoever looks at the picture.
    vm.guest
        .sh("dmesg | grep -E 'Linux version|bochs|PCI Serial|ttyS' | cut -c1-120 > /dev/tty0")?;
    let since_boot = vm.guest.sh("cut -d' ' -f1 /proc/uptime")?;
    let line = format!("vgpud: drawn by {driver} of Linux {kernel}, {since_boot} s after boot");
    vm.guest.say(&line)?;
    Ok(line)
}

fn wait_for_line(display: &Vgpu, font: &Font, line: &str) -> anyhow::Result<Screen> {
    let started = Instant::now();
    loop {
        let screen = display.screenshot()?;
        if screen.shows(font, line) {
            return Ok(screen);
        }
        ensure!(
            started.elapsed() < DRAWING,
            "the picture does not show '{line}' but:\n{}",
            screen.text(font).join("\n")
        );
        thread::sleep(Duration::from_millis(50));
    }
}

fn send_round(vm: &mut Vm) -> anyhow::Result<()> {
    let ttys = vm.guest.pci_ttys()?;
    let tty = ttys.first().context("the guest found no serial port")?;
    vm.guest.loopback(tty, ROUND, 1)?;
    Ok(())
}

fn print_text(screen: &Screen, font: &Font) {
    for line in screen.text(font) {
        let line = line.trim_end();
        if !line.is_empty() {
            println!("  | {line}");
        }
    }
}

/// Leaves everything running until the person at the terminal has seen enough.
fn keep(program: &str, vm: &mut Vm, vgpus: [&mut Vgpu; 2]) -> anyhow::Result<()> {
    let [display, serial] = vgpus;
    let children = [
        vm.process().pid(),
        display.process().pid(),
        serial.process().pid(),
    ];
    end_with_us(children)?;
    println!("\nThe VM runs on. From another terminal:");
    for vgpu in [&*display, &*serial] {
        println!("  {program} status --control {}", vgpu.control().display());
    }
    let control = display.control();
    println!(
        "  {program} screenshot --control {} FILE",
        control.display()
    );
    println!("Its commands are run here; an empty line ends it.");
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
fn end_with_us(children: [u32; 3]) -> anyhow::Result<()> {
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
