//! The package of Debian, in a Debian with systemd: installed, started by its socket and at boot,
//! upgraded under a client that notices nothing, removed, purged.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::{Programs, Vm, system};
use serde_json::Value;

/// For dpkg, and what it has systemd do, under emulation.
const LIMIT: Duration = Duration::from_secs(180);

/// Where the packages are in the guest.
const FILES: &str = "/run/files";

/// What is defined to start by itself.
const AUTO: &str = "0c3ad9de-51f7-4b7c-9f2e-7d0a1c52a001";

/// A higher version than any that is built.
const LATER: &str = "99.0-1";

/// Packs the package anew as a later version.
fn make_later(deb: &Path, later: &Path, scratch: &Path) {
    let tree = scratch.join("tree");
    let dpkg_deb = |arguments: &[&Path]| {
        let status = Command::new("dpkg-deb").args(arguments).status().unwrap();
        assert!(status.success(), "{arguments:?}");
    };
    dpkg_deb(&["-R".as_ref(), deb, &tree]);
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    let lines = text.lines().map(|line| match line.split_once(": ") {
        Some(("Version", _)) => format!("Version: {LATER}\n"),
        _ => format!("{line}\n"),
    });
    fs::write(&control, lines.collect::<String>()).unwrap();
    // Of all files root is the owner, whoever packs them.
    let args = ["--root-owner-group", "-Zgzip", "-z1", "-b"].map(Path::new);
    dpkg_deb(&[&args[..], &[&tree, later]].concat());
}

/// A disk with both packages.
fn packages(scratch: &Path) -> PathBuf {
    let deb = env::var_os("VGPUD_DEB").expect("VGPUD_DEB is not set: run ./x test");
    let (files, image) = (scratch.join("files"), scratch.join("files.ext4"));
    fs::create_dir(&files).unwrap();
    fs::copy(&deb, files.join("now.deb")).unwrap();
    make_later(deb.as_ref(), &files.join("later.deb"), scratch);
    system::files_image(&files, &image).unwrap();
    image
}

fn run(vm: &mut Vm, command: &str) -> String {
    let output = vm.guest.run_within(command, LIMIT).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status, 0, "{command}: {said}");
    said.trim_end().to_owned()
}

fn mount_files(vm: &mut Vm) {
    run(
        vm,
        &format!("mkdir -p {FILES} && mount -o ro /dev/vdb {FILES}"),
    );
}

/// What is known of a vGPU.
fn show(vm: &mut Vm, uuid: &str) -> Value {
    let all: Vec<Value> = serde_json::from_str(&run(vm, "vgpu list --json")).unwrap();
    let mut its = all.into_iter().filter(|it| it["uuid"] == uuid);
    its.next().unwrap()
}

/// Every file on the disk, but for where a system keeps its own accounts.
fn files(vm: &mut Vm) -> Vec<String> {
    let own = ["/var/lib/dpkg", "/var/lib/systemd", "/var/log", "/var/tmp"];
    let own = own.map(|folder| format!("-path {folder} -prune -o"));
    let all = run(vm, &format!("find / -xdev {} -print | sort", own.join(" ")));
    all.lines().map(str::to_owned).collect()
}

/// Nothing of ours went wrong since the machine started.
fn check_journal(vm: &mut Vm) {
    let units = "-u vgpud.service -u vgpud.socket -u vgpud-mdev.service";
    let errors = run(vm, &format!("journalctl -b -q -p err --no-pager {units}"));
    assert_eq!(errors, "");
    // As of a system call that was not foreseen.
    let kernel = run(vm, "journalctl -b -q -k -o cat --no-pager");
    let ours = kernel
        .lines()
        .filter(|line| line.contains("vgpud[") || line.contains("vgpu-worker"));
    assert_eq!(ours.collect::<Vec<_>>(), [""; 0]);
}

