//! `vgpu console`: a vGPU's display, for VNC viewers.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow};
use vgpud::api::{Console, ConsoleRequest, ConsoleTcp};
use vgpud::programs;

use crate::failure::Usage;
use crate::output::{print, print_json};
use crate::target::{Api, Target};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Which head of the display, from 0; --stop without it ends the consoles of all
    #[arg(long, value_name = "NUMBER")]
    head: Option<u32>,
    /// Take viewers by TCP too: they need the password, and all that they see travels openly
    #[arg(long, value_name = "ADDRESS:PORT", requires = "password_file")]
    tcp: Option<SocketAddr>,
    /// A file whose first line is the password that TCP asks for: 8 characters at most
    #[arg(long, value_name = "FILE", requires = "tcp")]
    password_file: Option<PathBuf>,
    /// End the console that runs; the vGPU goes on
    #[arg(long, conflicts_with_all = ["tcp", "control"])]
    stop: bool,
    /// For a vGPU of `vgpu run`: where viewers connect; without it, the control socket's path with
    /// .vnc at its end
    #[arg(long, value_name = "PATH", requires = "control")]
    socket_path: Option<PathBuf>,
    /// For a vGPU of `vgpu run`: the control socket of an input-keyboard, where viewers type
    #[arg(long, value_name = "PATH", requires = "control")]
    keyboard: Option<PathBuf>,
    /// For a vGPU of `vgpu run`: the control socket of an input-tablet, where viewers point
    #[arg(long, value_name = "PATH", requires = "control")]
    tablet: Option<PathBuf>,
    /// Print what there is as JSON
    #[arg(long, conflicts_with = "control")]
    json: bool,
    #[command(flatten)]
    api: Api,
}

pub(crate) fn console(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(control) = arguments.target.control() {
        return serve(arguments, control);
    }
    let (client, uuid) = arguments.target.daemon(&arguments.api)?;
    if arguments.stop {
        return Ok(client.end_console(uuid, arguments.head)?);
    }
    let tcp = arguments.tcp.zip(arguments.password_file.as_deref());
    let tcp = tcp.map(|(address, file)| {
        let address = address.to_string();
        let password = password(file)?;
        Ok::<_, anyhow::Error>(ConsoleTcp { address, password })
    });
    let request = ConsoleRequest {
        head: arguments.head.unwrap_or(0),
        tcp: tcp.transpose()?,
    };
    let console = client.console(uuid, &request)?;
    if arguments.json {
        return print_json(&console);
    }
    Ok(print(&describe(&console))?)
}

/// Becomes the console of a vGPU that has no daemon. Returns only if that cannot be started.
fn serve(arguments: &Arguments, control: &Path) -> anyhow::Result<()> {
    let program = programs::find(programs::CONSOLE).context("cannot tell where vgpu itself is")?;
    let socket = match (&arguments.socket_path, arguments.head) {
        (Some(path), _) => path.clone(),
        (None, None | Some(0)) => control.with_added_extension("vnc"),
        (None, Some(head)) => control.with_added_extension(format!("{head}.vnc")),
    };
    let mut command = Command::new(&program);
    command.arg("--control").arg(control);
    command.arg("--socket-path").arg(&socket);
    if let Some(head) = arguments.head {
        command.arg(format!("--head={head}"));
    }
    if let (Some(address), Some(file)) = (arguments.tcp, &arguments.password_file) {
        command.arg(format!("--tcp={address}"));
        command.arg("--password-file").arg(file);
    }
    for (option, control) in [
        ("--keyboard", &arguments.keyboard),
        ("--tablet", &arguments.tablet),
    ] {
        if let Some(control) = control {
            command.arg(option).arg(control);
        }
    }
    print(&format!("{}\n", socket.display()))?;
    let error = command.exec();
    Err(anyhow!(error).context(format!("cannot start {}", program.display())))
}

/// The first line of a file that is not for everyone to read.
fn password(file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let what = || format!("cannot read {shown}");
    let mode = fs::metadata(file).with_context(what)?.mode();
    if mode & 0o007 != 0 {
        let words = format!("everyone may read {shown}: 'chmod o= {shown}' first");
        return Err(Usage(words).into());
    }
    let text = fs::read_to_string(file).with_context(what)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Where it is, and what a viewer is told.
fn describe(console: &Console) -> String {
    let mut text = format!("{}\n", console.socket);
    if let Some(address) = &console.tcp {
        text += &format!("{address}\n");
    }
    text + &format!("view it: vncviewer {}\n", console.socket)
}
