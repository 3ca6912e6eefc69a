//! The command line of `vgpu-console`, and of `vgpu console --control`.

use std::net::SocketAddr;
use std::path::PathBuf;

use worker::arguments::SandboxArguments;

/// What it ends with whose arguments make no sense.
pub const BAD_ARGUMENTS: u8 = 2;

/// Shows the display of one vGPU to VNC viewers, until the vGPU is gone.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "vgpu-console", version)]
pub struct Arguments {
    /// The control socket of the vGPU's worker
    #[arg(long, value_name = "PATH", required_unless_present = "inside")]
    pub control: Option<PathBuf>,

    /// Which head of the display to show, from 0
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub head: u32,

    /// The control socket of the worker of a keyboard: what viewers type goes there
    #[arg(long, value_name = "PATH")]
    pub keyboard: Option<PathBuf>,

    /// The control socket of the worker of a tablet: where viewers point goes there
    #[arg(long, value_name = "PATH")]
    pub tablet: Option<PathBuf>,

    /// Where viewers connect: a UNIX socket, made here for this user alone
    #[arg(
        long,
        value_name = "PATH",
        conflicts_with = "fd",
        required_unless_present_any = ["fd", "inside"]
    )]
    pub socket_path: Option<PathBuf>,

    /// The same, a listening socket of whoever starts this
    #[arg(long, value_name = "NUMBER")]
    pub fd: Option<i32>,

    /// Take viewers by TCP too; they need the password, and all that they see and do travels openly
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub tcp: Option<SocketAddr>,

    /// The same, a listening socket of whoever starts this
    #[arg(long, value_name = "NUMBER", conflicts_with = "tcp")]
    pub tcp_fd: Option<i32>,

    /// A file whose first line is the password that TCP asks for: 8 bytes at most
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// The same, an open file of whoever starts this
    #[arg(long, value_name = "NUMBER", conflicts_with = "password_file")]
    pub password_fd: Option<i32>,

    /// What viewers call the picture
    #[arg(long, value_name = "NAME", default_value = "vGPU")]
    pub name: String,

    /// How many seconds the worker may be gone before the vGPU is taken for stopped
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub patience: u64,

    /// How often a second the picture is looked at, at most, while it changes and a viewer waits
    #[arg(long, value_name = "NUMBER", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub fps: u32,

    /// Be the process that viewers talk to: what it needs is open already
    #[arg(long, hide = true)]
    pub inside: bool,

    /// Under which number it finds who runs errands to the keyboard
    #[arg(long, hide = true, requires = "inside")]
    pub keyboard_fd: Option<i32>,

    /// Under which number it finds who runs errands to the tablet
    #[arg(long, hide = true, requires = "inside")]
    pub tablet_fd: Option<i32>,

    /// How the process that viewers talk to is confined.
    #[command(flatten)]
    pub confinement: SandboxArguments,
}
