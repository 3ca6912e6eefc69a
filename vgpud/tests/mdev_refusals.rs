//! The mdev tree of a real daemon, without mounting it: the errno of each refusal.

mod support;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use support::mdev::{SOFT0, device_path, type_path};
use support::seen::{Seen, names, text};
use support::{lives, uuid, wait_for};
use vfu::client::Client as Vmm;
use vgpud::client::Client;
use vgpud::mdev_tree::{Kind, Tree};

#[test]
fn a_creation_is_refused_with_the_kernels_errno_and_makes_nothing() {
    let config = "[parents.soft0]\ninstances = 2\nvideo-memory = \"20M\"\n";
    let seen = Seen::new(config);
    for bad in [
        String::new(),
        "\n".to_owned(),
        text(1)[1..].to_owned(),
        format!("{}\n\n", text(1)),
        text(1).replace('-', ""),
        text(1).replace('1', "g"),
        "\0".repeat(36),
        text(1).repeat(10_000),
    ] {
        assert_eq!(seen.create("edu-1", &bad), Err(Errno::INVAL), "{bad:.50}");
    }
    assert_eq!(seen.create("edu-1", [0xff; 36]), Err(Errno::INVAL));
    let create = format!("{}/create", type_path("edu-1"));
    let at = |offset| {
        let data = text(1);
        let tree = &seen.tree;
        tree.write(seen.client(), &names(&create), offset, data.as_bytes())
    };
    assert_eq!(at(1), Err(Errno::INVAL));
    assert_eq!(seen.client().instances().unwrap(), []);

    // A newline is taken, and so are capitals.
    seen.create("edu-1", format!("{}\n", text(1).to_uppercase()))
        .unwrap();
    for type_name in ["edu-1", "serial-1"] {
        assert_eq!(seen.create(type_name, text(1)), Err(Errno::EXIST));
    }
    assert_eq!(seen.create("bochs-64m", text(2)), Err(Errno::NOSPC));
    seen.create("bochs-16m", text(2)).unwrap();
    assert_eq!(seen.create("serial-1", text(3)), Err(Errno::USERS));
    assert_eq!(seen.find(&type_path("none")), Err(Errno::NOENT));
    assert_eq!(seen.create("none", text(3)), Err(Errno::NOENT));
    assert_eq!(seen.client().instances().unwrap().len(), 2);
    assert_eq!(seen.daemon.records().len(), 2);
}

#[test]
fn a_removal_wants_a_number_and_no_vmm() {
    let seen = Seen::new("");
    seen.create("edu-1", text(1)).unwrap();
    for bad in ["", "x", "-1", "1 ", "0x", "08", "18446744073709551616"] {
        assert_eq!(seen.remove(1, bad), Err(Errno::INVAL), "{bad}");
    }
    for nothing in ["0", "0\n", "0x0", "00"] {
        seen.remove(1, nothing).unwrap();
    }
    let instance = seen.client().instance(uuid(1)).unwrap();
    let mut vmm = Vmm::connect(instance.socket.as_ref()).unwrap();
    lives(&mut vmm, 1);
    assert_eq!(seen.remove(1, "1"), Err(Errno::BUSY));
    lives(&mut vmm, 2);
    drop(vmm);
    wait_for("end of the session", || {
        let status = seen.client().status(uuid(1)).unwrap();
        (!status.connected).then_some(())
    });
    seen.remove(1, "0x10\n").unwrap();
    assert_eq!(seen.remove(1, "1"), Err(Errno::NODEV));
    let gone = device_path(uuid(1), "remove");
    assert_eq!(seen.find(&gone), Err(Errno::NOENT));
    // One of another parent is not there either.
    let elsewhere = format!("sys/devices/virtual/vgpud/none/{}", uuid(1));
    assert_eq!(seen.find(&elsewhere), Err(Errno::NOENT));
    assert_eq!(seen.daemon.run_files(), [""; 0]);
}

