//! Many instances at once.

mod support;

use std::thread;

use support::{Daemon, Process, read, request, uuid};
use vfu::client::Client as Vmm;
use vgpud::api::InstanceState;

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
    daemon.wait_state(uuid(99), InstanceState::Failed);
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
