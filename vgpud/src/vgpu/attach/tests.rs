use clap::Parser;

use super::*;

const SOCKET: &str = "/run/vgpud/c2177883-f1bb-47f0-914d-32a22e3a8804.sock";

#[test]
fn qemu_is_told_of_the_socket_and_of_shared_memory() {
    let expected = r#"-object memory-backend-memfd,id=vgpu-memory,size=2G,share=on \
-machine q35,memory-backend=vgpu-memory \
-m 2G \
-device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/run/vgpud/c2177883-f1bb-47f0-914d-32a22e3a8804.sock"}}'
"#;
    assert_eq!(shell_lines(&qemu(&[SOCKET], "2G")), expected);
}

#[test]
fn cloud_hypervisor_is_told_of_the_socket_and_of_shared_memory() {
    let expected = "--memory size=512M,shared=on \\\n\
        --user-device socket=/run/vgpud/c2177883-f1bb-47f0-914d-32a22e3a8804.sock\n";
    let told = cloud_hypervisor(&[SOCKET], "512M").unwrap();
    assert_eq!(shell_lines(&told), expected);
    assert!(cloud_hypervisor(&["/a,b"], "1G").is_err());
}

#[test]
fn several_vgpus_are_devices_of_one_memory() {
    let told = qemu(&["/a", "/b"], "1G");
    let count = |word| told.iter().filter(|told| *told == word).count();
    assert_eq!((count("-object"), count("-device")), (1, 2));
    let told = cloud_hypervisor(&["/a", "/b"], "1G").unwrap();
    let expected = "--memory size=1G,shared=on \\\n--user-device socket=/a socket=/b\n";
    assert_eq!(shell_lines(&told), expected);
}

/// What is printed for vGPUs at `/1` and so on, whose UUIDs are 1 and so on.
fn printed(line: &str, count: u128) -> anyhow::Result<String> {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }
    let uuid = uuid::Uuid::nil().to_string();
    let words = ["attach", &uuid, "--api", "/run/vgpud/api.sock"];
    let line = Line::try_parse_from(words.into_iter().chain(line.split_whitespace()))?;
    let vgpus: Vec<_> = (1..=count)
        .map(|n| Found::defined(uuid::Uuid::from_u128(n), vec![format!("/{n}")]))
        .collect();
    libvirt(&line.arguments, &vgpus)
}

#[test]
fn libvirt_is_told_of_the_sockets_of_shared_memory_and_of_names_for_the_hook() {
    let expected = r#"<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <metadata>
    <vgpu:vgpus xmlns:vgpu='urn:vgpud:domain:1'>
      <vgpu:vgpu uuid='00000000-0000-0000-0000-000000000001'/>
      <vgpu:vgpu uuid='00000000-0000-0000-0000-000000000002'/>
    </vgpu:vgpus>
  </metadata>
  <memoryBacking>
    <source type='memfd'/>
    <access mode='shared'/>
  </memoryBacking>
  <qemu:commandline>
    <qemu:arg value='-device'/>
    <qemu:arg value='{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/1"},"addr":"0x10"}'/>
    <qemu:arg value='-device'/>
    <qemu:arg value='{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/2"},"addr":"0x11"}'/>
  </qemu:commandline>
</domain>
"#;
    assert_eq!(printed("", 2).unwrap(), expected);
}

#[test]
fn a_whole_domain_has_a_name_and_memory_and_no_other_display() {
    let xml = printed("--domain a<b --memory 512M --slot 5", 1).unwrap();
    let parsed = roxmltree::Document::parse(&xml).unwrap();
    let text = |name| {
        let mut nodes = parsed.descendants();
        nodes.find(|node| node.has_tag_name(name)).unwrap().text()
    };
    assert_eq!(text("name"), Some("a<b"));
    assert_eq!(text("memory"), Some("512"));
    assert!(xml.contains("<memory unit='MiB'>"), "{xml}");
    assert!(xml.contains(r#""addr":"0x5""#), "{xml}");
    assert!(xml.contains("<model type='none'/>"), "{xml}");
    let read = Metadata::of_domain(xml.as_bytes()).unwrap().unwrap();
    assert_eq!(read.vgpus.len(), 1);
}

#[test]
fn slots_are_on_the_bus_and_names_can_be_files() {
    assert!(printed("--slot 0x1e", 1).is_ok());
    assert!(printed("--slot 0x1e", 2).is_err(), "31 is the chipset's");
    for line in [
        "--slot 0",
        "--slot 31",
        "--slot 0x100",
        "--slot x",
        "--domain a/b",
    ] {
        assert!(printed(line, 1).is_err(), "{line}");
    }
}

#[test]
fn odd_paths_are_quoted_for_each_reader() {
    let odd = r#"/a 'b"&<"#;
    let device = r#"{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/a 'b\"&<"}}"#;
    assert_eq!(qemu_device(odd, None), device);
    let line = shell_lines(&qemu(&[odd], "1G"));
    assert!(line.contains(r#""path":"/a '\''b\"&<""#), "{line}");
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
