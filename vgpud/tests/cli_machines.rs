//! The command line against the real daemon, with machines: how they are told of a vGPU, what it
//! shows and is, and what happens.

mod cli_support;
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use cli_support::{command, json_of, run, text};
use serde_json::{Value, json};
use support::{Daemon, uuid, wait_for};
use vfu::client::Client as Vmm;

#[test]
fn a_machine_keeps_its_device_unless_forced() {
    let daemon = Daemon::start();
    let instance = daemon.create(uuid(1), "edu-1");
    let vmm = Vmm::connect(instance.socket.as_ref()).unwrap();
    let refused = run(&daemon, &format!("stop {}", uuid(1)));
    assert_eq!(refused.status.code(), Some(1));
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(
        words.contains("(EBUSY)") && words.contains("remedy: "),
        "{words}"
    );
    text(&daemon, &format!("stop {} --force", uuid(1)));
    assert_eq!(text(&daemon, "list"), "");
    drop(vmm);
}

#[test]
fn a_picture_and_a_state_are_saved_and_a_state_restored() {
    let daemon = Daemon::start();
    let [one, two] = [1, 2].map(|number| daemon.create(uuid(number), "bochs-4m"));
    let mut vmm = Vmm::connect(one.socket.as_ref()).unwrap();
    // Memory decoding, in the command register; then the display's own registers: 640x480, 32 bits,
    // enabled (PCI 3.0, 6.2.2; QEMU, docs/specs/standard-vga.rst).
    vmm.region_write(7, 4, &2_u16.to_le_bytes()).unwrap();
    for (register, value) in [(1, 640_u16), (2, 480), (3, 32), (4, 0x41)] {
        let offset = 0x500 + 2 * register;
        vmm.region_write(2, offset, &value.to_le_bytes()).unwrap();
    }
    let line = format!("screenshot {} shot.png", one.uuid);
    assert_eq!(text(&daemon, &line), "shot.png: 640x480\n");
    let picture = fs::read(daemon.path("shot.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    let to_pipe = run(&daemon, &format!("screenshot {} -", one.uuid));
    assert_eq!(to_pipe.stdout, picture);
    let by_control = format!("screenshot --control {} other.png --json", one.control);
    assert_eq!(json_of(&daemon, &by_control)["width"], 640);
    assert_eq!(fs::read(daemon.path("other.png")).unwrap(), picture);
    drop(vmm);
    text(&daemon, &format!("save {} state", one.uuid));
    text(&daemon, &format!("restore {} state", two.uuid));
    text(&daemon, &format!("save -u {} again", two.uuid));
    let [state, again] = ["state", "again"].map(|name| fs::read(daemon.path(name)).unwrap());
    assert_eq!(state, again);
    text(&daemon, &format!("restore --control {} state", one.control));
    text(&daemon, &format!("save --control {} third", one.control));
    assert_eq!(fs::read(daemon.path("third")).unwrap(), state);
    text(&daemon, &format!("stop --control {}", one.control));
}

#[test]
fn a_machine_is_told_where_its_vgpu_is() {
    let daemon = Daemon::start();
    let instance = daemon.create(uuid(1), "edu-1");
    let socket = &instance.socket;
    for (format, memory, expected) in [
        (
            "qemu",
            "1G",
            vec![
                "-object",
                "memory-backend-memfd,id=vgpu-memory,size=1G,share=on",
                "-machine",
                "q35,memory-backend=vgpu-memory",
                "-m",
                "1G",
                "-device",
                &format!(
                    r#"{{"driver":"vfio-user-pci","socket":{{"type":"unix","path":"{socket}"}}}}"#
                ),
            ],
        ),
        (
            "cloud-hypervisor",
            "512M",
            vec![
                "--memory",
                "size=512M,shared=on",
                "--user-device",
                &format!("socket={socket}"),
            ],
        ),
    ] {
        let line = format!("attach {} --format {format} --memory {memory}", uuid(1));
        let told = json_of(&daemon, &format!("{line} --json"));
        assert_eq!(told["arguments"], json!(expected));
        // A shell takes what is printed apart into the same words.
        let printed = text(&daemon, &line);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("printf '%s\\n' {printed}")]);
        let words = String::from_utf8(shell.output().unwrap().stdout).unwrap();
        assert_eq!(words.lines().collect::<Vec<_>>(), expected);
    }
    let xml = text(&daemon, &format!("attach {} --format libvirt", uuid(1)));
    assert!(xml.contains(socket), "{xml}");
    let told = json_of(
        &daemon,
        &format!("attach {} --format libvirt --json", uuid(1)),
    );
    assert_eq!(told["text"], xml);
    assert_eq!(told["arguments"], Value::Null);
}

#[test]
fn events_are_told_as_lines_and_end_with_the_daemon() {
    let mut daemon = Daemon::start();
    let listening = command(&daemon, "events --since 0 --json")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut listening = listening.unwrap();
    daemon.create(uuid(1), "edu-1");
    let words = text(
        &daemon,
        &format!("events --since 0 -n 2 --uuid {}", uuid(1)),
    );
    let lines: Vec<_> = words.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].contains(&format!("Z created {} soft0 ", uuid(1))),
        "{words}"
    );
    assert!(lines[1].contains(" started "), "{words}");
    let mut output = BufReader::new(listening.stdout.take().unwrap());
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(first["kind"], "created");
    daemon.kill();
    let code = wait_for("end", || listening.try_wait().unwrap());
    assert_eq!(code.code(), Some(3));
}
