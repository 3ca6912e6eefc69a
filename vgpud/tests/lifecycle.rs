//! An instance's life, with a client at its socket.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::thread;

use support::{Daemon, read, request, uuid, wait_for};
use vfu::client::Client as Vmm;
use vgpud::api::{Attribute, EventKind, InstanceState, View};

/// The configuration region of a PCI device, as VFIO numbers them.
const CONFIG: u32 = 7;

fn attribute(name: &str, value: &str) -> Attribute {
    Attribute {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

#[test]
fn an_instance_serves_a_client_from_create_to_destroy() {
    let daemon = Daemon::start();
    let before = daemon.available("bochs-4m");
    let instance = daemon.create(uuid(1), "bochs-4m");
    assert_eq!(instance.state, InstanceState::Running);
    assert_eq!(daemon.available("bochs-4m"), before - 1);
    let mut vmm = Vmm::connect(instance.socket.as_ref()).unwrap();
    let ids = read(&mut vmm, CONFIG, 0);
    assert_eq!(ids, [0x34, 0x12, 0x11, 0x11]);
    let status = daemon.client.status(uuid(1)).unwrap();
    assert!(status.connected);
    assert!(status.counters["region_reads"] > 0);

    // Its machine runs: neither stop nor destroy pulls the device from under it unasked.
    for error in [
        daemon.client.stop(uuid(1), false).unwrap_err(),
        daemon.client.destroy(uuid(1), false).unwrap_err(),
    ] {
        assert_eq!(error.problem().unwrap().errno, "EBUSY");
        assert!(error.problem().unwrap().remedy.is_some());
    }
    assert_eq!(read(&mut vmm, CONFIG, 0), ids);
    drop(vmm);
    wait_for("end of the session", || {
        let status = daemon.client.status(uuid(1)).unwrap();
        (!status.connected).then_some(())
    });

    let stopped = daemon.client.stop(uuid(1), false).unwrap();
    assert_eq!((stopped.state, stopped.pid), (InstanceState::Stopped, None));
    assert_eq!(stopped.crashes, 0);
    assert!(Vmm::connect(instance.socket.as_ref()).is_err());
    // It keeps its place while it is stopped.
    assert_eq!(daemon.available("bochs-4m"), before - 1);
    daemon.client.stop(uuid(1), false).unwrap();
    let again = daemon.client.start(uuid(1)).unwrap();
    assert_eq!(again.state, InstanceState::Running);
    assert_eq!(daemon.client.start(uuid(1)).unwrap(), again);
    Vmm::connect(again.socket.as_ref()).unwrap();

    daemon.client.destroy(uuid(1), true).unwrap();
    assert_eq!(daemon.available("bochs-4m"), before);
    assert!(daemon.client.instances().unwrap().is_empty());
    assert_eq!(daemon.run_files(), [""; 0]);
    assert_eq!(daemon.records(), [""; 0]);
    let gone = daemon.client.destroy(uuid(1), true).unwrap_err();
    assert_eq!(gone.problem().unwrap().errno, "ENODEV");
}

#[test]
fn a_worker_has_nothing_of_its_daemons_but_its_socket() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT RUN: nobody but root may look into a worker");
        return;
    }
    let daemon = Daemon::start();
    let pid = daemon.create(uuid(1), "edu-1").pid.unwrap();
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert_eq!(String::from_utf8_lossy(&environment), "");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    assert_eq!(fields[2], pid.to_string(), "its process group");
    for fd in support::names(format!("/proc/{pid}/fd").as_ref()) {
        // One that was only passing through, as what it is lent does, is closed by now.
        let Ok(target) = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")) else {
            continue;
        };
        let target = target.display().to_string();
        let is_its_own = ["socket:", "anon_inode:", "/dev/null", "/memfd:", "pipe:"]
            .iter()
            .any(|kind| target.starts_with(kind));
        // The folder of its sockets: it removes their files at its end.
        let is_folder = target.ends_with("/run/vgpud");
        assert!(
            is_its_own || is_folder || target.ends_with(".log"),
            "{fd}: {target}"
        );
    }
}

#[test]
fn the_same_request_twice_has_the_same_answer_and_another_is_refused() {
    let daemon = Daemon::start();
    let first = daemon.create(uuid(1), "serial-1");
    assert_eq!(daemon.create(uuid(1), "serial-1"), first);
    let error = daemon
        .client
        .create(uuid(1), &request("serial-2"))
        .unwrap_err();
    assert_eq!(error.problem().unwrap().errno, "EEXIST");
    assert_eq!(daemon.client.instance(uuid(1)).unwrap(), first);
    assert_eq!(daemon.client.instances().unwrap(), [first]);
}

