//! The screen through KMS: its modes, its EDID, and the test picture.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use drm::buffer::{Buffer, DrmFourcc};
use drm::control::dumbbuffer::DumbBuffer;
use drm::control::{Device as ControlDevice, connector, crtc, framebuffer};
use guest::pattern;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::Failure;

/// An open `/dev/dri/cardN`.
pub(crate) struct Card(File);

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl drm::Device for Card {}
impl ControlDevice for Card {}

impl Card {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        Ok(Self(
            file.map_err(|error| format!("{}: {error}", path.display()))?,
        ))
    }

    /// The connectors with a screen on them.
    pub(crate) fn connectors(&self) -> Result<Vec<connector::Info>, Failure> {
        let mut connected = Vec::new();
        for &handle in self.resource_handles()?.connectors() {
            let connector = self.get_connector(handle, true)?;
            if connector.state() == connector::State::Connected {
                connected.push(connector);
            }
        }
        Ok(connected)
    }

    /// The first connector with a screen on it.
    fn connector(&self) -> Result<connector::Info, Failure> {
        let first = self.connectors()?.into_iter().next();
        first.ok_or_else(|| "no connector is connected".into())
    }

    /// A CRTC that can feed `connector`.
    pub(crate) fn crtc(&self, connector: &connector::Info) -> Result<crtc::Handle, Failure> {
        let resources = self.resource_handles()?;
        for &encoder in connector.encoders() {
            let possible = self.get_encoder(encoder)?.possible_crtcs();
            if let Some(&crtc) = resources.filter_crtcs(possible).first() {
                return Ok(crtc);
            }
        }
        Err("no CRTC for the connector".into())
    }

    /// Makes a frame buffer that holds the test picture.
    pub(crate) fn picture(
        &self,
        (width, height): (u16, u16),
        seed: u32,
    ) -> Result<(framebuffer::Handle, DumbBuffer), Failure> {
        let size = (u32::from(width), u32::from(height));
        let mut buffer = self.create_dumb_buffer(size, DrmFourcc::Xrgb8888, 32)?;
        let pitch = buffer.pitch() as usize;
        let mut pixels = self.map_dumb_buffer(&mut buffer)?;
        for (y, row) in (0..size.1).zip(pixels.as_mut().chunks_mut(pitch)) {
            pattern::fill_row(seed, y, &mut row[..4 * usize::from(width)]);
        }
        drop(pixels);
        Ok((self.add_framebuffer(&buffer, 24, 32)?, buffer))
    }

    /// Shows a picture on a connector, by its mode of that size.
    pub(crate) fn show(
        &self,
        connector: &connector::Info,
        size: (u16, u16),
        picture: framebuffer::Handle,
    ) -> Result<crtc::Handle, Failure> {
        let mode = connector
            .modes()
            .iter()
            .find(|mode| mode.size() == size)
            .copied()
            .ok_or_else(|| format!("the connector has no mode {}x{}", size.0, size.1))?;
        let crtc = self.crtc(connector)?;
        let handle = connector.handle();
        self.set_crtc(crtc, Some(picture), (0, 0), &[handle], Some(mode))?;
        Ok(crtc)
    }
}

/// Starts a process that holds something on the screen, as `what` says, and prints its id once that is
/// up.
pub(crate) fn draw(what: &[&str]) -> Result<(), Failure> {
    let mut holder = Command::new("/proc/self/exe")
        .args(what)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = holder.stdout.take().ok_or("no pipe")?;
    BufReader::new(stdout).read_line(&mut line)?;
    if line.is_empty() {
        return Err(format!("no picture: {}", holder.wait()?).into());
    }
    println!("{}", holder.id());
    Ok(())
}

/// Shows the picture, and keeps it until killed.
pub(crate) fn hold(card: &Path, size: (u16, u16), seed: u32) -> Result<(), Failure> {
    let card = Card::open(card)?;
    let (picture, _) = card.picture(size, seed)?;
    card.show(&card.connector()?, size, picture)?;
    keep()
}

/// Says on standard output that all is up, and stays until killed: what a closed card showed goes with
/// it, and the text console comes back.
pub(crate) fn keep() -> Result<(), Failure> {
    println!("up");
    std::io::stdout().flush()?;
    loop {
        thread::park();
    }
}

/// Ends a process that [`draw`] started. By the time this returns its card is closed.
pub(crate) fn release(pid: i32) -> Result<(), Failure> {
    let pid = Pid::from_raw(pid).ok_or("not a process id")?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    pidfd_send_signal(&process, Signal::KILL)?;
    poll(&mut [PollFd::new(&process, PollFlags::IN)], None)?;
    Ok(())
}

/// Prints the modes, the preferred one first, as `WIDTHxHEIGHT@HZ`.
pub(crate) fn print_modes(card: &Path) -> Result<(), Failure> {
    for mode in Card::open(card)?.connector()?.modes() {
        let (width, height) = mode.size();
        println!("{width}x{height}@{}", mode.vrefresh());
    }
    Ok(())
}

/// Prints the EDID of the card's first connector that has one.
pub(crate) fn print_edid(card: &Path) -> Result<(), Failure> {
    let card = card.file_name().and_then(|name| name.to_str());
    let prefix = format!("{}-", card.ok_or("not a card")?);
    for entry in fs::read_dir("/sys/class/drm")? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(&prefix) {
            continue;
        }
        let edid = fs::read(entry.path().join("edid"))?;
        if !edid.is_empty() {
            let hex: String = edid.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("{hex}");
            return Ok(());
        }
    }
    Err("no EDID".into())
}

/// Draws a picture that scrolls so often, as fast as that goes; prints how many microseconds it
/// took. The text console is back on return.
pub(crate) fn scroll(
    card: &Path,
    (width, height): (u16, u16),
    count: usize,
) -> Result<(), Failure> {
    let card = Card::open(card)?;
    let connector = card.connector()?;
    let mut modes = connector.modes().iter();
    let mode = modes.find(|mode| mode.size() == (width, height));
    let mode = mode.copied().ok_or("the connector has no such mode")?;
    let crtc = card.crtc(&connector)?;
    let size = (u32::from(width), u32::from(height));
    let mut buffer = card.create_dumb_buffer(size, DrmFourcc::Xrgb8888, 32)?;
    let picture = card.add_framebuffer(&buffer, 24, 32)?;
    let connectors = [connector.handle()];
    card.set_crtc(crtc, Some(picture), (0, 0), &connectors, Some(mode))?;
    let pitch = buffer.pitch() as usize;
    let mut pixels = card.map_dumb_buffer(&mut buffer)?;
    // A picture that scrolls: to copy it takes little beside what is measured.
    let screen = pitch * usize::from(height);
    let mut long = vec![0; 2 * screen];
    for (y, row) in (0..2 * size.1).zip(long.chunks_mut(pitch)) {
        pattern::fill_row(1, y, &mut row[..4 * usize::from(width)]);
    }
    let whole = drm::control::ClipRect::new(0, 0, width, height);
    let began = std::time::Instant::now();
    for frame in 0..count {
        let start = frame * 8 % usize::from(height) * pitch;
        pixels.as_mut()[..screen].copy_from_slice(&long[start..start + screen]);
        card.dirty_framebuffer(picture, &[whole])?;
    }
    println!("{}", began.elapsed().as_micros());
    Ok(())
}
