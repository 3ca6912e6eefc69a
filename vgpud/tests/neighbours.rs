//! Many instances at once, and what one does to the others: nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::thread;

use support::group::Group;
use support::{Daemon, Process, read, request, uuid};
use vfu::client::Client as Vmm;
use vfu::wire::dma::{DmaFlags, DmaMap};
use vgpud::api::{EventKind, Exit, Instance, InstanceState};

/// The configuration region of a PCI device, as VFIO numbers them.
const CONFIG: u32 = 7;

/// Two clients create and remove at once, a worker is killed, and whoever is connected elsewhere
/// notices nothing.
#[test]
fn creating_removing_and_killing_disturbs_no_other() {
    let daemon = Daemon::start();
    let path = daemon.path("run/vgpud/api.sock");
    let before = daemon.available("edu-1");
    let steady: Vec<_> = (0..8)
        .map(|number| daemon.create(uuid(number), "edu-1"))
        .collect();
    let mut vmms: Vec<_> = steady
        .iter()
        .map(|instance| Vmm::connect(instance.socket.as_ref()).unwrap())
        .collect();
    let victim = daemon.create(uuid(99), "edu-1");
    thread::scope(|scope| {
        for base in [100, 200] {
            let client = vgpud::client::Client::new(&path).unwrap();
            scope.spawn(move || {
                for number in base..base + 10 {
                    client.create(uuid(number), &request("serial-1")).unwrap();
                    client.destroy(uuid(number), false).unwrap();
                }
            });
        }
        Process::open(victim.pid.unwrap()).kill();
        for round in 1..50u32 {
            for vmm in &mut vmms {
                // The liveness register answers with the complement.
                vmm.region_write(0, 4, &round.to_le_bytes()).unwrap();
                assert_eq!(read(vmm, 0, 4), (!round).to_le_bytes());
            }
        }
    });
    daemon.fail(uuid(99));
    daemon.client.destroy(uuid(99), false).unwrap();
    for instance in &steady {
        assert_eq!(&daemon.client.instance(instance.uuid).unwrap(), instance);
        let counters = daemon.client.status(instance.uuid).unwrap().counters;
        assert_eq!(
            (counters["region_reads"], counters["region_writes"]),
            (49, 49)
        );
    }
    assert_eq!(daemon.client.instances().unwrap(), steady);
    assert_eq!(daemon.available("edu-1"), before - 8);
    assert_eq!(daemon.available("serial-1"), before - 8);
    assert_eq!(daemon.records().len(), 8);
}

/// A VMM has a worker keep what costs it memory of its own, mappings without a file, until it ends.
fn fill(instance: &Instance) {
    let mut vmm = Vmm::connect(instance.socket.as_ref()).unwrap();
    let mut is_taken = |page: u64| {
        let map = DmaMap {
            flags: DmaFlags::all(),
            offset: 0,
            iova: page << 13,
            size: 1 << 12,
        };
        vmm.dma_map(&map, None).is_ok()
    };
    let taken = (0..1 << 20).take_while(|page| is_taken(*page)).count();
    assert!(taken > 100, "{taken}");
}

/// One of two workers is filled until it ends: how it did. The other serves on. Nobody may take
/// over from it: who does might just not be filled by what is tried once more, and serve on.
fn fill_one_of_two(daemon: &Daemon) -> Exit {
    let victim = daemon.create(uuid(1), "edu-1");
    let other = daemon.create(uuid(2), "edu-1");
    let mut others = Vmm::connect(other.socket.as_ref()).unwrap();
    fill(&victim);
    let failed = daemon.wait_state(uuid(1), InstanceState::Failed);
    read(&mut others, CONFIG, 0);
    assert_eq!(daemon.client.instance(uuid(2)).unwrap(), other);
    failed.last_exit.unwrap()
}

#[test]
fn a_worker_over_its_memory_limit_ends_alone_and_says_so() {
    let config = "[workers]\nmemory-limit = \"16M\"\nrestart = \"never\"";
    let daemon = Daemon::start_with(config);
    let exit = fill_one_of_two(&daemon);
    assert_eq!(exit.signal, Some(6), "{exit:?}");
    let words = exit.last_words.unwrap();
    assert!(words.contains("memory allocation of "), "{words}");
    assert!(words.contains("workers.memory-limit"), "{words}");
    let crashed = daemon.event(EventKind::Crashed);
    assert!(crashed.detail.contains(&words), "{}", crashed.detail);
    // One that has too little to start with says so as well.
    let daemon = Daemon::start_with("[workers]\nmemory-limit = \"1M\"");
    let error = daemon
        .client
        .create(uuid(1), &request("edu-1"))
        .unwrap_err();
    let problem = error.problem().unwrap();
    assert_eq!(problem.errno, "EIO");
    assert!(
        problem.detail.contains("workers.memory-limit"),
        "{}",
        problem.detail
    );
    assert_eq!(daemon.run_files(), [""; 0]);
}

#[test]
fn a_worker_that_the_kernel_ends_for_memory_ends_alone_and_this_is_told() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT RUN: only root has control groups to give");
        return;
    }
    let group = Group::make("memory", &["", "memory"]);
    let Some(group) = group.filter(|group| group.limit_memory(8 << 20)) else {
        return;
    };
    let config = format!(
        "[workers]\ncgroup = \"{}\"\nrestart = \"never\"",
        group.0.display()
    );
    let daemon = Daemon::start_with(&config);
    let exit = fill_one_of_two(&daemon);
    assert_eq!(exit.signal, Some(9), "{exit:?}");
    assert!(exit.reason.contains("out of memory"), "{exit:?}");
}