#[test]
fn a_file_is_opened_as_its_mode_says_by_root_too() {
    let seen = Seen::new("");
    seen.create("edu-1", text(1)).unwrap();
    let of_type = type_path("edu-1");
    for (path, mode) in [
        (format!("{of_type}/create"), 0o200),
        (format!("{of_type}/name"), 0o444),
        (device_path(uuid(1), "remove"), 0o200),
        (device_path(uuid(1), "socket"), 0o444),
        (device_path(uuid(1), "statistics/pid"), 0o444),
        (device_path(uuid(1), "dma"), 0o644),
        (device_path(uuid(1), "dma-mask"), 0o644),
    ] {
        assert_eq!(seen.find(&path).unwrap(), (Kind::File, mode), "{path}");
        let open = |reads, writes| seen.tree.open(&names(&path), reads, writes).is_ok();
        let (may_read, may_write) = (mode & 0o400 != 0, mode & 0o200 != 0);
        assert_eq!(open(true, false), may_read, "{path}");
        assert_eq!(open(false, true), may_write, "{path}");
        assert_eq!(open(true, true), may_read && may_write, "{path}");
        if !may_read {
            assert_eq!(seen.read(&path), Err(Errno::ACCESS), "{path}");
        }
        if !may_write {
            assert_eq!(seen.write(&path, "1"), Err(Errno::ACCESS), "{path}");
        }
    }
    assert_eq!(seen.read(&of_type), Err(Errno::ISDIR));
    assert_eq!(seen.list("etc/mdevctl.d"), Err(Errno::NOTDIR));
    assert_eq!(seen.link(&of_type), Err(Errno::INVAL));
}

#[test]
fn a_bad_value_is_refused_and_changes_nothing() {
    let seen = Seen::new("");
    seen.create("edu-1", text(1)).unwrap();
    let dma = device_path(uuid(1), "dma");
    for bad in [
        &b""[..],
        b"\n",
        b"x",
        b"pin\n\n",
        b"pin\0",
        b"\xff\xfe",
        &[b'x'; 257],
        &[b'x'; 100_000],
    ] {
        let shown = &bad[..bad.len().min(20)];
        assert_eq!(seen.write(&dma, bad), Err(Errno::INVAL), "{shown:?}");
        assert_eq!(seen.read(&dma).unwrap(), "pin\n");
    }
    let instance = seen.client().instance(uuid(1)).unwrap();
    let mut vmm = Vmm::connect(instance.socket.as_ref()).unwrap();
    lives(&mut vmm, 1);
    seen.write(&dma, "copy").unwrap();
    let fixed = device_path(uuid(1), "dma-mask");
    assert_eq!(seen.write(&fixed, "32"), Err(Errno::BUSY));
    seen.write(&fixed, "28").unwrap();
    lives(&mut vmm, 2);
    drop(vmm);
    seen.client().destroy(uuid(1), true).unwrap();
    assert_eq!(seen.write(&dma, "pin"), Err(Errno::NODEV));
    assert_eq!(seen.read(&dma), Err(Errno::NODEV));
}

#[test]
fn without_a_daemon_there_is_no_vgpu_and_with_the_next_there_is() {
    let mut seen = Seen::new("");
    seen.create("edu-1", text(1)).unwrap();
    let state = device_path(uuid(1), "state");
    seen.daemon.kill();
    for empty in ["sys/class/mdev_bus", "sys/bus/mdev/devices"] {
        assert_eq!(seen.list(empty).unwrap(), [""; 0], "{empty}");
    }
    assert_eq!(seen.list("sys/class").unwrap(), ["mdev_bus"]);
    assert_eq!(seen.find(&state), Err(Errno::NOENT));
    assert_eq!(seen.find(SOFT0), Err(Errno::NOENT));
    // What was open before.
    assert_eq!(seen.read(&state), Err(Errno::NODEV));
    assert_eq!(seen.remove(1, "1"), Err(Errno::NODEV));
    let name = format!("{}/name", type_path("edu-1"));
    assert_eq!(seen.read(&name), Err(Errno::NODEV));
    assert_eq!(seen.create("edu-1", text(2)), Err(Errno::NODEV));
    seen.daemon.start_again();
    assert_eq!(seen.read(&state).unwrap(), "running\n");
    assert_eq!(seen.list("sys/bus/mdev/devices").unwrap(), [text(1)]);
}

#[test]
fn a_daemon_that_does_not_answer_costs_eio_and_no_more_than_the_wait() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    // It takes connections, by the kernel, and never answers.
    let _mute = UnixListener::bind(&path).unwrap();
    let tree = Tree::new(Path::new("/etc/mdevctl.d"), Path::new("/usr/lib/mdevctl"));
    let client = || {
        let client = Client::new(&path).unwrap();
        client.with_patience(Duration::from_millis(200))
    };
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let found = tree.find(&client(), &names(SOFT0));
                assert_eq!(found.unwrap_err(), Errno::IO);
            });
        }
    });
    let state = names(&device_path(uuid(1), "state"));
    assert_eq!(tree.read(&client(), &state), Err(Errno::IO));
    let create = names(&format!("{}/create", type_path("edu-1")));
    let made = tree.write(&client(), &create, 0, text(1).as_bytes());
    assert_eq!(made, Err(Errno::IO));
    // What needs no daemon is there.
    let listed = tree.list(&client(), &names("sys")).unwrap();
    assert_eq!(listed.len(), 3);
}
