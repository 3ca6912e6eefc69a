//! What a VNC viewer costs a guest that draws the whole screen anew as fast as it can.
//!
//! The guest, its vGPU, the console and the viewer share two CPUs, with a viewer and without one. The
//! viewer takes what it is sent and looks at nothing of it: a real one is elsewhere.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::guest::Guest;
use e2e::{Machine, Process, Programs, Vgpu};
use serde_json::json;

use crate::cpus::{Cpus, Pinned};
use crate::report::{Ratio, Report};

const TYPE: &str = "gpu-2d-hd";
const SIZE: &str = "1920x1080";

/// Frames that are drawn at a time; pairs of such times, and with `--quick`.
const FRAMES: usize = 300;
const PAIRS: usize = 7;
const QUICK_PAIRS: usize = 1;

/// A viewer costs 15 % of the frames at most.
const TARGET: f64 = 1.0 / 0.85;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

/// `ZRLE`, and what is asked for to be sent it.
const ZRLE: [u8; 4] = [0, 0, 0, 16];
const ENCODINGS: [u8; 8] = [2, 0, 0, 1, 0, 0, 0, 16];
const REQUEST: [u8; 10] = [3, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];

pub(crate) fn measure(
    programs: &Programs,
    cpus: &Cpus,
    quick: bool,
    report: &mut Report,
) -> anyhow::Result<()> {
    let pairs = if quick { QUICK_PAIRS } else { PAIRS };
    report.heading(
        "A VNC viewer, against none",
        &format!(
            "{pairs} pairs of {FRAMES} frames of {SIZE}, in turns; the guest, its vGPU, the console \
             and the viewer on the same two CPUs"
        ),
    );
    let shared: Vec<usize> = [Some(cpus.client), cpus.other]
        .into_iter()
        .flatten()
        .collect();
    let _pinned = Pinned::to(&shared)?;
    let gpu = Vgpu::run(programs, TYPE, &[])?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("vnc");
    let mut command = Command::new(programs.ours("vgpu-console"));
    command.arg("--control").arg(gpu.control());
    command.arg("--socket-path").arg(&socket);
    let mut console = Process::spawn(command, &folder.path().join("log"))?;
    console.wait_path(&socket, LIMIT)?;
    let mut vm = Machine::new(programs)
        .module("virtio-pci")
        .module("virtio-gpu")
        .vfio_user(&gpu.socket(), &json!({}))
        .boot()?;
    let function = vm.guest.pci_functions("1af4:1050")?.concat();
    let card = vm.guest.card_of(&function)?;
    // What is done once is done.
    redraw(&mut vm.guest, &card)?;
    let (mut with, mut without, mut updates) = (Vec::new(), Vec::new(), 0);
    for _ in 0..pairs {
        without.push(redraw(&mut vm.guest, &card)?);
        let viewer = Taker::connect(&socket)?;
        with.push(redraw(&mut vm.guest, &card)?);
        updates += viewer.leave()?;
    }
    ensure!(updates > 0, "the viewer was shown nothing");
    report.ratio(&Ratio {
        name: "viewer/gpu".to_owned(),
        what: format!("a frame of {TYPE}, with a viewer"),
        ours: &with,
        floor: &without,
        target: Some(TARGET),
    });
    let seconds: f64 = with.iter().map(|frame| frame * FRAMES as f64 / 1e9).sum();
    let rate = updates as f64 / seconds;
    let frames = pairs as f64 * FRAMES as f64 / seconds;
    report.line(&format!(
        "the guest drew {frames:.0} frames a second meanwhile, of which the viewer saw {rate:.0}"
    ));
    report.add(
        "viewer",
        json!({ "frames_per_s": frames, "updates_per_s": rate }),
    );
    Ok(())
}

/// Nanoseconds for a frame.
fn redraw(guest: &mut Guest, card: &str) -> anyhow::Result<f64> {
    let command = format!("guest scroll /dev/dri/{card} {SIZE} {FRAMES}");
    let micros: f64 = guest.sh(&command)?.parse()?;
    Ok(micros * 1e3 / FRAMES as f64)
}

/// A viewer that wants the next update as soon as it has one, and throws it away.
struct Taker {
    stream: UnixStream,
    is_over: Arc<AtomicBool>,
    updates: Arc<AtomicU64>,
    thread: JoinHandle<io::Result<()>>,
}

impl Taker {
    /// Connects, and waits until the first update has come.
    fn connect(socket: &Path) -> anyhow::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(LIMIT))?;
        // RFC 6143, 7.1 to 7.3: no password, and others may look on.
        stream.write_all(b"RFB 003.008\n\x01\x01")?;
        stream.read_exact(&mut [0; 12 + 2 + 4 + 20])?;
        let name = long(&mut stream)?;
        skip(&mut stream, name.into())?;
        stream.write_all(&ENCODINGS)?;
        update(&mut stream)?;
        let (is_over, updates) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let thread = {
            let (mut stream, is_over) = (stream.try_clone()?, Arc::clone(&is_over));
            let updates: Arc<AtomicU64> = Arc::clone(&updates);
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    update(&mut stream)?;
                    updates.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        Ok(Self {
            stream,
            is_over,
            updates,
            thread,
        })
    }

    /// How many updates came.
    fn leave(self) -> anyhow::Result<u64> {
        let updates = self.updates.load(Ordering::Relaxed);
        self.is_over.store(true, Ordering::Relaxed);
        // It may wait for an update that does not come.
        self.stream.shutdown(std::net::Shutdown::Both)?;
        let ended = self.thread.join();
        let _ = ended.ok().context("the viewer panicked")?;
        Ok(updates)
    }
}

/// Asks for an update and takes it.
fn update(stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(&REQUEST)?;
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    for _ in 0..u16::from_be_bytes([head[2], head[3]]) {
        let mut rect = [0; 12];
        stream.read_exact(&mut rect)?;
        if rect[8..] != ZRLE {
            return Err(io::Error::other("another encoding"));
        }
        let length = long(stream)?;
        skip(stream, length.into())?;
    }
    Ok(())
}

fn long(stream: &mut UnixStream) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn skip(stream: &mut UnixStream, length: u64) -> io::Result<()> {
    let skipped = io::copy(&mut stream.take(length), &mut io::sink())?;
    if skipped == length {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
