//! The mdev tree as the kernel shows it: mounted by `vgpu-mdev`, over a real daemon.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use rustix::io::Errno;
use support::mdev::{Mounted, SOFT0, device_path, errno, spawn, type_path};
use support::{Daemon, names, uuid};

const O_WRONLY: i32 = 1;
const O_RDWR: i32 = 2;
const O_CREAT: i32 = 0o100;
const O_TRUNC: i32 = 0o1000;

/// A daemon and its tree; `None` where nothing can be mounted.
fn mounted() -> Option<(Daemon, Mounted)> {
    let daemon = Daemon::start();
    let tree = Mounted::start(&daemon)?;
    Some((daemon, tree))
}

fn number(errno: Errno) -> i32 {
    errno.raw_os_error()
}

fn text(number: u128) -> String {
    uuid(number).to_string()
}

fn create() -> String {
    format!("{}/create", type_path("edu-1"))
}

#[test]
fn files_are_opened_written_and_read_as_sysfs_has_them() {
    let Some((daemon, tree)) = mounted() else {
        return;
    };
    // As mdevctl does, as a shell's > and >> do.
    tree.write(create(), text(1)).unwrap();
    tree.write(create(), format!("{}\n", text(2))).unwrap();
    let appended = File::options().append(true).open(tree.path(create()));
    appended.unwrap().write_all(text(3).as_bytes()).unwrap();
    assert_eq!(daemon.client.instances().unwrap().len(), 3);

    let dma = tree.path(device_path(uuid(1), "dma"));
    let found = fs::metadata(&dma).unwrap();
    assert_eq!((found.mode(), found.size()), (0o100_644, 4096));
    assert_eq!(found.uid(), rustix::process::geteuid().as_raw());
    let mut file = File::options().read(true).write(true).open(&dma).unwrap();
    let mut content = String::new();
    file.read_to_string(&mut content).unwrap();
    assert_eq!(content, "pin\n");
    file.write_all_at(b"copy\n", 0).unwrap();
    // What is open shows what it did, until it is read from the beginning.
    let mut tail = [0; 8];
    assert_eq!(file.read_at(&mut tail, 1).unwrap(), 3);
    file.seek(SeekFrom::Start(0)).unwrap();
    content.clear();
    file.read_to_string(&mut content).unwrap();
    assert_eq!(content, "copy\n");

    let parent = fs::canonicalize(tree.path("sys/class/mdev_bus/soft0")).unwrap();
    assert_eq!(parent, tree.at.canonicalize().unwrap().join(SOFT0));
    let device = format!("sys/bus/mdev/devices/{}", uuid(1));
    let of_type = fs::canonicalize(tree.path(device).join("mdev_type")).unwrap();
    assert!(of_type.ends_with("soft0/mdev_supported_types/edu-1"));
    let definitions = fs::read_link(tree.path("etc/mdevctl.d")).unwrap();
    assert_eq!(definitions, daemon.path("etc/mdevctl.d"));
    // What `readdir` numbers is what `stat` does.
    for entry in fs::read_dir(tree.path(SOFT0)).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().ino(), {
            use std::os::unix::fs::DirEntryExt;
            entry.ino()
        });
    }
}

#[test]
fn what_sysfs_refuses_is_refused_to_root_too() {
    let Some((daemon, tree)) = mounted() else {
        return;
    };
    tree.write(create(), text(1)).unwrap();
    let socket = device_path(uuid(1), "socket");
    let access = number(Errno::ACCESS);
    assert_eq!(tree.open(create(), 0), access);
    assert_eq!(tree.open(create(), O_RDWR), access);
    assert_eq!(tree.open(create(), O_WRONLY | O_CREAT | O_TRUNC), 0);
    assert_eq!(tree.open(&socket, O_WRONLY), access);
    assert_eq!(tree.open(&socket, O_WRONLY | O_CREAT | O_TRUNC), access);
    assert_eq!(tree.open(&socket, 0), 0);
    let none = device_path(uuid(1), "height");
    assert_eq!(tree.open(&none, 0), number(Errno::NOENT));
    assert_eq!(tree.open(&none, O_WRONLY | O_CREAT), access);
    let no_type = format!("{}/create", type_path("none"));
    assert_eq!(tree.open(no_type, O_WRONLY | O_CREAT), number(Errno::NOENT));

    let (file, folder) = (tree.path(&socket), tree.path(SOFT0));
    let new = folder.join("new");
    let mode = fs::Permissions::from_mode(0o666);
    for (what, done) in [
        ("mkdir", fs::create_dir(&new)),
        ("unlink", fs::remove_file(&file)),
        ("rmdir", fs::remove_dir(tree.path("sys/bus"))),
        ("rename", fs::rename(&file, &new)),
        ("symlink", symlink("x", &new)),
        ("link", fs::hard_link(&file, &new)),
        ("chmod", fs::set_permissions(&file, mode)),
        ("chown", std::os::unix::fs::chown(&file, Some(1), None)),
    ] {
        assert_eq!(errno(done), number(Errno::PERM), "{what}");
    }
    // It is no directory, and no socket; times are what they are.
    assert_eq!(errno(fs::read_dir(&file)), number(Errno::NOTDIR));
    assert_eq!(daemon.client.instances().unwrap().len(), 1);
}

