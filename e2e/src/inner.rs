//! A guest inside a guest: QEMU as a program of the outer one's, from a folder that both share.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::guest::{COMMAND_LIMIT, Guest};
use crate::machine::{Memory, memory_backend, vfio_user};
use crate::{Error, Machine, Result};

/// The folder with QEMU.
const FOLDER: &str = "VGPUD_INNER_QEMU";

/// What it is called in the outer guest, and where it is there.
const TAG: &str = "qemu";

/// Where the inner guest's serial port is in the outer one: what is sent to it, and what it says.
const INPUT: &str = "/tmp/inner.in";
const OUTPUT: &str = "/tmp/inner.out";

/// Emulation within emulation.
const LIMIT: Duration = Duration::from_secs(240);

/// A guest in the making.
#[derive(Clone, Debug)]
pub struct Inner {
    arguments: Vec<String>,
}

/// Lets a machine start guests of its own.
pub fn share_qemu(machine: Machine<'_>) -> Result<Machine<'_>> {
    let folder = env::var_os(FOLDER).map(PathBuf::from);
    let folder = folder.ok_or(Error::Environment(FOLDER))?;
    // A comma in an option's value is written twice.
    let path = folder.display().to_string().replace(',', ",,");
    Ok(machine
        .module("9pnet_virtio")
        .module("9p")
        .arg("-fsdev")
        .arg(format!(
            "local,id={TAG},path={path},security_model=none,readonly=on"
        ))
        .device(&format!("virtio-9p-pci,fsdev={TAG},mount_tag={TAG}")))
}

/// Makes QEMU's folder be there, once the outer guest is up.
pub fn mount_qemu(guest: &mut Guest) -> Result<()> {
    let mount = format!(
        "mkdir -p /{TAG} && mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose \
         {TAG} /{TAG}"
    );
    guest.sh(&mount).map(drop)
}

impl Inner {
    /// A guest with a serial port, and so much memory, that starts a kernel.
    pub fn new(kernel: &str, memory_mib: u32) -> Self {
        let memory = memory_backend(Memory::Shared, "ram", memory_mib).to_string();
        let size = format!("{memory_mib}M");
        let words = [
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-machine",
            "q35,accel=tcg,usb=off,memory-backend=ram",
            "-m",
            &size,
            "-object",
            &memory,
            "-net",
            "none",
            "-vga",
            "none",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-kernel",
            kernel,
        ];
        Self {
            arguments: words.map(str::to_owned).to_vec(),
        }
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().copied();
        self.arguments.extend(arguments.map(str::to_owned));
        self
    }

    /// Adds a device that is served on a socket of the outer guest's, in a slot.
    pub fn vfio_user(self, socket: &str, slot: u32) -> Self {
        let more = json!({ "addr": format!("{slot:#x}") });
        let device = vfio_user(socket.as_ref(), &more).to_string();
        self.args(&["-device", &device])
    }

    /// Starts it. One at a time.
    pub fn start(&self, guest: &mut Guest) -> Result<()> {
        let quoted = self.arguments.iter();
        let quoted: Vec<_> = quoted.map(|word| format!("'{word}'")).collect();
        let script = format!(
            "rm -f {INPUT} {OUTPUT} && mkfifo {INPUT} &&
             {{ /{TAG}/qemu {} <>{INPUT} >{OUTPUT} 2>&1; echo inner ended $? >>{OUTPUT}; }} &",
            quoted.join(" ")
        );
        // What a shell starts in the background would hold on to the agent's pipes.
        guest
            .sh(&format!("({script}) </dev/null >/dev/null 2>&1"))
            .map(drop)
    }

    /// Waits until it has said something, or has ended.
    pub fn wait_for(guest: &mut Guest, words: &str) -> Result<()> {
        Self::wait_within(guest, words, LIMIT)
    }

    /// The same with a limit of its own.
    pub fn wait_within(guest: &mut Guest, words: &str, limit: Duration) -> Result<()> {
        let script = format!(
            "until grep -q -e '{words}' -e 'inner ended' {OUTPUT}; do sleep 0.05; done; cat {OUTPUT}"
        );
        let said = guest.run_within(&script, limit)?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        if said.contains(words) {
            Ok(())
        } else {
            Err(Error::Guest(format!("the inner guest ended: {said}")))
        }
    }

    /// Sends a line to its serial port.
    pub fn send(guest: &mut Guest, line: &str) -> Result<()> {
        let send = format!("echo '{line}' >{INPUT}");
        guest.run_within(&send, COMMAND_LIMIT).map(drop)
    }
}
