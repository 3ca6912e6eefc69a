//! The daemon shares the card, in a worker that is confined, and goes on with another worker.

use e2e::Result;

use super::*;

/// A vGPU for each way to the card's memory.
const VGPUS: [(&str, &str); 3] = [
    ("c0000000-0000-4000-8000-000000000001", "trap"),
    ("c0000000-0000-4000-8000-000000000002", "shadow"),
    ("c0000000-0000-4000-8000-000000000003", "direct"),
];

/// Workers are started without an environment, and what they are linked with lies where no loader
/// of theirs may look.
const WORKER: &str = "#!/bin/sh\nexec env LD_LIBRARY_PATH=/lib /bin/vgpu-worker \"$@\"\n";

/// A guest with a card, and a daemon whose administrator trusts VMMs with that.
fn start(programs: &Programs) -> Result<(Vm, String)> {
    let mut vm = machine(programs, "bochs-display")
        .memory_mib(1536)
        .our_program("vgpu")?
        .our_program("vgpud")?
        .our_program("vgpu-worker")?
        .file("bin/worker", WORKER)
        .boot()?;
    let function = vm.guest.give(BOCHS).unwrap();
    vm.guest.sh(&format!(
        "printf '[parents.\"{function}\"]\\ndirect = true\\n' >/etc/vgpud.toml
         LD_LIBRARY_PATH=/lib vgpud --config /etc/vgpud.toml --worker /bin/worker \
         </dev/null >/vgpud.log 2>&1 &"
    ))?;
    let wait = "for try in $(seq 40); do
            LD_LIBRARY_PATH=/lib vgpu types | grep -q bochs-slice && exit 0
            sleep 0.2
        done; cat /vgpud.log >&2; exit 1";
    vm.guest.bytes_within(wait, LIMIT)?;
    Ok((vm, function))
}

/// What a command prints, which has to end well.
fn vgpu(guest: &mut Guest, command: &str) -> String {
    let output = guest.run(&format!("LD_LIBRARY_PATH=/lib vgpu {command}"));
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status != 0 {
        let log = guest.sh("cat /vgpud.log /run/vgpud/*.log").unwrap();
        panic!("vgpu {command}: {words}\n{log}");
    }
    said.trim().to_owned()
}

fn bring_to_front(guest: &mut Guest, number: usize) {
    let (uuid, _) = VGPUS[number];
    let command = format!("modify {uuid} --live --addattr foreground --value on");
    vgpu(guest, &command);
}

/// What `vgpu screenshot` sees.
fn seen(guest: &mut Guest, number: usize) -> Screen {
    let (uuid, _) = VGPUS[number];
    vgpu(guest, &format!("screenshot {uuid} /tmp/seen.png --quiet"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), guest.bytes("cat /tmp/seen.png").unwrap()).unwrap();
    Screen::read_png(file.path()).unwrap()
}

fn worker(guest: &mut Guest) -> String {
    let (uuid, _) = VGPUS[0];
    let shown = vgpu(guest, &format!("show {uuid} --json"));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    shown["instance"]["pid"].to_string()
}

/// All of them are right, in the first picture and in their consoles.
fn check_all(vm: &mut Vm, seed: u32) {
    for (number, (_, way)) in VGPUS.iter().enumerate() {
        let seed = seed + number as u32;
        bring_to_front(&mut vm.guest, number);
        check(vm, seed, way);
        assert!(is_picture(&seen(&mut vm.guest, number), seed), "{way}");
    }
}

#[test]
fn the_daemons_vgpus_are_shown_and_keep_their_pictures_when_their_worker_is_killed() {
    let programs = Programs::from_env().unwrap();
    let (mut vm, function) = start(&programs).unwrap();
    for (number, (uuid, way)) in VGPUS.iter().enumerate() {
        let guest = &mut vm.guest;
        let kind = "-t bochs-slice-4m";
        vgpu(
            guest,
            &format!("start {uuid} -p {function} {kind} --attr aperture={way}"),
        );
        let command = format!("slices client /run/vgpud/{uuid}.sock {number}");
        let begin = format!("{command} >/tmp/client-{number}.log 2>&1 &");
        guest.sh(&begin).unwrap();
        let draw = format!("draw 640 480 {} {}", 50 + number, 7 * number);
        client(guest, number, &draw);
    }
    check_all(&mut vm, 50);

    // The last one is in front: another worker shows it again, and has all the others' pictures.
    let before = worker(&mut vm.guest);
    vm.guest.sh(&format!("kill -KILL {before}")).unwrap();
    for (uuid, _) in VGPUS {
        let show = format!("LD_LIBRARY_PATH=/lib vgpu show {uuid}");
        vm.guest
            .wait_for(&format!("{show} | grep -q 'state.*running'"))
            .unwrap();
    }
    assert_ne!(worker(&mut vm.guest), before);
    wait_for(&mut vm, 52, "what was in front");
    check_all(&mut vm, 50);
    for number in 0..VGPUS.len() {
        let draw = format!("draw 640 480 {} {}", 60 + number, 9 * number);
        client(&mut vm.guest, number, &draw);
    }
    wait_for(&mut vm, 62, "what is drawn since");
    check_all(&mut vm, 60);
    for number in 0..VGPUS.len() {
        client(&mut vm.guest, number, "end");
    }
    println!("{}", vm.guest.sh("cat /vgpud.log").unwrap());
}
