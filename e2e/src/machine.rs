//! A machine described, and QEMU's command line made of it.
//!
//! The guest's first serial port is the console log, the second belongs to the agent.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::firmware::{self, Firmware};
use crate::initramfs::Initramfs;
use crate::qemu::{AGENT, CONSOLE_LOG, QMP, Vm};
use crate::{Error, Programs, Result, libraries};

/// What the guest's memory is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// A memfd that a device's server maps as well.
    Shared,
    /// A memfd that the guest has a private copy of: a server maps it, and finds other bytes.
    Unshared,
    /// Ordinary memory: a server gets no file descriptor, and reaches it by messages alone.
    Private,
}

/// A machine in the making.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    programs: &'a Programs,
    memory: Memory,
    memory_mib: u32,
    /// Slots for memory that comes later, and how much there may be with it.
    memory_room: Option<(u32, u32)>,
    cpus: u32,
    kernel_args: Vec<String>,
    arguments: Vec<OsString>,
    initramfs: Initramfs,
    /// Code and variables, in the place of a kernel.
    firmware: Option<(PathBuf, PathBuf)>,
}

impl<'a> Machine<'a> {
    /// A bare machine: q35, one processor, 256 MiB of shared memory, no devices but serial ports.
    pub fn new(programs: &'a Programs) -> Self {
        Self {
            programs,
            memory: Memory::Shared,
            memory_mib: 256,
            memory_room: None,
            cpus: 1,
            kernel_args: Vec::new(),
            arguments: Vec::new(),
            initramfs: Initramfs::default(),
            firmware: None,
        }
    }

    /// Chooses the kind of memory.
    pub fn memory(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }

    /// Chooses the size of memory.
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Leaves room to plug memory in: so many slots, and up to `mib` altogether.
    pub fn memory_room(mut self, slots: u32, mib: u32) -> Self {
        self.memory_room = Some((slots, mib));
        self
    }

    /// Chooses the number of processors.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Adds a device, in QEMU's own notation or as JSON text.
    pub fn device(self, device: &str) -> Self {
        self.arg("-device").arg(device)
    }

    /// Adds a device served on a vfio-user socket. `more` holds further properties, such as `id`.
    pub fn vfio_user(self, socket: &Path, more: &Value) -> Self {
        self.device(&vfio_user(socket, more).to_string())
    }

    /// Adds an argument as it is.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds words to the kernel's command line.
    pub fn kernel_arg(mut self, argument: &str) -> Self {
        self.kernel_args.push(argument.to_owned());
        self
    }

    /// Loads a kernel module before the agent answers, and first what it needs.
    pub fn module(mut self, name: &str) -> Self {
        self.initramfs.modules.push(name.to_owned());
        self
    }

    /// Puts a program from `VGPUD_GUEST_BIN` into the guest's `/bin`.
    pub fn guest_program(mut self, name: &str) -> Self {
        self.initramfs.programs.push(name.to_owned());
        self
    }

    /// Puts one of our own programs into the guest's `/bin`, with what it is linked with: it runs there
    /// with `LD_LIBRARY_PATH=/lib`.
    pub fn our_program(mut self, name: &str) -> Result<Self> {
        let program = self.programs.ours(name);
        let mut files = libraries::of(&program)?;
        files.push((format!("bin/{name}"), program));
        for (place, path) in files {
            let content = fs::read(&path).map_err(Error::io("read", &path))?;
            self.initramfs.files.push((place, content));
        }
        Ok(self)
    }

    /// Puts a file into the guest. The path has no leading slash, and its folder is there.
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.initramfs.files.push((path.to_owned(), content.into()));
        self
    }

    /// Starts firmware, and no kernel: there is no agent then, nor a port for it.
    pub fn firmware(mut self, firmware: &Firmware) -> Self {
        self.firmware = Some((firmware.code(), firmware.variables()));
        self
    }

    /// Starts QEMU and waits until the guest is up.
    pub fn boot(&self) -> Result<Vm> {
        let mut vm = self.start()?;
        match vm.wait_boot() {
            Ok(()) => Ok(vm),
            Err(error) => Err(vm.give_up(error)),
        }
    }

    /// Starts QEMU, and does not wait for the guest.
    pub fn start(&self) -> Result<Vm> {
        Vm::start(|dir| self.command(dir))
    }

    fn command(&self, dir: &Path) -> Result<Command> {
        let mut command = Command::new(&self.programs.qemu);
        command.args(["-nodefaults", "-no-user-config"]);
        for (option, value) in self.options(dir) {
            command.args([option, &value]);
        }
        if let Some((code, variables)) = &self.firmware {
            command.args(firmware::arguments(code, variables));
        } else {
            command.args(["-serial", "chardev:agent"]);
            command.args(["-append", &self.kernel_line()]);
            command.arg("-kernel").arg(&self.programs.kernel);
            command
                .arg("-initrd")
                .arg(self.initramfs.build(self.programs)?);
        }
        command.args(&self.arguments);
        Ok(command)
    }

    fn kernel_line(&self) -> String {
        let mut words = vec!["console=ttyS0 quiet"];
        words.extend(self.kernel_args.iter().map(String::as_str));
        words.join(" ")
    }

    fn options(&self, dir: &Path) -> Vec<(&'static str, String)> {
        let file = |name| dir.join(name).display().to_string();
        let (accel, mib) = (&self.programs.accel, self.memory_mib);
        let mut machine = format!("q35,accel={accel},usb=off");
        let room = self
            .memory_room
            .map(|(slots, mib)| format!(",slots={slots},maxmem={mib}M"));
        let mut options = vec![
            ("-m", format!("{mib}M{}", room.unwrap_or_default())),
            ("-smp", self.cpus.to_string()),
            ("-net", "none".to_owned()),
            ("-display", "none".to_owned()),
            ("-chardev", format!("socket,id=qmp,path={}", file(QMP))),
            ("-chardev", format!("socket,id=agent,path={}", file(AGENT))),
            (
                "-chardev",
                format!("file,id=log,path={}", file(CONSOLE_LOG)),
            ),
            ("-qmp", "chardev:qmp".to_owned()),
            ("-serial", "chardev:log".to_owned()),
        ];
        if self.memory != Memory::Private {
            options.push((
                "-object",
                memory_backend(self.memory, "ram", mib).to_string(),
            ));
            machine += ",memory-backend=ram";
        }
        options.push(("-machine", machine));
        options
    }
}

/// Memory that a machine or a module of memory is made of, as `-object` and `object-add` take it.
pub(crate) fn memory_backend(memory: Memory, id: &str, mib: u32) -> Value {
    let kind = match memory {
        Memory::Shared | Memory::Unshared => "memory-backend-memfd",
        Memory::Private => "memory-backend-ram",
    };
    json!({
        "qom-type": kind,
        "id": id,
        "size": u64::from(mib) << 20,
        "share": memory == Memory::Shared,
    })
}

/// A device served on a vfio-user socket, as `-device` and `device_add` take it.
pub fn vfio_user(socket: &Path, more: &Value) -> Value {
    let mut device = json!({
        "driver": "vfio-user-pci",
        "socket": { "type": "unix", "path": socket },
    });
    if let (Some(device), Some(more)) = (device.as_object_mut(), more.as_object()) {
        device.extend(more.clone());
    }
    device
}
