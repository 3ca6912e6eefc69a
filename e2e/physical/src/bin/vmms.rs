//! `vmms`: clients of vGPUs that stand on physical devices, in the guest that has those. Their
//! connections have to outlive what becomes of whoever serves them.
//!
//! - `vmms serve SOCKET...`: each answers;
//! - `vmms outlive PID SOCKET...`: each does, a process is killed, and each goes on where it was.

use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};

use vfu::client::Client;

type Failure = Box<dyn Error>;

/// The region of configuration space.
const CONFIG: u32 = 7;

/// What tells a kind of vGPU: its identity in configuration space, and a register that keeps what is
/// written there: its region, its offset, and what is read once a number was written.
struct Kind {
    identity: u32,
    register: (u32, u64),
    read: fn(u16) -> u16,
}

const KINDS: [Kind; 2] = [
    // The complement of what was written.
    Kind {
        identity: 0x11e8_1234,
        register: (0, 4),
        read: |written| !written,
    },
    // How wide the picture is to be.
    Kind {
        identity: 0x1111_1234,
        register: (2, 0x502),
        read: |written| written,
    },
];

struct Vmm {
    client: Client,
    kind: &'static Kind,
    written: u16,
}

impl Vmm {
    fn connect(socket: &str, written: u16) -> Result<Self, Failure> {
        let mut client = Client::connect(Path::new(socket))?;
        let mut identity = [0; 4];
        client.region_read(CONFIG, 0, &mut identity)?;
        let identity = u32::from_le_bytes(identity);
        let kind = KINDS.iter().find(|kind| kind.identity == identity);
        let kind = kind.ok_or_else(|| format!("{socket}: there is {identity:#x}"))?;
        let mut vmm = Self {
            client,
            kind,
            written: 0,
        };
        vmm.write(written)?;
        Ok(vmm)
    }

    fn is_edu(&self) -> bool {
        self.kind.register.0 == 0
    }

    fn write(&mut self, written: u16) -> Result<(), Failure> {
        let (region, offset) = self.kind.register;
        self.written = written;
        let wide = u32::from(written).to_le_bytes();
        let bytes = if self.is_edu() { &wide[..] } else { &wide[..2] };
        self.client.region_write(region, offset, bytes)?;
        self.check()
    }

    fn check(&mut self) -> Result<(), Failure> {
        let (region, offset) = self.kind.register;
        let mut bytes = [0; 4];
        let len = if self.is_edu() { 4 } else { 2 };
        self.client.region_read(region, offset, &mut bytes[..len])?;
        let read = u16::from_le_bytes([bytes[0], bytes[1]]);
        let expected = (self.kind.read)(self.written);
        if read == expected {
            Ok(())
        } else {
            Err(format!("read {read:#x} instead of {expected:#x}").into())
        }
    }
}

fn connect(sockets: &[String]) -> Result<Vec<Vmm>, Failure> {
    let numbered = sockets.iter().zip(1_u16..);
    // Multiples of eight, as the width of a picture.
    let connected = numbered.map(|(socket, number)| {
        Vmm::connect(socket, 640 + 8 * number).map_err(|error| format!("{socket}: {error}").into())
    });
    connected.collect()
}

fn outlive(pid: &str, sockets: &[String]) -> Result<(), Failure> {
    let mut vmms = connect(sockets)?;
    let killed = Command::new("kill").args(["-KILL", pid]).status()?;
    if !killed.success() {
        return Err(format!("{pid} cannot be killed").into());
    }
    for (vmm, socket) in vmms.iter_mut().zip(sockets) {
        let words = |error| format!("{socket}: {error}");
        vmm.check().map_err(words)?;
        vmm.write(800).map_err(words)?;
    }
    Ok(())
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let Some((command, rest)) = arguments.split_first() else {
        return Err("usage: vmms serve SOCKET... | outlive PID SOCKET...".into());
    };
    match (command.as_str(), rest) {
        ("serve", sockets) => connect(sockets).map(drop),
        ("outlive", [pid, sockets @ ..]) => outlive(pid, sockets),
        _ => Err("serve or outlive".into()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => {
            println!("all answer");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("vmms: {error}");
            ExitCode::FAILURE
        }
    }
}
