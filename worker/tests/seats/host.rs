//! What the daemon does: it starts the worker of a physical device, asks for seats, and keeps what
//! they park.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ::worker::control::{Control, ControlError};
use ::worker::fake_parent::ADDRESS;
use ::worker::parking::{JOURNAL, Parking};
use ::worker::protocol::{Attribute, SeatRequest};
use ::worker::resume::{Answer, Handing, Outlook};
use ::worker::seat::{SeatFiles, offer_parent};
use ::worker::seqpacket;
use command_fds::{CommandFdExt, FdMapping};
use mdev::host::HostFiles;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use vfu::client::Client;
use vfu::wire::version::Capabilities;

/// Longer than anything here takes: a test fails after it rather than hang.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The worker of a physical device.
pub(crate) struct Host {
    pub(crate) child: Child,
    pub(crate) dir: TempDir,
    arguments: Vec<String>,
}

/// A vGPU on it.
pub(crate) struct Seat {
    request: SeatRequest,
    folder: PathBuf,
    listener: OwnedFd,
    parking: Parking,
    /// Can be read once it has ended.
    pub(crate) line: OwnedFd,
}

/// What stands for the files of a device.
fn files() -> HostFiles {
    let file = || File::open("/dev/null").unwrap().into();
    HostFiles {
        container: file(),
        group: file(),
        device: file(),
    }
}

pub(crate) fn request(type_name: &str, attributes: &[(&str, &str)]) -> SeatRequest {
    let attributes = attributes.iter().map(|&(name, value)| Attribute {
        name: name.to_owned(),
        value: value.to_owned(),
    });
    SeatRequest {
        type_name: type_name.to_owned(),
        attributes: attributes.collect(),
        ..SeatRequest::default()
    }
}

