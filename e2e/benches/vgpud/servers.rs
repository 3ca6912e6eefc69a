//! What is measured: a server in a process of its own, and a client connected to it.

use std::env;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use e2e::{Programs, Vgpu};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, Shutdown, SocketFlags, SocketType, recvmsg,
    shutdown, socketpair,
};

use crate::cpus::{Pinned, hold_thread};
use crate::peers::Peer;
use crate::proc;
use crate::raw_client::{Access, RawClient, Wait};

/// The type that is measured: the smallest.
const TYPE: &str = "bochs-4m";

/// A server and its client. Dropping it ends the server.
pub(crate) struct Contestant {
    /// For people.
    pub(crate) name: String,
    /// For machines.
    pub(crate) key: String,
    pub(crate) client: RawClient,
    cpus: Vec<usize>,
    pid: u32,
    _process: Process,
}

#[expect(dead_code, reason = "held to be dropped")]
enum Process {
    Vgpu(Box<Vgpu>),
    Peer(PeerProcess),
}

/// A server whose client is elsewhere. Dropping it ends the server.
pub(crate) struct Host {
    pid: u32,
    cpus: Vec<usize>,
    _process: Process,
}

impl Host {
    /// Puts it on some CPUs.
    pub(crate) fn hold_to(&self, cpus: &[usize]) -> anyhow::Result<()> {
        hold_process(self.pid, cpus)
    }

    /// Lets it run where it was started to run.
    pub(crate) fn let_go(&self) -> anyhow::Result<()> {
        hold_process(self.pid, &self.cpus)
    }
}

fn hold_process(pid: u32, cpus: &[usize]) -> anyhow::Result<()> {
    for thread in proc::thread_ids(pid)? {
        hold_thread(thread, cpus)?;
    }
    Ok(())
}

/// A copy of this program.
struct PeerProcess(Child);

impl Contestant {
    /// A vGPU with `--poll POLL`, on `cpus`.
    pub(crate) fn vgpu(programs: &Programs, poll: &str, cpus: &[usize]) -> anyhow::Result<Self> {
        Self::vgpu_of(TYPE, programs, poll, cpus)
    }

    /// The same, of another type.
    pub(crate) fn vgpu_of(
        kind: &str,
        programs: &Programs,
        poll: &str,
        cpus: &[usize],
    ) -> anyhow::Result<Self> {
        let pinned = Pinned::to(cpus)?;
        let mut vgpu = Vgpu::run(programs, kind, &["--poll", poll])?;
        drop(pinned);
        Ok(Self {
            name: format!("vgpud --poll {poll}"),
            key: format!("vgpud-{poll}"),
            client: RawClient::connect(&vgpu.socket())?,
            cpus: cpus.to_vec(),
            pid: vgpu.process().pid(),
            _process: Process::Vgpu(Box::new(vgpu)),
        })
    }

