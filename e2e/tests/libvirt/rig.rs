//! The libvirt of Debian's tree in session mode, a user's daemon of ours, and the hook as installed.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use e2e::debian::Shell;
use e2e::guest::{BOOT_LIMIT, Guest};
use e2e::initramfs::Initramfs;
use e2e::{DebianRoot, Error, Programs, Result, Screen};
use serde_json::Value;

/// What there is before the first command: the hook where packages put it, and a user.
const BEFORE: &str = r#"
set -eu
mkdir -p /etc/libvirt/hooks/qemu.d /home/user /run/user/1000
cp /opt/hook /etc/libvirt/hooks/qemu.d/vgpud
echo 'user:x:1000:1000::/home/user:/bin/bash' >>/etc/passwd
echo 'user:x:1000:' >>/etc/group
export PATH=/opt/vgpud:$PATH HOME=/home/user USER=user XDG_RUNTIME_DIR=/run/user/1000
export LIBVIRT_DEFAULT_URI=qemu:///session VGPUD_API=/home/user/vgpud/run/vgpud/api.sock
cd /home/user
"#;

/// The user: nobody here, and root nowhere.
const AS_USER: &str = "unshare --user --map-user=1000 --map-group=1000";

/// Room for few.
const CONFIG: &str = "[parents.soft0]\ninstances = 3\nlimits = { edu-1 = 1 }\n";

/// Starts the daemon.
pub(crate) const START_DAEMON: &str = "
vgpud --root /home/user/vgpud --config /home/user/vgpud.toml >>/shell/vgpud.log 2>&1 &
echo $! >/shell/vgpud.pid
until vgpu list >/dev/null 2>&1; do sleep 0.05; done";

/// Ends it.
pub(crate) const END_DAEMON: &str = r#"
kill "$(cat /shell/vgpud.pid)"
while kill -0 "$(cat /shell/vgpud.pid)" 2>/dev/null; do sleep 0.05; done"#;

/// Ends libvirt's daemon, without a word; its domains run on.
pub(crate) const KILL_LIBVIRT: &str = r#"
kill -9 "$(cat /shell/libvirtd.pid)"
while kill -0 "$(cat /shell/libvirtd.pid)" 2>/dev/null; do sleep 0.05; done"#;

/// The end of the domain `both`, as a crash of QEMU has it.
pub(crate) const KILL_QEMU: &str = "kill -9 \"$(cat $XDG_RUNTIME_DIR/libvirt/qemu/run/both.pid)\"";

/// Starts libvirt's daemon.
pub(crate) const START_LIBVIRT: &str = "
libvirtd >>/shell/libvirtd.log 2>&1 &
echo $! >/shell/libvirtd.pid
until virsh list >/dev/null 2>&1; do sleep 0.05; done";

/// A running libvirt, and a daemon beside it.
pub(crate) struct Rig {
    pub(crate) shell: Shell,
    agent: UnixListener,
}

impl Rig {
    /// None where it is not to be had, which is said.
    pub(crate) fn start(what: &str) -> Result<Option<Self>> {
        let programs = Programs::from_env()?;
        let Some(root) = packaged_root(&programs)? else {
            eprintln!("NOT RUN: {what}: no namespaces, or a QEMU of this machine's own");
            return Ok(None);
        };
        let mut shell = root.shell(BEFORE, AS_USER)?;
        let agent = shell.dir().join("agent");
        let agent = UnixListener::bind(&agent)
            .and_then(|agent| agent.set_nonblocking(true).map(|()| agent))
            .map_err(|error| Error::Gone(format!("no agent can be heard: {error}")))?;
        shell.sh(&format!("echo '{CONFIG}' >vgpud.toml\n{START_DAEMON}"))?;
        shell.sh(START_LIBVIRT)?;
        Ok(Some(Self { shell, agent }))
    }

    /// What `vgpu attach --domain NAME` prints, as a user of this machine would complete it: our kernel,
    /// QEMU without KVM, and serial ports for the console and the agent.
    pub(crate) fn domain(&mut self, name: &str, arguments: &str) -> Result<String> {
        let printed = self.shell.sh(&format!(
            "vgpu attach --format libvirt --domain {name} --memory 192M {arguments}"
        ))?;
        Ok(completed(&printed))
    }

