//! `/init` of the test guests, and every tool that a test runs in one.
//!
//! - [`init`]: brings the guest up, then hands over to [`agent`], or to a Debian by [`switch`].
//! - [`agent`]: runs the host's commands, for as long as the guest lives.
//! - [`kms`]: modes, EDID, and a picture put on the screen through KMS.
//! - [`heads`]: the same on several heads, a hardware cursor, and pictures that come and go.
//! - [`console`]: the text console: its font, a line printed on it.
//! - [`redraw`]: the whole screen drawn anew, again and again.
//! - [`loopback`]: bytes sent round through a UART.
//! - [`tty`]: the ioctls that the last two need.
//! - [`edu`]: the educational device: transfers, interrupts.
//! - [`events`]: what an input device says.
//! - [`inner`]: a client of a vGPU inside the guest.

mod agent;
mod console;
mod edu;
mod events;
mod heads;
mod init;
mod inner;
mod kms;
mod loopback;
mod redraw;
mod switch;
mod tty;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

/// What a subcommand may fail with: its words are all that anyone uses.
type Failure = Box<dyn Error>;

const USAGE: &str = "usage: guest COMMAND
  draw CARD WIDTHxHEIGHT SEED   show the test picture, print the id of the process that holds it
  draw-heads CARD SEED SIZES [X Y]
                                the same on each head, sizes and then screens in order, with commas
                                between; a hardware cursor at X, Y of the last
  heads CARD                    print the mode that each screen prefers
  cycle CARD WIDTHxHEIGHT SECONDS
                                make pictures, show them on each head, let them go; print how often
  redraw CARD WIDTHxHEIGHT SECONDS
                                draw the whole screen anew, again and again; print how often, and
                                in how many nanoseconds
  scroll CARD WIDTHxHEIGHT COUNT
                                draw a picture that scrolls so often; print the microseconds
  release PID                   end such a process, and wait until it has gone
  modes CARD                    print the connected connector's modes
  edid CARD                     print the EDID in hexadecimal
  font                          dump the text console's font
  say TEXT...                   print a line on the text console
  loopback TTY COUNT SEED       send COUNT bytes round through the UART's loop-back
  edu FUNCTION transfers COUNT SEED [START END]
                                make COUNT transfers each way with pages (from START to END)
  edu FUNCTION interrupts COUNT count interrupts through uio_pci_generic
  edu FUNCTION fetch ADDRESS LENGTH
                                have memory read; print errno, and what came in hexadecimal
  edu FUNCTION store ADDRESS LENGTH SEED
                                have noise written to memory; print errno
  events NAME COUNT READY       print the events of an input device until COUNT reports have come;
                                the file READY says that it listens
  agent                         run the host's commands
  inner SOCKET FILE             read a register of the vGPU at SOCKET, an edu, until it fails;
                                write to FILE how often";

fn main() -> ExitCode {
    if rustix::process::getpid().is_init() {
        init::run();
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one subcommand.
fn dispatch(args: &[&str]) -> Result<(), Failure> {
    match *args {
        ["draw", card, size, seed] => kms::draw(&["hold", card, size, seed]),
        ["redraw", card, size, seconds] => {
            redraw::run(Path::new(card), parse_size(size)?, seconds.parse()?)
        }
        ["draw-heads", ref what @ ..] => kms::draw(&[&["hold-heads"], what].concat()),
        ["hold-heads", card, seed, sizes] => {
            heads::hold(Path::new(card), seed.parse()?, &parse_sizes(sizes)?, None)
        }
        ["hold-heads", card, seed, sizes, x, y] => {
            let cursor = Some((x.parse()?, y.parse()?));
            heads::hold(Path::new(card), seed.parse()?, &parse_sizes(sizes)?, cursor)
        }
        ["heads", card] => heads::print(Path::new(card)),
        ["cycle", card, size, seconds] => {
            heads::cycle(Path::new(card), parse_size(size)?, seconds.parse()?)
        }
        ["hold", card, size, seed] => kms::hold(Path::new(card), parse_size(size)?, seed.parse()?),
        ["scroll", card, size, count] => {
            kms::scroll(Path::new(card), parse_size(size)?, count.parse()?)
        }
        ["release", pid] => kms::release(pid.parse()?),
        ["modes", card] => kms::print_modes(Path::new(card)),
        ["edid", card] => kms::print_edid(Path::new(card)),
        ["font"] => console::dump_font(),
        ["say", ref words @ ..] => console::say(&words.join(" ")),
        ["loopback", tty, count, seed] => {
            loopback::run(Path::new(tty), count.parse()?, seed.parse()?)
        }
        ["events", name, count, ready] => events::print(name, count.parse()?, ready),
        ["agent"] => Ok(agent::Agent::open()?.serve()?),
        ["inner", socket, count] => inner::run(Path::new(socket), Path::new(count)),
        ["edu", function, ref what @ ..] => edu::run(function, what),
        _ => Err(USAGE.into()),
    }
}

/// Reads `WIDTHxHEIGHT`.
fn parse_size(text: &str) -> Result<(u16, u16), Failure> {
    let (width, height) = text.split_once('x').ok_or("a size is WIDTHxHEIGHT")?;
    Ok((width.parse()?, height.parse()?))
}

fn parse_sizes(text: &str) -> Result<Vec<(u16, u16)>, Failure> {
    text.split(',').map(parse_size).collect()
}
