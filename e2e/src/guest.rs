//! The host's end of the agent: commands run inside a guest.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use guest::wire::{FromGuest, MARK, MAX_COMMAND, Run};

use crate::screen::Font;
use crate::stream::{Deadline, Stream};
use crate::{Error, Result};

/// From switching on to the agent's hello: 4 to 8 s where emulation has a core to itself.
pub const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// For one command, unless the test says otherwise.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// For ten thousand transfers and more, on a machine that is busy with other things.
const EDU_LIMIT: Duration = Duration::from_secs(300);

/// What a command left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit status; 128 and the signal's number where a signal ended it.
    pub status: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// A process in the guest that holds a test picture on the screen.
#[derive(Debug)]
#[must_use = "the picture stays until it is released"]
pub struct Picture {
    pid: String,
}

/// The agent of one guest.
#[derive(Debug)]
pub struct Guest {
    stream: Stream,
    next_id: u32,
    boot_id: String,
}

impl Guest {
    /// The agent at the other end of a serial port that QEMU has just connected.
    pub fn new(port: UnixStream) -> Self {
        Self {
            stream: Stream::new(port),
            next_id: 1,
            boot_id: String::new(),
        }
    }

    /// Waits until the guest is up, and up anew if it was up before.
    pub fn wait_boot(&mut self, limit: Duration) -> Result<()> {
        let deadline = Deadline::new("hello from the guest", limit);
        let mut problems = Vec::new();
        loop {
            match self.frame(&deadline)? {
                FromGuest::Problem(words) => problems.push(words),
                FromGuest::Hello { boot_id } if boot_id != self.boot_id => {
                    self.boot_id = boot_id;
                    break;
                }
                FromGuest::Hello { .. } | FromGuest::Done { .. } => {}
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Error::Guest(problems.join("; ")))
        }
    }

    /// Runs a command line in the guest's shell.
    pub fn run(&mut self, command: &str) -> Result<Output> {
        self.run_within(command, COMMAND_LIMIT)
    }

    /// Runs a command line that may take as long as `limit`.
    pub fn run_within(&mut self, command: &str, limit: Duration) -> Result<Output> {
        let id = self.send(command)?;
        let what = format!("end of `{command}`");
        let deadline = Deadline::new(&what, limit);
        loop {
            match self.frame(&deadline)? {
                FromGuest::Done {
                    id: ended,
                    status,
                    stdout,
                    stderr,
                } => {
                    let stdout = self.stream.read_exact(stdout, &deadline)?;
                    let stderr = self.stream.read_exact(stderr, &deadline)?;
                    if ended == id {
                        return Ok(Output {
                            status,
                            stdout,
                            stderr,
                        });
                    }
                }
                FromGuest::Hello { .. } => {
                    return Err(Error::Guest(format!("it rebooted during `{command}`")));
                }
                FromGuest::Problem(_) => {}
            }
        }
    }

    /// Runs a command line that must succeed, and returns the bytes it printed.
    pub fn bytes(&mut self, command: &str) -> Result<Vec<u8>> {
        self.bytes_within(command, COMMAND_LIMIT)
    }

    /// The same of one that may take as long as `limit`.
    pub fn bytes_within(&mut self, command: &str, limit: Duration) -> Result<Vec<u8>> {
        let output = self.run_within(command, limit)?;
        if output.status != 0 {
            let words = String::from_utf8_lossy(&output.stderr);
            let status = output.status;
            return Err(Error::Guest(format!(
                "`{command}` ended with {status}: {}",
                words.trim_end()
            )));
        }
        Ok(output.stdout)
    }

    /// Runs a command line that must succeed, and returns the text it printed, ends trimmed.
    pub fn sh(&mut self, command: &str) -> Result<String> {
        Ok(trimmed(&self.bytes(command)?))
    }

    /// Repeats a command line until it succeeds, for what the guest takes a moment to notice.
    pub fn wait_for(&mut self, command: &str) -> Result<()> {
        let script = format!("until {{ {command}\n}} >/dev/null 2>&1; do sleep 0.05; done");
        self.sh(&script).map(drop)
    }

    /// Reboots the guest from inside, and waits until it is back.
    pub fn reboot(&mut self) -> Result<()> {
        self.send("reboot -f")?;
        self.wait_boot(BOOT_LIMIT)
    }

    /// Has a whole system reboot, its services stopped in order, and waits until it is back.
    pub fn reboot_in_order(&mut self) -> Result<()> {
        self.send("systemctl --no-block reboot")?;
        self.wait_boot(BOOT_LIMIT)
    }