impl Host {
    /// With `more` on its command line. Ready when it is returned.
    pub(crate) fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let arguments: Vec<_> = more.iter().map(|&it| it.to_owned()).collect();
        let child = spawn(&dir, &arguments);
        let mut host = Self {
            child,
            dir,
            arguments,
        };
        host.wait_ready();
        host
    }

    fn wait_ready(&mut self) {
        self.wait_until("it answers", |host| {
            let ended = host.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", host.log());
            // It listens before it is ready to answer.
            let control = Control::connect(&host.dir.path().join("control"));
            control.and_then(|control| control.status()).is_ok()
        });
    }

    pub(crate) fn control(&self) -> Control {
        Control::connect(&self.dir.path().join("control")).unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Asks for a seat.
    pub(crate) fn try_serve(
        &self,
        name: &str,
        request: &SeatRequest,
    ) -> Result<Seat, ControlError> {
        let folder = self.dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        let listener: OwnedFd = UnixListener::bind(folder.join("sock")).unwrap().into();
        let (parking, keeper) = Parking::new().unwrap();
        let files = SeatFiles {
            listener: listener.try_clone().unwrap(),
            control: seqpacket::listen_at(&folder.join("control")).unwrap(),
            keeper: Some(keeper),
            resume: None,
        };
        let line = self.control().serve(request, &files, || Ok(()))?;
        Ok(Seat {
            request: request.clone(),
            folder,
            listener,
            parking,
            line,
        })
    }

    pub(crate) fn serve(&self, name: &str, type_name: &str) -> Seat {
        let request = SeatRequest {
            name: Some(name.to_owned()),
            ..request(type_name, &[])
        };
        self.try_serve(name, &request).unwrap()
    }

    pub(crate) fn kill(&mut self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Starts another worker in place of one that is gone.
    pub(crate) fn start_next(&mut self) {
        self.end();
        let _ = fs::remove_file(self.dir.path().join("control"));
        self.child = spawn(&self.dir, &self.arguments);
        self.wait_ready();
    }

    /// Has the worker go on with a seat of the one that is gone.
    pub(crate) fn recover(&self, seat: &mut Seat) -> Result<Outlook, ControlError> {
        let (handing, outlook) = self.hand(seat)?;
        handing.go().unwrap();
        Ok(outlook)
    }

    /// The same, but for the word to go on.
    pub(crate) fn hand(&self, seat: &mut Seat) -> Result<(Handing, Outlook), ControlError> {
        seat.take_in_all();
        assert!(seat.parking.parked().contains_key(&JOURNAL));
        let (mut parking, keeper) = Parking::new().unwrap();
        let (handing, resume) = Handing::new().unwrap();
        let _ = fs::remove_file(seat.folder.join("control"));
        let files = SeatFiles {
            listener: seat.listener.try_clone().unwrap(),
            control: seqpacket::listen_at(&seat.folder.join("control")).unwrap(),
            keeper: Some(keeper),
            resume: Some(resume),
        };
        let parked = seat.parking.parked();
        let line = self
            .control()
            .serve(&seat.request, &files, || handing.hand_over(parked))?;
        let copies = parked.iter();
        let copies = copies.map(|(id, fd)| (*id, fd.as_fd().try_clone_to_owned().unwrap()));
        parking.fill(copies.collect());
        let answer = handing.answer(DEADLINE).unwrap();
        (seat.parking, seat.line) = (parking, line);
        match answer {
            Answer::Ready(outlook) => Ok((handing, outlook)),
            Answer::Refused { words } => panic!("{words}"),
        }
    }

    /// Waits for the end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.wait_until("it ends", |host| host.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }

    /// Ends it well: nothing was refused.
    pub(crate) fn stop(mut self) {
        self.control().stop().unwrap();
        let end = self.end();
        assert!(end.success(), "{end}: {}", self.log());
        assert!(!self.dir.path().join("control").exists());
    }

    /// Its threads, and its descriptors.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let count = |folder| {
            let folder = format!("/proc/{}/{folder}", self.child.id());
            fs::read_dir(folder).unwrap().count()
        };
        (count("task"), count("fd"))
    }

    /// How many files of memory it has mapped.
    pub(crate) fn mapped_files(&self) -> usize {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.child.id()));
        let maps = maps.unwrap();
        maps.lines().filter(|line| line.contains("/memfd:")).count()
    }

    /// Waits until it has as many threads and descriptors: those who asked may still be going.
    pub(crate) fn wait_counts(&mut self, expected: (usize, usize)) {
        self.wait_until("nothing is left", |host| host.counts() == expected);
    }

    pub(crate) fn wait_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_so(self) {
            let log = self.log();
            let counts = self.counts();
            assert!(
                Instant::now() < deadline,
                "never so: {what}; {counts:?}; {log}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Seat {
    pub(crate) fn control(&self) -> Control {
        Control::connect(&self.folder.join("control")).unwrap()
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let socket = UnixStream::connect(self.folder.join("sock")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    }

    /// A VMM that cannot be asked for memory by messages.
    pub(crate) fn client(&self) -> Client {
        let offer = Capabilities {
            max_msg_fds: Some(16),
            ..Capabilities::default()
        };
        Client::negotiate(self.connect().into(), offer).unwrap()
    }

    /// Waits until it has parked this.
    pub(crate) fn wait_parked(&mut self, id: u32) {
        let deadline = Instant::now() + DEADLINE;
        while !self.parking.parked().contains_key(&id) {
            assert!(Instant::now() < deadline, "{id} was not parked");
            self.parking.take_in().unwrap();
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes in all that it has parked, its worker or it being gone.
    fn take_in_all(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        while self.parking.take_in().unwrap() {
            assert!(
                Instant::now() < deadline,
                "somebody has the keeper's socket"
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Forgets something that was parked.
    pub(crate) fn lose(&mut self) {
        let (parking, _) = Parking::new().unwrap();
        let lost = std::mem::replace(&mut self.parking, parking);
        let mut left = lost.into_parked();
        left.insert(JOURNAL, File::open("/dev/null").unwrap().into());
        self.parking.fill(left);
    }

    /// Waits until nothing of it is left.
    pub(crate) fn wait_end(&mut self) {
        wait_closed(&self.line);
        // Nobody has its end of the keeper's socket any more.
        assert!(!self.parking.take_in().unwrap());
        assert!(Control::connect(&self.folder.join("control")).is_err());
    }
}

/// Waits until the other end of a socket is closed.
pub(crate) fn wait_closed(socket: &impl AsFd) {
    let limit = Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&limit)), Ok(1));
    assert!(fds[0].revents().contains(PollFlags::HUP));
}

fn spawn(dir: &TempDir, arguments: &[String]) -> Child {
    let parent_fd = offer_parent(&files()).unwrap();
    let log = File::options()
        .append(true)
        .create(true)
        .open(dir.path().join("log"));
    let mut command = command(dir.path());
    command
        .args(["--parent-files", "3", "--control", "control"])
        .args(arguments)
        .stderr(log.unwrap())
        .fd_mappings(vec![FdMapping {
            parent_fd,
            child_fd: 3,
        }])
        .unwrap();
    command.spawn().unwrap()
}

/// A worker of the fake device's.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vgpu-worker"));
    command
        .args(["--parent", ADDRESS])
        .arg0("vgpu-worker")
        .env_clear()
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}
