//! What the process that viewers talk to tries in vain. Each act is tried in a process of its own,
//! which is this program again.

use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use clap::Parser;
use console::confinement::confine;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::{pread, pwrite, write};
use worker::arguments::SandboxArguments;

/// Names the act, in the process that is to try it.
const ACT: &str = "CONSOLE_TEST_ACT";

/// The signal of a system call that is refused.
const SIGSYS: i32 = 31;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    confinement: SandboxArguments,
}

#[test]
fn it_reads_the_picture_and_does_nothing_else_to_the_world() {
    for (act, is_allowed) in [
        ("read memory", true),
        ("log", true),
        ("start a thread", true),
        ("make a pair", true),
        ("write memory", false),
        ("write memory at", false),
        ("cut memory", false),
        ("make memory", false),
        ("open a file", false),
        ("make a socket", false),
        ("start a program", false),
        ("signal another", false),
    ] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_act_itself", "--nocapture"])
            .env(ACT, act)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if is_allowed {
            assert!(output.status.success(), "{act}: {said}");
        } else {
            let signal = output.status.signal();
            assert_eq!(signal, Some(SIGSYS), "{act}: {:?} {said}", output.status);
            // The C library blocks signals while it starts a program: then there are no words.
            let has_words = act != "start a program";
            assert!(
                !has_words || said.contains("stopped by the sandbox"),
                "{act}: {said}"
            );
        }
    }
}

/// Does nothing unless it is told what.
#[test]
fn the_act_itself() {
    let Ok(act) = std::env::var(ACT) else { return };
    let memory = memfd_create("picture", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memory, 4096).unwrap();
    confine(&Arguments::parse_from(["test"]).confinement).unwrap();
    let fd = memory.as_fd();
    match act.as_str() {
        "read memory" => assert_eq!(pread(fd, &mut [0; 16], 0), Ok(16)),
        "log" => eprintln!("words"),
        "start a thread" => std::thread::spawn(|| ()).join().unwrap(),
        "make a pair" => drop(std::os::unix::net::UnixStream::pair().unwrap()),
        "write memory" => drop(write(fd, b"x")),
        "write memory at" => drop(pwrite(fd, b"x", 0)),
        "cut memory" => drop(ftruncate(fd, 0)),
        "make memory" => drop(memfd_create("other", MemfdFlags::CLOEXEC)),
        "open a file" => drop(std::fs::read("/etc/passwd")),
        "make a socket" => drop(std::os::unix::net::UnixDatagram::unbound()),
        "start a program" => drop(Command::new("/bin/true").status()),
        "signal another" => {
            let parent = rustix::process::getppid().unwrap();
            let _ = rustix::process::test_kill_process(parent);
        }
        other => panic!("no such act: {other}"),
    }
    // The harness would tell of it on standard output.
    std::process::exit(0);
}
