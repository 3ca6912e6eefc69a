//! `slices`: vGPUs on a physical bochs display, and clients of theirs, in a guest that has the display.
//!
//! Both are asked by lines of text on a socket, so that a test can have them do one thing after the other.
//!
//! - [`serve`]: the parent, and a seat on it for each vGPU, each on a thread of its own.
//! - [`client`]: what a VMM and its guest would do; a process of its own.
//! - [`asked`]: the lines.
//! - [`mapping`]: a region, mapped as a client does.
//! - [`bench`](mod@bench): frames in each of the ways to the card's memory.

mod asked;
mod bench;
mod client;
mod mapping;
mod serve;

use std::error::Error;
use std::process::ExitCode;

/// What something fails with: its words are all that anyone uses.
type Failure = Box<dyn Error + Send + Sync>;

const USAGE: &str = "usage: slices COMMAND
  serve ADDRESS SETTINGS SEAT...  share the card at an address among vGPUs, each given as
                                  TYPE[,NAME=VALUE...]; seat N listens at /tmp/seat-N
  client SEAT NAME                be a client of a seat, given by its number or its socket, and do what
                                  is asked at /tmp/client-NAME
  ask PATH WORDS...               have a server (at /tmp/seats) or a client do something
  bench ADDRESS MILLISECONDS      draw frames for so long in each way to the card's memory, and print
                                  how many nanoseconds one takes";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slices: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[&str]) -> Result<(), Failure> {
    match *args {
        ["serve", address, settings, ref seats @ ..] => serve::run(address, settings, seats),
        ["client", seat, name] => client::run(seat, name),
        ["ask", path, ref words @ ..] => {
            println!("{}", asked::ask(path, words)?);
            Ok(())
        }
        ["bench", address, milliseconds] => bench::run(address, milliseconds.parse()?),
        _ => Err(USAGE.into()),
    }
}
