//! vGPUs of a physical device whose worker is played: [`crate::held::played`].

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::api::{Attribute, CreateRequest, EventKind, InstanceState};
use crate::held::played::{LIMIT, PARENT, Rig};

/// A manager with a device, whose worker is there already.
fn manager(rig: &Rig) -> Manager {
    give(&rig.launcher.paths);
    fs::create_dir_all(rig.launcher.paths.records()).unwrap();
    let manager = find(rig);
    manager.0.held.of(PARENT).adopt(rig.process());
    manager
}

/// A manager that is to find what there is.
fn find(rig: &Rig) -> Manager {
    let (config, paths) = (Config::parse("").unwrap(), rig.launcher.paths.clone());
    Manager::new(config, paths, Vec::new(), PathBuf::from("/nonexistent")).unwrap()
}

/// Has `vfio-pci` have a display of QEMU's.
fn give(paths: &Paths) {
    let folder = paths.host(&format!("/sys/bus/pci/devices/{PARENT}"));
    fs::create_dir_all(&folder).unwrap();
    let resources = "0xfd000000 0xfdffffff 0x42208\n0x0 0x0 0x0\n0xfebd6000 0xfebd6fff 0x40200\n";
    for (name, text) in [
        ("vendor", "0x1234"),
        ("device", "0x1111"),
        ("class", "0x038000"),
        ("resource", resources),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    let group = paths.host("/sys/kernel/iommu_groups/1");
    let driver = paths.host("/sys/bus/pci/drivers/vfio-pci");
    fs::create_dir_all(group.join("devices")).unwrap();
    fs::create_dir_all(&driver).unwrap();
    symlink(&group, folder.join("iommu_group")).unwrap();
    symlink(&driver, folder.join("driver")).unwrap();
    symlink(&folder, group.join("devices").join(PARENT)).unwrap();
    symlink(&folder, driver.join(PARENT)).unwrap();
}

fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn attribute(name: &str, value: &str) -> Attribute {
    Attribute {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

async fn create(manager: &Manager, number: u128) -> Result<Instance, Error> {
    let json = format!(r#"{{"parent":"{PARENT}","type":"bochs-slice-4m"}}"#);
    let request: CreateRequest = serde_json::from_str(&json).unwrap();
    let created = manager.create(uuid(number), request).await;
    created.map(|(instance, _)| instance)
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(LIMIT, work).await;
    done.expect("it takes too long")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fixed_can_be_set_with_what_is_shown() {
    let rig = Rig::new();
    let manager = manager(&rig);
    for number in [1, 2] {
        within(create(&manager, number)).await.unwrap();
    }
    let on = vec![attribute("foreground", "on")];
    within(manager.set_attributes(uuid(2), on.clone()))
        .await
        .unwrap();
    let changes = [on.clone(), vec![attribute("aperture", "trap")]].concat();
    let changed = within(manager.set_attributes(uuid(1), changes.clone())).await;
    assert_eq!(changed.unwrap().attributes, changes);
    // One is shown at most.
    let other = manager.instance(uuid(2)).await.unwrap();
    assert_eq!(other.attributes, [attribute("foreground", "off")]);
    assert_eq!(other.state, InstanceState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_turned_to_turns_nothing_off_later() {
    let rig = Rig::new();
    let manager = manager(&rig);
    for number in [1, 2] {
        within(create(&manager, number)).await.unwrap();
    }
    let on = vec![attribute("foreground", "on")];
    within(manager.set_attributes(uuid(1), on.clone()))
        .await
        .unwrap();
    // A disk that is full, in effect.
    let records = rig.launcher.paths.records();
    let aside = records.with_extension("aside");
    fs::rename(&records, &aside).unwrap();
    let refused = within(manager.set_attributes(uuid(2), on.clone())).await;
    refused.unwrap_err();
    fs::rename(&aside, &records).unwrap();
    within(manager.start(uuid(2))).await.unwrap();
    within(manager.start(uuid(1))).await.unwrap();
    let shown = manager.instance(uuid(1)).await.unwrap();
    assert_eq!(shown.attributes, on);
    assert!(manager.is_last(PARENT, uuid(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vgpu_stops_while_its_device_waits_for_another() {
    let mut rig = Rig::new();
    let manager = manager(&rig);
    for number in [1, 2] {
        within(create(&manager, number)).await.unwrap();
    }
    let device = manager.0.held.of(PARENT);
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (tell, has_lock) = tokio::sync::oneshot::channel();
    let holding = std::thread::spawn(move || {
        device.give_back(|| {
            tell.send(()).unwrap();
            // Until the other end is gone, at the latest.
            let _ = held.recv();
            true
        });
    });
    within(has_lock).await.unwrap();
    let (_, mut events) = manager.listen(None);
    let stopping = {
        let manager = manager.clone();
        tokio::spawn(async move { manager.stop(uuid(1), false).await })
    };
    let stopped = async { while events.recv().await.unwrap().kind != EventKind::Stopped {} };
    within(stopped).await;
    drop(release);
    let stopped = within(stopping).await.unwrap().unwrap();
    assert_eq!(stopped.state, InstanceState::Stopped);
    holding.join().unwrap();
    let other = manager.instance(uuid(2)).await.unwrap();
    assert_eq!(other.state, InstanceState::Running);
    assert!(rig.child.try_wait().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_ended_with_another_by_force_is_not_blamed() {
    let rig = Rig::new();
    let manager = manager(&rig);
    for number in [1, 2] {
        within(create(&manager, number)).await.unwrap();
    }
    let worker = manager.worker_of(uuid(1)).unwrap();
    worker.life.signal(rustix::process::Signal::KILL);
    rig.end_played();
    let crashes = async {
        loop {
            let all = [1, 2].map(|number| manager.instance_now(uuid(number)).unwrap());
            // There is no program that would go on.
            if all.iter().all(|one| one.state == InstanceState::Failed) {
                break all.map(|one| one.crashes);
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    assert_eq!(within(crashes).await, [1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_is_slow_to_answer_a_new_daemon_lives_on() {
    let mut rig = Rig::new();
    let before = manager(&rig);
    for number in [1, 2] {
        within(create(&before, number)).await.unwrap();
    }
    drop(before);
    // One is gone, and nobody was told; the other says nothing.
    rig.end_seat(&uuid(2).to_string());
    fs::remove_file(rig.launcher.paths.control(uuid(2))).unwrap();
    rig.mute(&uuid(1).to_string());
    let files = rig.files();
    let manager = find(&rig);
    let found = {
        let manager = manager.clone();
        blocking(move || manager.recover_now()).await
    };
    let found: Vec<_> = found.unwrap().into_iter().map(|(uuid, _)| uuid).collect();
    assert_eq!(found, [uuid(1)]);
    let states = [1, 2].map(|number| manager.instance_now(uuid(number)).unwrap().state);
    assert_eq!(states, [InstanceState::Running, InstanceState::Failed]);
    for file in [format!("{}.sock", uuid(1)), format!("{}.control", uuid(1))] {
        assert!(
            files.contains(&file) && rig.files().contains(&file),
            "{file}"
        );
    }
    assert!(!rig.played.lock().unwrap().is_stopped);
    assert!(rig.child.try_wait().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_seats_nobody_finds_is_not_ended_with_them() {
    let mut rig = Rig::new();
    let before = manager(&rig);
    within(create(&before, 1)).await.unwrap();
    drop(before);
    // Its socket's file is gone, and the seat is not.
    fs::remove_file(rig.launcher.paths.control(uuid(1))).unwrap();
    let manager = find(&rig);
    let found = blocking(move || manager.recover_now()).await;
    assert!(found.unwrap().is_empty());
    assert!(!rig.played.lock().unwrap().is_stopped);
    assert!(rig.child.try_wait().unwrap().is_none());
}
