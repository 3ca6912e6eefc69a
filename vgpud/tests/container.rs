//! What the container's recipe starts: without privileges, on a root that cannot be written.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use support::{lives, request, uuid, wait_for, worker_program};
use vfu::client::Client as Vmm;
use vgpud::client::Client;

const RECIPE: &str = include_str!("../../packaging/container/Containerfile");

/// The user that the recipe names.
const USER: u32 = 65532;

/// Makes a root of the host's libraries and of programs that are copied, with three folders that may
/// be written; and becomes the recipe's entry in it. Its arguments: the root, the folder of programs,
/// that of volumes, the user or nothing, and the entry.
const SCRIPT: &str = r#"
set -e
root=$1 programs=$2 volumes=$3 user=$4
shift 4
mount -t tmpfs -o mode=0755 root "$root"
cd "$root"
mkdir -p usr/bin usr/sbin usr/lib usr/lib64 usr/libexec proc dev run/vgpud var/lib/vgpud etc/mdevctl.d
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$folder"; done
for folder in usr/bin usr/lib usr/lib64; do mount --bind "/$folder" "$folder"; done
for folder in proc dev; do mount --rbind "/$folder" "$folder"; done
cp "$programs/vgpud" usr/sbin/
cp "$programs/vgpu-worker" usr/libexec/
for folder in run/vgpud var/lib/vgpud etc/mdevctl.d; do mount --bind "$volumes/$folder" "$folder"; done
mount -o remount,ro,bind "$root"
exec chroot "$root" /usr/bin/setpriv $user --inh-caps=-all --bounding-set=-all --no-new-privs "$@"
"#;

fn line(word: &str) -> &str {
    let mut lines = RECIPE.lines().filter_map(|line| line.strip_prefix(word));
    lines.next_back().unwrap().trim()
}

struct Container(Child);

impl Drop for Container {
    fn drop(&mut self) {
        // Workers are in its process namespace, and end with its first process.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(scratch: &Path, entry: &[String]) -> Container {
    let programs = scratch.join("programs");
    fs::create_dir_all(&programs).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_vgpud"), programs.join("vgpud")).unwrap();
    fs::copy(worker_program(), programs.join("vgpu-worker")).unwrap();
    fs::create_dir(scratch.join("root")).unwrap();
    let is_root = geteuid().is_root();
    for folder in ["run/vgpud", "var/lib/vgpud", "etc/mdevctl.d"] {
        let folder = scratch.join("volumes").join(folder);
        fs::create_dir_all(&folder).unwrap();
        if is_root {
            chown(folder, Some(USER), Some(USER)).unwrap();
        }
    }
    let (namespaces, user) = if is_root {
        (
            &["--mount", "--pid", "--fork"][..],
            "--reuid=65532 --regid=65532 --clear-groups",
        )
    } else {
        (&["--mount", "--pid", "--fork", "--map-root-user"][..], "")
    };
    let mut command = Command::new("unshare");
    command
        .args(namespaces)
        .args(["--kill-child", "--mount-proc", "sh", "-c"])
        .args([SCRIPT, "sh"])
        .args([scratch.join("root"), programs, scratch.join("volumes")])
        .arg(user)
        .args(entry)
        .stdin(Stdio::null())
        .stderr(fs::File::create(scratch.join("log")).unwrap());
    Container(command.spawn().unwrap())
}

#[test]
fn the_entry_serves_without_privileges_on_a_root_that_cannot_be_written() {
    let scratch = tempfile::tempdir().unwrap();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(scratch.path(), open).unwrap();
    assert_eq!(line("USER"), format!("{USER}:{USER}"));
    let entry: Vec<String> = serde_json::from_str(line("ENTRYPOINT")).unwrap();
    let volumes: Vec<String> = serde_json::from_str(line("VOLUME")).unwrap();
    assert_eq!(volumes, ["/run/vgpud", "/var/lib/vgpud", "/etc/mdevctl.d"]);
    let mut container = start(scratch.path(), &entry);
    let log = || fs::read_to_string(scratch.path().join("log")).unwrap();
    let run = scratch.path().join("volumes/run/vgpud");
    let client = Client::new(&run.join("api.sock")).unwrap();
    wait_for("the API", || {
        let ended = container.0.try_wait().unwrap();
        assert!(ended.is_none(), "{}", log());
        client.parents().ok()
    });
    client.create(uuid(1), &request("edu-1")).unwrap();
    let status = client.status(uuid(1)).unwrap();
    assert!(status.sandbox.contains("no capabilities"), "{status:?}");
    // A VMM outside, by the shared folder.
    let mut vmm = Vmm::connect(&run.join(format!("{}.sock", uuid(1)))).unwrap();
    lives(&mut vmm, 0x1357_2468);
    // `unshare` waits for the daemon, its child.
    let unshare = Pid::from_child(&container.0);
    let children = format!("/proc/{0}/task/{0}/children", unshare.as_raw_nonzero());
    let child = fs::read_to_string(children).unwrap();
    let child = Pid::from_raw(child.trim().parse().unwrap()).unwrap();
    kill_process(child, Signal::TERM).unwrap();
    let ended = container.0.wait().unwrap();
    assert!(ended.success(), "{ended}: {}", log());
}