    /// Prints a line on the text console.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let line = line.replace('\'', r"'\''");
        self.sh(&format!("guest say '{line}'")).map(drop)
    }

    /// The text console's font. There is one from the first line on that was printed.
    pub fn font(&mut self) -> Result<Font> {
        Font::parse(&self.bytes("guest font")?)
    }

    /// The modes of `/dev/dri/CARD`, the preferred one first, as `WIDTHxHEIGHT@HZ`.
    pub fn modes(&mut self, card: &str) -> Result<Vec<String>> {
        let modes = self.sh(&format!("guest modes /dev/dri/{card}"))?;
        Ok(modes.lines().map(str::to_owned).collect())
    }

    /// Sets a mode and shows the picture of [`guest::pattern`]; it is up on return.
    pub fn draw(&mut self, card: &str, size: (u32, u32), seed: u32) -> Result<Picture> {
        let (width, height) = size;
        let pid = self.sh(&format!(
            "guest draw /dev/dri/{card} {width}x{height} {seed}"
        ))?;
        Ok(Picture { pid })
    }

    /// Shows such a picture on each head, in the order of the sizes, each head's seed one more than that
    /// of the one before; with a hardware cursor at a place of the last, if there is one.
    pub fn draw_heads(
        &mut self,
        card: &str,
        sizes: &[(u32, u32)],
        seed: u32,
        cursor: Option<(i32, i32)>,
    ) -> Result<Picture> {
        let sizes = sizes
            .iter()
            .map(|(width, height)| format!("{width}x{height}"));
        let sizes = sizes.collect::<Vec<_>>().join(",");
        let cursor = cursor.map_or(String::new(), |(x, y)| format!("{x} {y}"));
        let pid = self.sh(&format!(
            "guest draw-heads /dev/dri/{card} {seed} {sizes} {cursor}"
        ))?;
        Ok(Picture { pid })
    }

    /// The mode that each screen of `/dev/dri/CARD` prefers.
    pub fn heads(&mut self, card: &str) -> Result<Vec<String>> {
        let modes = self.sh(&format!("guest heads /dev/dri/{card}"))?;
        Ok(modes.lines().map(str::to_owned).collect())
    }

    /// Takes a picture off the screen. On return the text console is back.
    pub fn release(&mut self, picture: Picture) -> Result<()> {
        let Picture { pid } = picture;
        self.sh(&format!("guest release {pid}")).map(drop)
    }

    /// The PCI functions of a kind, such as `1234:1111`, by the order of their addresses.
    pub fn pci_functions(&mut self, id: &str) -> Result<Vec<String>> {
        let script = "cd /sys/bus/pci/devices && for function in *; do
            read vendor <$function/vendor && read device <$function/device
            echo ${vendor#0x}:${device#0x} $function
        done";
        let all = self.sh(script)?;
        let wanted = all.lines().filter_map(|line| line.split_once(' '));
        Ok(wanted
            .filter(|(found, _)| *found == id)
            .map(|(_, function)| function.to_owned())
            .collect())
    }

    /// Has a driver take a PCI function.
    pub fn bind(&mut self, driver: &str, function: &str) -> Result<()> {
        self.sh(&format!(
            "echo {function} >/sys/bus/pci/drivers/{driver}/bind"
        ))
        .map(drop)
    }

    /// Has a driver let go of a PCI function.
    pub fn unbind(&mut self, driver: &str, function: &str) -> Result<()> {
        self.sh(&format!(
            "echo {function} >/sys/bus/pci/drivers/{driver}/unbind"
        ))
        .map(drop)
    }

    /// The name in `/dev/dri` of the display at a PCI function.
    pub fn card_of(&mut self, function: &str) -> Result<String> {
        self.sh(&format!(
            "cd /sys/bus/pci/devices/{function} && cd drm 2>/dev/null || cd virtio*/drm && echo card*"
        ))
    }

    /// The terminals of a PCI function, in the order of their numbers.
    pub fn ttys_of(&mut self, function: &str) -> Result<Vec<String>> {
        self.ttys_under(&format!("*/{function}/*"))
    }

    /// The terminals that PCI devices have brought, in the order of their numbers.
    pub fn pci_ttys(&mut self) -> Result<Vec<String>> {
        self.ttys_under("*/pci*")
    }

    fn ttys_under(&mut self, pattern: &str) -> Result<Vec<String>> {
        let script = format!(
            "cd /sys/class/tty && for tty in ttyS*; do
                case $(readlink $tty) in {pattern}) echo $tty ;; esac
            done | sort -V"
        );
        Ok(self.sh(&script)?.lines().map(str::to_owned).collect())
    }

    /// Sends `count` bytes round through a UART's loop-back, each one checked; returns what
    /// `guest loopback` says of it.
    pub fn loopback(&mut self, tty: &str, count: usize, seed: u64) -> Result<String> {
        self.sh(&format!("guest loopback /dev/{tty} {count} {seed}"))
    }

    /// Does something with the educational device at a PCI function; returns what `guest edu` says
    /// of it.
    pub fn edu(&mut self, function: &str, what: &str) -> Result<String> {
        let command = format!("guest edu {function} {what}");
        Ok(trimmed(&self.bytes_within(&command, EDU_LIMIT)?))
    }

    fn send(&mut self, command: &str) -> Result<u32> {
        if command.len() > MAX_COMMAND {
            let len = command.len();
            return Err(Error::Guest(format!(
                "a command of {len} bytes is too long"
            )));
        }
        let id = self.next_id;
        self.next_id += 1;
        let run = Run {
            id,
            len: command.len(),
        };
        self.stream.send(format!("{run}{command}").as_bytes())?;
        Ok(id)
    }

    /// Waits for the next frame; anything else on the line is passed over.
    fn frame(&mut self, deadline: &Deadline<'_>) -> Result<FromGuest> {
        loop {
            self.stream.read_until(MARK.as_bytes(), deadline)?;
            let line = self.stream.read_until(b"\n", deadline)?;
            let line = String::from_utf8_lossy(&line);
            if let Some(frame) = FromGuest::parse(&line) {
                return Ok(frame);
            }
        }
    }
}

fn trimmed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
