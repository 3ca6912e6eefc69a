//! How long it takes until a vGPU is ready: asked for over the API, by `vgpu start`, and as its
//! worker alone takes.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use e2e::{Daemon, Programs};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};
use serde_json::{Value, json};

use crate::report::{Ratio, Report};
use crate::stats::{median, percentile_99};

/// What is started: as the other measurements of many.
const TYPE: &str = "bochs-4m";

/// How many of each way, in turn.
const STARTS: usize = 100;
const QUICK: usize = 10;

/// What is wanted of one that is asked for over the API: milliseconds, in the middle.
const READY_MS: f64 = 10.0;

/// How often a worker that was started by hand is looked for, and how long.
const LOOK: Duration = Duration::from_micros(100);
const PATIENCE: Duration = Duration::from_secs(10);

/// One way to have a vGPU, and how long each took.
struct Way {
    key: &'static str,
    name: &'static str,
    target_ms: Option<f64>,
    took_ns: Vec<f64>,
}

impl Way {
    fn new(key: &'static str, name: &'static str, target_ms: Option<f64>) -> Self {
        Self {
            key,
            name,
            target_ms,
            took_ns: Vec::new(),
        }
    }

    fn note(&mut self, took: Duration) {
        self.took_ns.push(took.as_secs_f64() * 1e9);
    }
}

/// Measures on a daemon with nothing else to do. Each vGPU is removed before the next.
pub(crate) fn measure(programs: &Programs, quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let starts = if quick { QUICK } else { STARTS };
    report.heading(
        "One vGPU, until it is ready",
        &format!(
            "{starts} of {TYPE}, one at a time, until its worker has answered, against such a \
             worker started by hand; wanted: {READY_MS} ms"
        ),
    );
    let daemon = Daemon::run(programs)?;
    let mut alone = Way::new("alone", "the worker alone", None);
    let mut post = Way::new("post", "POST /v1/instances", Some(READY_MS));
    let mut start = Way::new("start", "vgpu start", None);
    for _ in 0..starts {
        alone.note(start_alone(&programs.ours("vgpu-worker"))?);
        let begin = Instant::now();
        let made = ask(&daemon, "POST", "/v1/instances")?;
        post.note(begin.elapsed());
        let uuid = made["uuid"].as_str().context("no UUID")?;
        remove(&daemon, uuid)?;
        let begin = Instant::now();
        let instance = daemon.start(TYPE, &[])?;
        start.note(begin.elapsed());
        remove(&daemon, &instance.uuid)?;
    }
    for way in [&post, &start] {
        report.ratio(&Ratio {
            name: format!("ready/{}", way.key),
            what: way.name.to_owned(),
            ours: &way.took_ns,
            floor: &alone.took_ns,
            target: None,
        });
    }
    let ways = [alone, post, start].map(|way| tell(&way, report));
    report.add("ready", json!({ "count": starts, "ways": ways }));
    Ok(())
}

fn tell(way: &Way, report: &mut Report) -> Value {
    let [middle, p99] = [median(&way.took_ns), percentile_99(&way.took_ns)].map(|ns| ns / 1e6);
    let verdict = report.judge(way.target_ms.map(|target| middle <= target));
    let separator = if verdict.is_empty() { "" } else { ": " };
    report.line(&format!(
        "{}: {middle:.2} ms, 99 of 100 in {p99:.2}{separator}{verdict}",
        way.name
    ));
    json!({ "name": way.key, "median_ms": middle, "p99_ms": p99, "verdict": verdict })
}

fn remove(daemon: &Daemon, uuid: &str) -> anyhow::Result<()> {
    ask(daemon, "DELETE", &format!("/v1/instances/{uuid}")).map(drop)
}

/// One request to the API over a connection of its own: what was answered.
fn ask(daemon: &Daemon, method: &str, path: &str) -> anyhow::Result<Value> {
    let body = match method {
        "POST" => json!({ "parent": "soft0", "type": TYPE }).to_string(),
        _ => String::new(),
    };
    let mut stream = UnixStream::connect(daemon.api())?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    if !head.starts_with("HTTP/1.1 2") {
        bail!("{method} {path}: {answer}");
    }
    Ok(serde_json::from_str(body).unwrap_or_default())
}

/// A worker that is a process of ours. Dropping it ends it.
struct Alone(Child);

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// From the start of a worker's process until it has answered.
fn start_alone(program: &Path) -> anyhow::Result<Duration> {
    let folder = tempfile::tempdir()?;
    let control = folder.path().join("control");
    let mut command = Command::new(program);
    command
        .args(["--type", TYPE, "--socket-path"])
        .arg(folder.path().join("socket"))
        .arg("--control")
        .arg(&control)
        .stderr(Stdio::null());
    let begin = Instant::now();
    let mut alone = Alone(command.spawn()?);
    while !has_answered(&control) {
        if let Some(status) = alone.0.try_wait()? {
            bail!("a worker ended: {status}");
        }
        if begin.elapsed() > PATIENCE {
            bail!("a worker does not answer");
        }
        thread::sleep(LOOK);
    }
    Ok(begin.elapsed())
}

/// Asks for its status. No answer is one that comes later.
fn has_answered(control: &Path) -> bool {
    let answer = || -> rustix::io::Result<usize> {
        let kind = SocketType::SEQPACKET;
        let socket: OwnedFd = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &SocketAddrUnix::new(control)?)?;
        let request = br#"{"version":1,"request":"status"}"#;
        send(&socket, request, SendFlags::NOSIGNAL)?;
        let mut answer = vec![0; 1 << 16];
        recv(&socket, &mut answer, RecvFlags::empty()).map(|(length, _)| length)
    };
    answer().is_ok_and(|length| length > 0)
}