#[test]
fn creates_of_one_uuid_at_once_make_one_instance() {
    let daemon = Daemon::start();
    let path = daemon.path("run/vgpud/api.sock");
    let pids: Vec<_> = thread::scope(|scope| {
        let create = || {
            let client = vgpud::client::Client::new(&path).unwrap();
            client.create(uuid(1), &request("edu-1")).unwrap().pid
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(pids[0].is_some());
    assert_eq!(pids, vec![pids[0]; 4]);
    // Two that differ: one is made, the other refused.
    let create = |type_name| {
        let client = vgpud::client::Client::new(&path).unwrap();
        client.create(uuid(2), &request(type_name))
    };
    let answers = thread::scope(|scope| {
        let both = ["edu-1", "serial-1"].map(|name| scope.spawn(move || create(name)));
        both.map(|thread| thread.join().unwrap())
    });
    let (made, refused) = match answers {
        [Ok(made), Err(refused)] | [Err(refused), Ok(made)] => (made, refused),
        both => panic!("{both:?}"),
    };
    let problem = refused.problem().unwrap();
    assert_eq!((problem.status, problem.errno.as_str()), (409, "EEXIST"));
    let words = format!("its type is {}", made.type_name);
    assert!(problem.detail.contains(&words), "{problem:?}");
    assert_eq!(daemon.client.instance(uuid(2)).unwrap(), made);
    assert_eq!(daemon.client.instances().unwrap().len(), 2);
    assert_eq!(daemon.client.parents().unwrap()[0].instances.used, 2);
    assert_eq!(daemon.records().len(), 2);
}

#[test]
fn attributes_are_set_all_or_none_and_stay_over_a_restart() {
    let daemon = Daemon::start();
    let mut asked = request("edu-1");
    asked.attributes = vec![attribute("dma-mask", "32")];
    daemon.client.create(uuid(1), &asked).unwrap();
    let now = || daemon.client.status(uuid(1)).unwrap().attributes;
    let given = now();
    assert!(given.contains(&attribute("dma-mask", "32")));
    // The second is refused: the first is set back.
    let changes = vec![attribute("dma", "copy"), attribute("dma", "x")];
    let error = daemon.client.set_attributes(uuid(1), changes).unwrap_err();
    assert_eq!(error.problem().unwrap().errno, "EINVAL");
    assert_eq!(now(), given);
    let changes = vec![attribute("dma", "copy")];
    let changed = daemon.client.set_attributes(uuid(1), changes).unwrap();
    assert!(changed.attributes.contains(&attribute("dma", "copy")));
    assert!(now().contains(&attribute("dma", "copy")));
    daemon.client.stop(uuid(1), false).unwrap();
    daemon.client.start(uuid(1)).unwrap();
    assert!(now().contains(&attribute("dma", "copy")));
    assert!(now().contains(&attribute("dma-mask", "32")));
    // The same request is still the same.
    daemon.client.create(uuid(1), &asked).unwrap();
}

#[test]
fn a_socket_is_as_open_as_its_creator_or_the_configuration_says() {
    let daemon = Daemon::start_with("[sockets]\nmode = \"0640\"");
    let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&daemon.create(uuid(1), "serial-1").socket), 0o640);
    let mut asked = request("serial-1");
    asked.socket.mode = Some("0666".to_owned());
    let open = daemon.client.create(uuid(2), &asked).unwrap();
    assert_eq!(mode(&open.socket), 0o666);
    assert_eq!(open.access.mode.as_deref(), Some("0666"));
}

#[test]
fn types_of_the_configuration_are_made_of_drivers_types() {
    let daemon = Daemon::start_with(
        "[[types]]\nname = \"desktop\"\nbase = \"bochs-16m\"\n\
         attributes = { mode = \"1280x720\" }\nreplaces-base = true",
    );
    daemon.create(uuid(1), "desktop");
    let status = daemon.client.status(uuid(1)).unwrap();
    let expected = [attribute("mode", "1280x720"), attribute("input", "off")];
    assert_eq!(status.attributes, expected);
    assert!(
        daemon
            .client
            .create(uuid(2), &request("bochs-16m"))
            .is_err()
    );
}

#[test]
fn a_state_is_taken_out_of_one_instance_and_put_into_another() {
    let daemon = Daemon::start();
    let [one, other] = [1, 2].map(|number| daemon.create(uuid(number), "edu-1"));
    let mut vmm = Vmm::connect(one.socket.as_ref()).unwrap();
    // The factorial register of the educational device.
    vmm.region_write(0, 8, &5u32.to_le_bytes()).unwrap();
    wait_for("a factorial", || {
        (read(&mut vmm, 0, 8) == 120u32.to_le_bytes()).then_some(())
    });
    let mut state = Vec::new();
    daemon.client.save_state(one.uuid, &mut state).unwrap();
    drop(vmm);
    daemon
        .client
        .restore_state(other.uuid, &mut &state[..])
        .unwrap();
    let mut again = Vec::new();
    daemon.client.save_state(other.uuid, &mut again).unwrap();
    assert_eq!(again, state);
    let error = daemon
        .client
        .restore_state(other.uuid, &mut &state[1..])
        .unwrap_err();
    assert_eq!(error.problem().unwrap().errno, "EINVAL");
}

#[test]
fn a_device_that_shows_nothing_has_no_picture() {
    let daemon = Daemon::start();
    daemon.create(uuid(1), "bochs-4m");
    let error = daemon
        .client
        .screenshot(uuid(1), View::default())
        .unwrap_err();
    assert_eq!(error.problem().unwrap().errno, "ENODATA");
}

#[test]
fn events_tell_a_life_in_order_and_again_to_who_comes_back() {
    let daemon = Daemon::start();
    daemon.create(uuid(1), "edu-1");
    daemon.client.stop(uuid(1), false).unwrap();
    daemon.client.start(uuid(1)).unwrap();
    daemon.client.destroy(uuid(1), false).unwrap();
    let expected = [
        EventKind::Created,
        EventKind::Started,
        EventKind::Stopped,
        EventKind::Started,
        EventKind::Stopped,
        EventKind::Destroyed,
    ];
    for skipped in [0, 2] {
        let mut seen = Vec::new();
        let see = |event: vgpud::api::Event| {
            assert_eq!(event.instance, Some(uuid(1)));
            seen.push(event.kind);
            event.kind != EventKind::Destroyed
        };
        daemon.client.events(Some(skipped), see).unwrap();
        assert_eq!(seen, expected[skipped as usize..]);
    }
}