    /// A vGPU with `--poll POLL` that another worker could go on with, on `cpus`: what it parks is
    /// taken in, as the daemon does.
    pub(crate) fn kept(programs: &Programs, poll: &str, cpus: &[usize]) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("kept.sock");
        let listener = UnixListener::bind(&path)?;
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        thread::spawn(move || take_in(&ours));
        let pinned = Pinned::to(cpus)?;
        let child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4<&1 </dev/null >/dev/null"#])
            .arg(programs.ours("vgpu-worker"))
            .args(["--type", TYPE, "--fd", "3", "--keeper", "4", "--poll", poll])
            .stdin(OwnedFd::from(listener))
            .stdout(theirs)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a worker")?;
        let process = PeerProcess(child);
        drop(pinned);
        Ok(Self {
            name: format!("vgpud --poll {poll}, kept"),
            key: format!("vgpud-{poll}-kept"),
            client: RawClient::connect(&path)?,
            cpus: cpus.to_vec(),
            pid: process.0.id(),
            _process: Process::Peer(process),
        })
    }

    /// One of the servers that are not ours, on `cpus`.
    pub(crate) fn peer(peer: Peer, cpus: &[usize]) -> anyhow::Result<Self> {
        let (client, process) = match peer {
            Peer::Floor | Peer::BareMaps => {
                let (ours, theirs) = UnixStream::pair()?;
                let process = PeerProcess::start(peer, theirs.into(), cpus)?;
                (RawClient::new(ours.into()), process)
            }
            Peer::VfioUser => {
                let dir = tempfile::tempdir()?;
                let path = dir.path().join("peer.sock");
                let listener = UnixListener::bind(&path)?;
                let process = PeerProcess::start(peer, listener.into(), cpus)?;
                (RawClient::connect(&path)?, process)
            }
        };
        Ok(Self {
            name: peer.name().to_owned(),
            key: peer.key()?,
            client,
            cpus: cpus.to_vec(),
            pid: process.0.id(),
            _process: Process::Peer(process),
        })
    }

    /// The server apart from its client.
    pub(crate) fn into_client(self) -> (Host, RawClient) {
        let host = Host {
            pid: self.pid,
            cpus: self.cpus,
            _process: self._process,
        };
        (host, self.client)
    }

    /// Whether the server may run where it likes.
    pub(crate) fn is_free(&self) -> bool {
        self.cpus.len() > 1
    }

    /// Moves the server off the client's CPU, if it is free; then it is free again. The kernel
    /// likes to put two that wake each other on one CPU, and then nothing is across CPUs.
    pub(crate) fn move_from(&mut self, client_cpu: usize) -> anyhow::Result<()> {
        if !self.is_free() {
            return Ok(());
        }
        // First its window opens, which it would not on one CPU.
        self.wake(50)?;
        let cpus = self.cpus.iter().copied();
        let others: Vec<usize> = cpus.filter(|cpu| *cpu != client_cpu).collect();
        self.hold(&others)?;
        self.wake(10)?;
        self.hold(&self.cpus)
    }

    fn wake(&mut self, times: usize) -> anyhow::Result<()> {
        let client = &mut self.client;
        client.trips(Access::Read, Wait::Sleep, times, &mut Vec::new())?;
        Ok(())
    }

    fn hold(&self, cpus: &[usize]) -> anyhow::Result<()> {
        hold_process(self.pid, cpus)
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }
}

/// Takes in what a worker parks, and forgets it.
fn take_in(socket: &OwnedFd) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut document = [0; 4096];
    loop {
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut room = [IoSliceMut::new(&mut document)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        match recvmsg(socket, &mut room, &mut ancillary, flags) {
            Ok(message) if message.bytes > 0 => drop(ancillary.drain()),
            _ => return,
        }
    }
}

impl PeerProcess {
    fn start(peer: Peer, socket: OwnedFd, cpus: &[usize]) -> anyhow::Result<Self> {
        let own = env::current_exe().context("cannot tell where this program is")?;
        let _pinned = Pinned::to(cpus)?;
        let child = Command::new(own)
            .args(["--peer", &peer.key()?])
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start a peer")?;
        Ok(Self(child))
    }
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Closes connections if nobody drops it in time, so that no client waits for ever.
pub(crate) struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    /// Gives the clients of `contestants` as long as `limit`.
    pub(crate) fn new(contestants: &[Contestant], limit: Duration) -> anyhow::Result<Self> {
        let sockets = contestants.iter().map(|one| one.client.socket());
        let sockets: Vec<OwnedFd> = sockets.collect::<Result<_, _>>()?;
        let (alive, dropped) = mpsc::channel::<()>();
        thread::spawn(move || {
            if dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                eprintln!("bench: nothing came within {limit:?}");
                for socket in sockets {
                    // It fails only if the connection is closed already.
                    let _ = shutdown(&socket, Shutdown::Both);
                }
            }
        });
        Ok(Self { _alive: alive })
    }
}