    /// Gives a domain to `virsh define`, checked against libvirt's own schema, in the place of one of
    /// the same name.
    pub(crate) fn define(&mut self, xml: &str) -> Result<()> {
        self.write("domain.xml", xml)?;
        let define = r#"
            name=$(sed -n 's,.*<name>\(.*\)</name>.*,\1,p' /shell/domain.xml)
            virsh undefine "$name" >/dev/null 2>&1
            virsh define --validate /shell/domain.xml"#;
        self.shell.sh(define).map(drop)
    }

    /// Puts a file into `/shell`.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.shell.dir().join(name);
        fs::write(&path, text).map_err(|error| Error::Gone(format!("{name}: {error}")))
    }

    /// The guest that a domain boots.
    pub(crate) fn guest(&self) -> Result<Guest> {
        let deadline = Instant::now() + BOOT_LIMIT;
        let port = loop {
            match self.agent.accept() {
                Ok((port, _)) => break port,
                Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
                Err(error) => return Err(Error::Gone(format!("no guest: {error}"))),
            }
        };
        let blocking = port.set_nonblocking(false);
        blocking.map_err(|error| Error::Gone(error.to_string()))?;
        let mut guest = Guest::new(port);
        guest.wait_boot(BOOT_LIMIT)?;
        Ok(guest)
    }

    /// What the daemon knows of its vGPUs.
    pub(crate) fn vgpus(&mut self) -> Result<Vec<Value>> {
        let text = self.shell.sh("vgpu list --json")?;
        serde_json::from_str(&text).map_err(|error| Error::Malformed(error.to_string()))
    }

    /// What a vGPU shows.
    pub(crate) fn screenshot(&mut self, uuid: &str) -> Result<Screen> {
        self.shell
            .sh(&format!("vgpu screenshot {uuid} /shell/screen.png"))?;
        Screen::read_png(&self.shell.dir().join("screen.png"))
    }

    /// Nothing is left of any vGPU: no place taken, no socket, no worker.
    pub(crate) fn is_empty(&mut self) -> Result<()> {
        let left = self.vgpus()?;
        if !left.is_empty() {
            return Err(Error::Malformed(format!("left: {left:#?}")));
        }
        let files = "ls vgpud/run/vgpud | grep -e '\\.sock$' -e '\\.control$' | grep -v '^api'";
        let none = format!("{files} && exit 1; pgrep -x vgpu-worker && exit 1; exit 0");
        self.shell.sh(&none).map(drop)
    }
}

/// A root with our programs, QEMU, a guest, and the hook as it is packaged; none where that is not to
/// be had.
pub(crate) fn packaged_root(programs: &Programs) -> Result<Option<DebianRoot>> {
    let initrd = Initramfs {
        modules: vec!["bochs".to_owned()],
        ..Initramfs::default()
    };
    let initrd = initrd.build(programs)?;
    let root = DebianRoot::from_env()?.and_then(|root| root.bind_qemu(programs));
    Ok(root.map(|root| {
        root.bind(&programs.bin, "/opt/vgpud")
            .bind(&programs.kernel, "/opt/vmlinuz")
            .bind(&initrd, "/opt/initrd")
            .bind(&packaged("hook"), "/opt/hook")
    }))
}

/// A file as it is packaged.
pub(crate) fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../packaging/libvirt")
        .join(name)
}

/// A domain that is run by emulation.
pub(crate) fn without_kvm(xml: &str) -> String {
    let emulator = "<devices>\n    <emulator>/opt/qemu/qemu</emulator>";
    xml.replace("type='kvm'", "type='qemu'")
        .replace("<devices>", emulator)
}

fn completed(xml: &str) -> String {
    without_kvm(xml)
        .replace(
            "</type>\n  </os>",
            "</type>
    <kernel>/opt/vmlinuz</kernel>
    <initrd>/opt/initrd</initrd>
    <cmdline>console=ttyS0 quiet</cmdline>
  </os>",
        )
        .replace(
            "<console type='pty'/>",
            "<serial type='file'><source path='/shell/console.log'/></serial>
    <serial type='unix'><source mode='connect' path='/shell/agent'/></serial>",
        )
}
