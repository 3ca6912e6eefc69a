//! A device in the hands of a worker that is an ordinary user, and held here, as the daemon does it: the
//! worker is killed while the device writes to memory, and another goes on with the same clients.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::chown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use mdev::host::{HostFiles, PciBus};
use mdev::irq::IrqIndex;
use rustix::io::{FdFlags, fcntl_setfd};
use worker::control::{Control, ControlError};
use worker::parking::Parking;
use worker::protocol::SeatRequest;
use worker::resume::{Answer, Handing};
use worker::seat::{SeatFiles, offer_parent};
use worker::seqpacket;

use crate::driver::{Guest, MEMORY, PAGE, Transfer};
use crate::edu::{BUFFER_LEN, PATIENCE};
use crate::limits::USER;
use crate::{Failure, expect};

/// Where a worker of an ordinary user's may make sockets.
const FOLDER: &str = "/tmp/worker";
const TYPE: &str = "edu-shared";

/// How often a worker is killed: each time a little later. A vGPU's transfer to memory is two of the
/// device's, the second of which is to memory, and each takes 100 ms.
const ROUNDS: u8 = 8;
const STEP: Duration = Duration::from_millis(50);

/// When the device would have done what it was at.
const LONG_AFTER: Duration = Duration::from_millis(500);