fn install(vm: &mut Vm) {
    run(vm, &format!("dpkg -i {FILES}/now.deb"));
    for unit in ["vgpud.service", "vgpud.socket", "vgpud-mdev.service"] {
        assert_eq!(run(vm, &format!("systemctl is-active {unit}")), "active");
        assert_eq!(run(vm, &format!("systemctl is-enabled {unit}")), "enabled");
    }
    let socket = run(vm, "stat -c '%a %U %G' /run/vgpud/api.sock");
    assert_eq!(socket, "660 root vgpu");
    // Who is in the group may ask, and nobody else may.
    let ask = "setpriv --reuid=65534 --regid=65534";
    run(
        vm,
        &format!("{ask} --groups=$(getent group vgpu | cut -d: -f3) vgpu list"),
    );
    let refused = vm
        .guest
        .run(&format!("{ask} --clear-groups vgpu list"))
        .unwrap();
    assert_eq!(refused.status, 3);
    // Pages are there, and clean.
    for page in [
        "man1/vgpu.1",
        "man5/vgpud.toml.5",
        "man8/vgpud.8",
        "man8/vgpu-mdev.8",
    ] {
        let page = format!("/usr/share/man/{page}.gz");
        let warnings = run(
            vm,
            &format!("LC_ALL=C.UTF-8 man --warnings -E UTF-8 -Tutf8 -Z -l {page} >/dev/null"),
        );
        assert_eq!(warnings, "", "{page}");
    }
}

fn check_units(vm: &mut Vm) {
    let folder = "/usr/lib/systemd/system";
    let said = run(vm, &format!("systemd-analyze verify {folder}/vgpud*"));
    assert_eq!(said, "");
    let units = run(vm, &format!("cd {folder} && echo vgpud*.service"));
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/install.md");
    let docs = fs::read_to_string(docs).unwrap();
    for unit in units.split(' ') {
        let report = run(
            vm,
            &format!("systemd-analyze security --no-pager --offline=true {folder}/{unit}"),
        );
        let figure = report
            .lines()
            .find_map(|line| line.split_once("Overall exposure level for "))
            .and_then(|(_, rest)| rest.split(' ').nth(1));
        let figure = figure.unwrap_or_else(|| panic!("{report}"));
        let told = format!("| `{unit}` | {figure} |");
        assert!(docs.contains(&told), "docs/install.md has no '{told}'");
    }
}

fn starts_by_its_socket(vm: &mut Vm) {
    run(vm, "systemctl stop vgpud.service");
    let state = vm.guest.run("systemctl is-active vgpud.service").unwrap();
    assert_eq!(String::from_utf8_lossy(&state.stdout), "inactive\n");
    assert_eq!(run(vm, "vgpu list"), "");
    assert_eq!(run(vm, "systemctl is-active vgpud.service"), "active");
    // All that it may start, it may start under its unit.
    let uuid = run(vm, "vgpu start --parent soft0 --type bochs-4m");
    run(
        vm,
        &format!("vgpu console {uuid} && vgpu console {uuid} --stop && vgpu stop {uuid}"),
    );
}

/// Debian's own mdevctl, by the files that are mounted.
fn works_with_mdevctl(vm: &mut Vm) {
    let mdevctl = "MDEVCTL_ENV_ROOT=/run/vgpud/mdev mdevctl";
    run(
        vm,
        &format!("{mdevctl} define --uuid {AUTO} --parent soft0 --type edu-1 --auto"),
    );
    run(vm, &format!("{mdevctl} start --uuid {AUTO}"));
    let listed = run(vm, &format!("{mdevctl} list"));
    assert!(
        listed.starts_with(&format!("{AUTO} soft0 edu-1")),
        "{listed}"
    );
    let known = format!("{AUTO} soft0 edu-1 running (defined)");
    assert_eq!(run(vm, "vgpu list"), known);
    run(vm, &format!("{mdevctl} stop --uuid {AUTO}"));
}

/// What mdevctl has defined, and what ran, run after a reboot.
fn starts_at_boot(vm: &mut Vm) {
    run(vm, "vgpu start --parent soft0 --type serial-1");
    check_journal(vm);
    vm.guest.reboot_in_order().unwrap();
    let listed = run(vm, "vgpu list");
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.contains("soft0 serial-1 running"), "{listed}");
    assert!(
        listed.contains(&format!("{AUTO} soft0 edu-1 running")),
        "{listed}"
    );
    // What starts behind the daemon finds them: it was ready only then.
    let status = run(vm, "systemctl show -P StatusText vgpud.service");
    assert_eq!(status, "2 vGPUs, 2 running");
}

