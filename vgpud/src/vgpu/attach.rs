//! `vgpu attach`: what a VMM is to be told, to use a vGPU.
//!
//! All of them share the guest's memory with the worker: without that a device works, but slower.

use std::fmt::Write;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;
use vgpud::api::InstanceState;

use crate::output::{print as print_text, print_json};
use crate::target::{Api, Named};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// For what
    #[arg(short, long, value_enum, default_value = "qemu")]
    format: Format,
    /// The guest's memory; libvirt takes it from the domain
    #[arg(short, long, value_name = "SIZE", default_value = "1G", value_parser = memory_size)]
    memory: String,
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
    socket: &'a str,
    text: &'a str,
    /// None for libvirt.
    arguments: Option<&'a [String]>,
}

pub(crate) fn print(arguments: &Arguments) -> anyhow::Result<()> {
    let client = arguments.api.client()?;
    let instance = client.instance(arguments.named.uuid()?)?;
    let told = match arguments.format {
        Format::Qemu => Some(qemu(&instance.socket, &arguments.memory)),
        Format::CloudHypervisor => Some(cloud_hypervisor(&instance.socket, &arguments.memory)?),
        Format::Libvirt => None,
    };
    let text = match &told {
        Some(told) => shell_lines(told),
        None => libvirt(&instance.socket),
    };
    if instance.state != InstanceState::Running {
        let uuid = instance.uuid;
        eprintln!("vgpu: {uuid} does not run: before its machine, vgpu start {uuid}");
    }
    if arguments.json {
        return print_json(&Attachment {
            format: arguments.format,
            socket: &instance.socket,
            text: &text,
            arguments: told.as_deref(),
        });
    }
    Ok(print_text(&text)?)
}

/// The value of QEMU's `-device`.
fn qemu_device(socket: &str) -> String {
    // By hand, for its order: QEMU wants the driver's name for nothing else, people do.
    let path = json!(socket);
    format!(r#"{{"driver":"vfio-user-pci","socket":{{"type":"unix","path":{path}}}}}"#)
}

fn qemu(socket: &str, memory: &str) -> Vec<String> {
    let backend = format!("memory-backend-memfd,id=vgpu-memory,size={memory},share=on");
    let device = qemu_device(socket);
    [
        ["-object", &backend],
        ["-machine", "q35,memory-backend=vgpu-memory"],
        ["-m", memory],
        ["-device", &device],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect()
}

fn cloud_hypervisor(socket: &str, memory: &str) -> anyhow::Result<Vec<String>> {
    // Its options are split at commas, whatever stands around them.
    let is_plain = !socket.contains([',', '"', '[', ']']);
    is_plain
        .then(|| {
            vec![
                "--memory".to_owned(),
                format!("size={memory},shared=on"),
                "--user-device".to_owned(),
                format!("socket={socket}"),
            ]
        })
        .with_context(|| format!("Cloud Hypervisor cannot be told of a path like {socket}"))
}

fn libvirt(socket: &str) -> String {
    let device = escape_xml(&qemu_device(socket));
    format!(
        "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <memoryBacking>
    <source type='memfd'/>
    <access mode='shared'/>
  </memoryBacking>
  <qemu:commandline>
    <qemu:arg value='-device'/>
    <qemu:arg value='{device}'/>
  </qemu:commandline>
</domain>
"
    )
}

/// Text inside an attribute in single quotes.
fn escape_xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '\'' => escaped.push_str("&apos;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Options and their values, a line for each pair.
fn shell_lines(arguments: &[String]) -> String {
    let lines: Vec<_> = arguments
        .chunks(2)
        .map(|pair| {
            let words: Vec<_> = pair.iter().map(|word| quote(word)).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKET: &str = "/run/vgpud/c2177883-f1bb-47f0-914d-32a22e3a8804.sock";

    #[test]
    fn qemu_is_told_of_the_socket_and_of_shared_memory() {
        let expected = r#"-object memory-backend-memfd,id=vgpu-memory,size=2G,share=on \
-machine q35,memory-backend=vgpu-memory \
-m 2G \
-device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/run/vgpud/c2177883-f1bb-47f0-914d-32a22e3a8804.sock"}}'
"#;
        assert_eq!(shell_lines(&qemu(SOCKET, "2G")), expected);
    }

    #[test]
    fn cloud_hypervisor_is_told_of_the_socket_and_of_shared_memory() {
        let expected = "--memory size=512M,shared=on \\\n\
            --user-device socket=/run/vgpud/c2177883-f1bb-47f0-914d-32a22e3a8804.sock\n";
        let told = cloud_hypervisor(SOCKET, "512M").unwrap();
        assert_eq!(shell_lines(&told), expected);
        assert!(cloud_hypervisor("/a,b", "1G").is_err());
    }

    #[test]
    fn libvirt_is_told_of_the_socket_and_of_shared_memory() {
        let expected = r#"<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <memoryBacking>
    <source type='memfd'/>
    <access mode='shared'/>
  </memoryBacking>
  <qemu:commandline>
    <qemu:arg value='-device'/>
    <qemu:arg value='{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/run/vgpud/c2177883-f1bb-47f0-914d-32a22e3a8804.sock"}}'/>
  </qemu:commandline>
</domain>
"#;
        assert_eq!(libvirt(SOCKET), expected);
    }

    #[test]
    fn odd_paths_are_quoted_for_each_reader() {
        let odd = r#"/a 'b"&<"#;
        let device = r#"{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/a 'b\"&<"}}"#;
        assert_eq!(qemu_device(odd), device);
        let line = shell_lines(&qemu(odd, "1G"));
        assert!(line.contains(r#""path":"/a '\''b\"&<""#), "{line}");
        let xml = libvirt(odd);
        assert!(xml.contains(r#""path":"/a &apos;b\"&amp;&lt;""#), "{xml}");
    }

    #[test]
    fn memory_has_a_unit() {
        for (text, is_good) in [
            ("1G", true),
            ("512M", true),
            ("0G", false),
            ("1", false),
            ("G", false),
            ("-1G", false),
            ("1G,share=off", false),
            ("", false),
        ] {
            assert_eq!(memory_size(text).is_ok(), is_good, "{text}");
        }
    }
}
