//! `vgpu attach`: what a VMM is to be told, to use a vGPU.
//!
//! All of them share the guest's memory with the worker: without that a device works, but slower.

use std::fmt::Write;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;

use crate::failure::Usage;
use crate::libvirt::domain::Domain;
use crate::libvirt::metadata::Metadata;
use crate::output::{print as print_text, print_json};
use crate::target::Api;
use found::{Found, Several};

mod found;

/// Slots of the guest's first PCI bus: 0 is the bridge's, 31 the chipset's.
const SLOTS: std::ops::RangeInclusive<u8> = 1..=30;

/// Where the first vGPU lies unless it is told. libvirt gives slots from 1 on, so that what it plugs
/// in does not move a vGPU, nor meet one.
const FIRST_SLOT: &str = "0x10";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    several: Several,
    /// For what
    #[arg(short, long, value_enum, default_value = "qemu")]
    format: Format,
    /// The guest's memory; libvirt takes it from the domain, unless it is a whole one
    #[arg(short, long, value_name = "SIZE", default_value = "1G", value_parser = memory_size)]
    memory: String,
    /// For libvirt: print a whole small domain of this name
    #[arg(long, value_name = "NAME", value_parser = domain_name)]
    domain: Option<String>,
    /// For libvirt: the slot of the guest's first PCI bus where the vGPU is; further ones are beside it
    #[arg(long, value_name = "SLOT", default_value = FIRST_SLOT, value_parser = slot)]
    slot: u8,
    /// Print JSON: the text, and the arguments one by one
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: Api,
}

/// Who is to be told.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Format {
    /// QEMU 10.1 or later
    Qemu,
    /// libvirt, with such a QEMU
    Libvirt,
    /// Cloud Hypervisor
    CloudHypervisor,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Attachment<'a> {
    format: Format,
    /// The first one's.
    socket: &'a str,
    sockets: &'a [&'a str],
    text: &'a str,
    /// None for libvirt.
    arguments: Option<&'a [String]>,
}

pub(crate) fn print(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.domain.is_some() && arguments.format != Format::Libvirt {
        return Err(Usage("--domain is for --format libvirt".to_owned()).into());
    }
    let vgpus = found::find(&arguments.several, &arguments.api)?;
    let sockets = vgpus.iter().flat_map(|vgpu| &vgpu.sockets);
    let sockets: Vec<_> = sockets.map(String::as_str).collect();
    let first = sockets.first().context("no UUID is given")?;
    let told = match arguments.format {
        Format::Qemu => Some(qemu(&sockets, &arguments.memory)),
        Format::CloudHypervisor if vgpus.len() > 1 => {
            let words = "one vGPU at a time for Cloud Hypervisor";
            return Err(Usage(words.to_owned()).into());
        }
        Format::CloudHypervisor => Some(cloud_hypervisor(&sockets, &arguments.memory)?),
        Format::Libvirt => None,
    };
    let text = match &told {
        Some(told) => shell_lines(told),
        None => libvirt(arguments, &vgpus)?,
    };
    for vgpu in vgpus.iter().filter(|vgpu| !vgpu.is_running) {
        let uuid = vgpu.uuid;
        eprintln!("vgpu: {uuid} does not run: before its machine, vgpu start {uuid}");
    }
    if arguments.json {
        return print_json(&Attachment {
            format: arguments.format,
            socket: first,
            sockets: &sockets,
            text: &text,
            arguments: told.as_deref(),
        });
    }
    Ok(print_text(&text)?)
}

/// The value of QEMU's `-device`, in a slot if there is one to be in.
fn qemu_device(socket: &str, slot: Option<u8>) -> String {
    // By hand, for its order: QEMU wants the driver's name for nothing else, people do.
    let path = json!(socket);
    let slot = slot.map_or_else(String::new, |slot| format!(r#","addr":"{slot:#x}""#));
    format!(r#"{{"driver":"vfio-user-pci","socket":{{"type":"unix","path":{path}}}{slot}}}"#)
}

fn qemu(sockets: &[&str], memory: &str) -> Vec<String> {
    let backend = format!("memory-backend-memfd,id=vgpu-memory,size={memory},share=on");
    let machine = [
        ["-object", &backend],
        ["-machine", "q35,memory-backend=vgpu-memory"],
        ["-m", memory],
    ];
    let mut told: Vec<_> = machine.concat().into_iter().map(str::to_owned).collect();
    for socket in sockets {
        told.extend(["-device".to_owned(), qemu_device(socket, None)]);
    }
    told
}

fn cloud_hypervisor(sockets: &[&str], memory: &str) -> anyhow::Result<Vec<String>> {
    let mut told = vec!["--memory".to_owned(), format!("size={memory},shared=on")];
    // All after one option: each time it is given it takes the place of the time before.
    told.push("--user-device".to_owned());
    for socket in sockets {
        // Its options are split at commas, whatever stands around them.
        if socket.contains([',', '"', '[', ']']) {
            anyhow::bail!("Cloud Hypervisor cannot be told of a path like {socket}");
        }
        told.push(format!("socket={socket}"));
    }
    Ok(told)
}

fn libvirt(arguments: &Arguments, vgpus: &[Found]) -> anyhow::Result<String> {
    let mut devices = Vec::new();
    let sockets = vgpus.iter().flat_map(|vgpu| &vgpu.sockets);
    for (socket, slot) in sockets.zip(arguments.slot..) {
        if !SLOTS.contains(&slot) {
            let words = format!("there is no slot {slot:#x} for {socket}");
            return Err(Usage(words).into());
        }
        devices.push(qemu_device(socket, Some(slot)));
    }
    let metadata = Metadata {
        api: arguments.api.unusual()?,
        vgpus: vgpus.iter().map(Found::named).collect(),
    };
    let domain = Domain {
        name: arguments.domain.as_deref(),
        memory: &arguments.memory,
        metadata: &metadata,
        devices: &devices,
    };
    Ok(domain.xml())
}

/// Options and their values, a line for each option.
fn shell_lines(arguments: &[String]) -> String {
    let is_option = |word: &String| word.starts_with('-');
    let lines: Vec<_> = arguments
        .chunk_by(|_, next| !is_option(next))
        .map(|line| {
            let words: Vec<_> = line.iter().map(|word| quote(word)).collect();
            words.join(" ")
        })
        .collect();
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", lines.join(" \\\n"));
    text
}

/// A word as a shell reads it.
fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:@+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A number and a unit that QEMU and Cloud Hypervisor read alike.
fn memory_size(text: &str) -> Result<String, String> {
    let digits = text.strip_suffix(['M', 'G']).unwrap_or("");
    match digits.parse::<u32>() {
        Ok(1..) => Ok(text.to_owned()),
        _ => Err("memory is a number with M or G, such as 512M or 4G".to_owned()),
    }
}

/// A name that libvirt takes: it makes a file of it.
fn domain_name(text: &str) -> Result<String, String> {
    let is_good = !text.trim().is_empty() && !text.contains(|c: char| c == '/' || c.is_control());
    match is_good {
        true => Ok(text.to_owned()),
        false => Err("a domain's name has no slash and no control characters".to_owned()),
    }
}

/// A slot as `lspci` and QEMU write it, with 0x before, or as a decimal number.
fn slot(text: &str) -> Result<u8, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16),
        None => text.parse(),
    };
    match number {
        Ok(slot) if SLOTS.contains(&slot) => Ok(slot),
        _ => Err("a slot is a number from 1 to 0x1e".to_owned()),
    }
}

#[cfg(test)]
mod tests;