/// A worker, ended with this.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Worker {
    /// An ordinary user's, who may open nothing of the device's.
    fn start(program: &str, address: &str, more: &[&str]) -> Result<Self, Failure> {
        let control = path("control");
        let _ = fs::remove_file(&control);
        let mut worker = Self(
            Command::new(program)
                .args(["--parent", address, "--control"])
                .arg(&control)
                .args(more)
                .uid(USER)
                .gid(USER)
                .spawn()?,
        );
        let end = Instant::now() + PATIENCE;
        while Control::connect(&control)
            .and_then(|it| it.status())
            .is_err()
        {
            if let Some(status) = worker.0.try_wait()? {
                return Err(format!("the worker has ended: {status}").into());
            }
            if Instant::now() > end {
                return Err("the worker does not answer".into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(worker)
    }

    /// One that is given the device's files.
    fn given(
        program: &str,
        address: &str,
        files: &HostFiles,
        more: &[&str],
    ) -> Result<Self, Failure> {
        let files = offer_parent(files)?;
        fcntl_setfd(&files, FdFlags::empty())?;
        let number = files.as_raw_fd().to_string();
        let mut arguments = vec!["--parent-files", &number];
        arguments.extend(more);
        Self::start(program, address, &arguments)
    }

    fn kill(mut self) -> Result<(), Failure> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

fn control() -> Result<Control, ControlError> {
    Control::connect(&path("control"))
}

/// A vGPU, and what it has parked.
struct Seat {
    name: String,
    listener: OwnedFd,
    parking: Parking,
    _line: OwnedFd,
}

impl Seat {
    fn new(name: &str) -> Result<Self, Failure> {
        // One may be left of another worker.
        let _ = fs::remove_file(path(name));
        let listener: OwnedFd = UnixListener::bind(path(name))?.into();
        let (parking, keeper) = Parking::new()?;
        let files = files(name, &listener, keeper, None)?;
        let line = control()?.serve(&request(), &files, || Ok(()))?;
        Ok(Self {
            name: name.to_owned(),
            listener,
            parking,
            _line: line,
        })
    }

    fn connect(&self) -> Result<UnixStream, Failure> {
        let socket = UnixStream::connect(path(&self.name))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    }

    /// Has another worker go on with it.
    fn hand_on(mut self) -> Result<Self, Failure> {
        while self.parking.take_in()? {}
        let (handing, resume) = Handing::new()?;
        let (mut parking, keeper) = Parking::new()?;
        let files = files(&self.name, &self.listener, keeper, Some(resume))?;
        let parked = self.parking.parked();
        let line = control()?.serve(&request(), &files, || handing.hand_over(parked))?;
        let copies = parked.iter();
        let copies = copies.map(|(id, fd)| Ok((*id, fd.as_fd().try_clone_to_owned()?)));
        parking.fill(copies.collect::<Result<_, std::io::Error>>()?);
        match handing.answer(PATIENCE)? {
            Answer::Ready(outlook) => {
                expect("a client", &outlook.connected, &true)?;
                expect("exactness", &outlook.exact, &true)?;
                handing.go()?;
            }
            Answer::Refused { words } => return Err(words.into()),
        }
        Ok(Self {
            parking,
            _line: line,
            ..self
        })
    }
}

fn request() -> SeatRequest {
    SeatRequest {
        type_name: TYPE.to_owned(),
        ..SeatRequest::default()
    }
}

fn files(
    name: &str,
    listener: &OwnedFd,
    keeper: OwnedFd,
    resume: Option<OwnedFd>,
) -> Result<SeatFiles, Failure> {
    let control = path(&format!("{name}.control"));
    let _ = fs::remove_file(&control);
    Ok(SeatFiles {
        listener: listener.try_clone()?,
        control: seqpacket::listen_at(&control)?,
        keeper: Some(keeper),
        resume,
    })
}

fn open(address: &str) -> Result<HostFiles, Failure> {
    fs::create_dir_all(FOLDER)?;
    chown(FOLDER, Some(USER), Some(USER))?;
    Ok(HostFiles::open(&PciBus::new("/"), address.parse()?)?)
}

fn transfer(to_memory: bool) -> Transfer {
    Transfer {
        to_memory,
        memory: MEMORY,
        at: 0,
        len: PAGE,
    }
}

/// The device gets a page of a byte, and the guest's memory another.
fn prepare(guest: &mut Guest, byte: u8) -> Result<(), Failure> {
    guest.fill(0, &[byte; BUFFER_LEN])?;
    expect("the errno", &guest.transfer(transfer(false))?, &0)?;
    guest.fill(0, &[!byte; BUFFER_LEN])
}

/// The guest's memory has what the device had.
fn check(guest: &Guest, byte: u8) -> Result<(), Failure> {
    let memory = guest.memory()?;
    let is_right = memory[..BUFFER_LEN].iter().all(|&it| it == byte);
    expect("bytes that came back", &is_right, &true)
}

/// Kills workers in the middle of transfers.
pub(crate) fn kills(address: &str, program: &str) -> Result<(), Failure> {
    let held = open(address)?;
    let mut worker = Worker::given(program, address, &held, &[])?;
    let mut seats = [Seat::new("first")?, Seat::new("second")?];
    let mut guests = [
        Guest::new(seats[0].connect()?, 2, IrqIndex::Msi)?,
        Guest::new(seats[1].connect()?, 2, IrqIndex::Msi)?,
    ];
    let mut unfinished = 0;
    for round in 0..ROUNDS {
        for (guest, byte) in guests.iter_mut().zip([round, 0x80 + round]) {
            prepare(guest, byte)?;
        }
        for guest in &mut guests {
            guest.start(transfer(true))?;
        }
        thread::sleep(STEP * u32::from(round));
        worker.kill()?;
        held.quiet()?;
        let before = memories(&guests)?;
        thread::sleep(LONG_AFTER);
        let is_quiet = memories(&guests)? == before;
        expect("memory that nobody writes to", &is_quiet, &true)?;
        let is_unfinished = |memory: &&Vec<u8>| memory[0] == !round || memory[0] == !(0x80 + round);
        unfinished += before.iter().filter(is_unfinished).count();
        worker = Worker::given(program, address, &held, &[])?;
        seats = {
            let [first, second] = seats;
            [first.hand_on()?, second.hand_on()?]
        };
        for (guest, byte) in guests.iter_mut().zip([round, 0x80 + round]) {
            expect("the errno", &guest.finish_again()?, &0)?;
            check(guest, byte)?;
        }
    }
    control()?.stop()?;
    expect("the end", &worker.0.wait()?.success(), &true)?;
    println!("{ROUNDS} workers killed, {unfinished} transfers done again");
    Ok(())
}

fn memories(guests: &[Guest]) -> Result<Vec<Vec<u8>>, Failure> {
    guests.iter().map(Guest::memory).collect()
}

/// A worker that may lock three pages: one vGPU of this kind holds two for itself.
pub(crate) fn locked(address: &str, program: &str) -> Result<(), Failure> {
    let held = open(address)?;
    let _worker = Worker::given(program, address, &held, &["--lock-limit", "12K"])?;
    let first = Seat::new("first")?;
    let mut guest = Guest::new(first.connect()?, 2, IrqIndex::Msi)?;
    for _ in 0..2 {
        match Seat::new("second") {
            Ok(_) => return Err("more is locked than may be".into()),
            Err(error) => println!("{error}"),
        }
    }
    prepare(&mut guest, 0x11)?;
    expect("the errno", &guest.transfer(transfer(true))?, &0)?;
    check(&guest, 0x11)
}

/// A worker that opens the device itself.
pub(crate) fn alone(address: &str, program: &str) -> Result<(), Failure> {
    fs::create_dir_all(FOLDER)?;
    chown(FOLDER, Some(USER), Some(USER))?;
    let socket = path("alone");
    let shown = socket.display().to_string();
    let arguments = ["--type", TYPE, "--socket-path", &shown];
    let mut worker = Worker::start(program, address, &arguments)?;
    let connected = UnixStream::connect(&socket)?;
    connected.set_read_timeout(Some(PATIENCE))?;
    let mut guest = Guest::new(connected, 2, IrqIndex::Intx)?;
    prepare(&mut guest, 0x22)?;
    expect("the errno", &guest.transfer(transfer(true))?, &0)?;
    check(&guest, 0x22)?;
    control()?.stop()?;
    expect("the end", &worker.0.wait()?.success(), &true)?;
    println!("a transfer each way");
    Ok(())
}