#[test]
fn errno_reach_whoever_writes_and_words_the_log() {
    let Some((daemon, tree)) = mounted() else {
        return;
    };
    let invalid = number(Errno::INVAL);
    for bad in [&b"x"[..], &[0xff; 36], &[b'a'; 37], &[b'1'; 1 << 20]] {
        assert_eq!(errno(tree.write(create(), bad)), invalid);
    }
    let file = File::options().write(true).open(tree.path(create()));
    let file = file.unwrap();
    for offset in [1, 4096, 1 << 40] {
        let written = file.write_at(text(1).as_bytes(), offset);
        assert_eq!(errno(written), invalid, "{offset}");
    }
    assert_eq!(daemon.client.instances().unwrap(), []);
    tree.write(create(), text(1)).unwrap();
    assert_eq!(
        errno(tree.write(create(), text(1))),
        number(Errno::EXIST),
        "the same again"
    );
    let dma = device_path(uuid(1), "dma");
    assert_eq!(errno(tree.write(&dma, "x")), invalid);
    let remove = device_path(uuid(1), "remove");
    assert_eq!(errno(tree.write(&remove, "no")), invalid);
    tree.write(&remove, "0\n").unwrap();
    let opened = File::options().write(true).open(tree.path(&remove));
    tree.write(&remove, "1").unwrap();
    let mut opened = opened.unwrap();
    assert_eq!(errno(opened.write(b"1")), number(Errno::NODEV));
    let log = tree.log();
    for words in ["is there already", "'dma' cannot be 'x'", "is no UUID"] {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn what_a_dead_one_left_is_detached_and_a_living_one_is_not() {
    let Some((daemon, mut tree)) = mounted() else {
        return;
    };
    tree.write(create(), text(1)).unwrap();
    let mut second = spawn(&daemon.path(""), &daemon.path("second.log"));
    assert_eq!(second.wait().unwrap().code(), Some(1));
    let words = fs::read_to_string(daemon.path("second.log")).unwrap();
    assert!(words.contains("another vgpu-mdev serves"), "{words}");
    assert!(tree.read(device_path(uuid(1), "state")).is_ok());

    if !rustix::process::geteuid().is_root() {
        return;
    }
    let left = File::open(tree.path(device_path(uuid(1), "state"))).unwrap();
    tree.kill();
    let dead = tree.read(device_path(uuid(1), "state"));
    assert_eq!(errno(dead), number(Errno::NOTCONN));
    tree.start_again(&daemon);
    let state = tree.read(device_path(uuid(1), "state"));
    assert_eq!(state.unwrap(), "running\n");
    assert!(tree.log().contains("detaching"), "{}", tree.log());
    assert_ne!(errno(left.read_at(&mut [0; 8], 0)), 0);
    assert_eq!(mounts(&tree), 1);
    assert!(tree.terminate().success());
    assert_eq!(mounts(&tree), 0);
}

#[test]
fn nothing_of_others_is_mounted_over() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT RUN: nobody but root may mount what is in the way");
        return;
    }
    let Some((daemon, mut tree)) = mounted() else {
        return;
    };
    assert!(tree.terminate().success());
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("vgpud", &tree.at, "tmpfs", flags, None).unwrap();
    let mut refused = spawn(&daemon.path(""), &daemon.path("second.log"));
    assert_eq!(refused.wait().unwrap().code(), Some(1));
    let words = fs::read_to_string(daemon.path("second.log")).unwrap();
    assert!(words.contains("another file system"), "{words}");
    assert_eq!(mounts(&tree), 1);
    rustix::mount::unmount(&tree.at, rustix::mount::UnmountFlags::DETACH).unwrap();
    fs::remove_dir(&tree.at).unwrap();
    symlink("/tmp", &tree.at).unwrap();
    let mut refused = spawn(&daemon.path(""), &daemon.path("third.log"));
    assert_eq!(refused.wait().unwrap().code(), Some(1));
    let words = fs::read_to_string(daemon.path("third.log")).unwrap();
    assert!(words.contains("is no folder"), "{words}");
}

/// How many file systems are mounted there.
fn mounts(tree: &Mounted) -> usize {
    let list = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let at = format!(" {} ", tree.at.display());
    list.lines().filter(|line| line.contains(&at)).count()
}

#[test]
fn the_tree_ends_at_sigterm_whoever_has_something_open() {
    let Some((_daemon, mut tree)) = mounted() else {
        return;
    };
    tree.write(create(), text(1)).unwrap();
    let open = File::open(tree.path(device_path(uuid(1), "state"))).unwrap();
    let folder = File::open(tree.path(SOFT0)).unwrap();
    assert!(tree.terminate().success(), "{}", tree.log());
    assert_ne!(errno(open.read_at(&mut [0; 8], 0)), 0);
    assert_eq!(mounts(&tree), 0);
    assert_eq!(names(&tree.at), [""; 0]);
    drop(folder);
}

#[test]
fn the_mount_outlives_the_daemon() {
    let Some((mut daemon, tree)) = mounted() else {
        return;
    };
    tree.write(create(), text(1)).unwrap();
    let state = tree.path(device_path(uuid(1), "state"));
    let open = File::open(&state).unwrap();
    let read = || open.read_at(&mut [0; 16], 0);
    assert_eq!(read().unwrap(), "running\n".len());
    daemon.kill();
    assert_eq!(errno(read()), number(Errno::NODEV));
    assert_eq!(names(&tree.path("sys/class/mdev_bus")), [""; 0]);
    assert_eq!(names(&tree.path("sys/bus/mdev/devices")), [""; 0]);
    assert_eq!(errno(fs::metadata(&state)), number(Errno::NOENT));
    daemon.start_again();
    assert_eq!(read().unwrap(), "running\n".len());
    assert_eq!(names(&tree.path("sys/bus/mdev/devices")), [text(1)]);
    tree.write(device_path(uuid(1), "remove"), "1").unwrap();
}