/// How often the client inside has read its register.
fn reads(vm: &mut Vm) -> u64 {
    run(vm, "cat /run/inner").parse().unwrap()
}

fn wait_more_reads(vm: &mut Vm, than: u64) {
    let more = format!("test $(cat /run/inner) -gt {than}");
    vm.guest.wait_for(&more).unwrap();
    assert_eq!(run(vm, "systemctl is-active inner.service"), "active");
}

fn upgrade_under_a_client(vm: &mut Vm) {
    let socket = format!("/run/vgpud/{AUTO}.sock");
    run(
        vm,
        &format!("systemd-run --unit=inner /run/guest inner {socket} /run/inner"),
    );
    vm.guest.wait_for("test -s /run/inner").unwrap();
    let daemon = run(vm, "systemctl show -P MainPID vgpud.service");
    let before = show(vm, AUTO);
    let said = run(vm, &format!("dpkg -i {FILES}/later.deb"));
    assert!(said.contains(&format!("{AUTO}: upgraded")), "{said}");
    let version = run(vm, "dpkg-query -Wf '${Version} ${Status}' vgpud");
    assert_eq!(version, format!("{LATER} install ok installed"));
    assert_ne!(run(vm, "systemctl show -P MainPID vgpud.service"), daemon);
    let after = show(vm, AUTO);
    assert_ne!(after["pid"], before["pid"]);
    assert_eq!(
        (&after["upgrades"], &after["crashes"]),
        (&1.into(), &0.into())
    );
    let then = reads(vm);
    wait_more_reads(vm, then);
}

fn remove_and_purge(vm: &mut Vm, before: &[String]) {
    let said = run(vm, "dpkg -r vgpud");
    assert!(
        said.contains(&format!("a machine uses the virtual GPU {AUTO}")),
        "{said}"
    );
    let left = vm.guest.run("pgrep -a vgpu").unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    // The client inside was told by the end of its connection.
    vm.guest
        .wait_for("systemctl is-failed inner.service")
        .unwrap();
    run(vm, "systemctl reset-failed inner.service");
    run(vm, "test -e /etc/vgpud/vgpud.toml && test ! -e /run/vgpud");
    run(vm, "dpkg -P vgpud");
    let after = files(vm);
    let new: Vec<_> = after.iter().filter(|file| !before.contains(file)).collect();
    let definition = format!("/etc/mdevctl.d/soft0/{AUTO}");
    // What is defined is its administrator's, and mdevctl's. The other one is a backup that
    // systemd-sysusers made as it added the group, which Debian's packages leave.
    let kept = ["/etc/gshadow-", "/etc/mdevctl.d/soft0", &definition];
    assert_eq!(new, kept);
    let gone: Vec<_> = before.iter().filter(|file| !after.contains(file)).collect();
    assert_eq!(gone, [""; 0]);
    run(vm, "systemctl daemon-reload");
    let known = run(
        vm,
        "systemctl list-units --all --plain --no-legend 'vgpud*'",
    );
    assert_eq!(known, "");
    let helper = run(
        vm,
        "find /var/lib/systemd /var/lib/dpkg/info -name '*vgpud*'",
    );
    assert_eq!(helper, "");
}

#[test]
fn the_package_comes_runs_is_upgraded_and_goes() {
    let programs = Programs::from_env().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let disk = packages(scratch.path());
    let mut vm = system::machine(&programs, &disk).unwrap().boot().unwrap();
    let vm = &mut vm;
    let before = files(vm);
    mount_files(vm);
    install(vm);
    check_units(vm);
    starts_by_its_socket(vm);
    works_with_mdevctl(vm);
    starts_at_boot(vm);
    mount_files(vm);
    upgrade_under_a_client(vm);
    remove_and_purge(vm, &before);
    check_journal(vm);
}
