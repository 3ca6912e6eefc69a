//! What several vGPUs see of one device: each a device of its own.

use mdev::device::BuildError;
use mdev::host::HostIdentity;
use mdev::{MediatedDevice, ParentDriver};
use rustix::io::Errno;

use super::*;
use crate::edu::registers::{Register, command};
use crate::edu::tests::vmm::Vmm;
use crate::edu::transfer::BUFFER;
use crate::edu_host::EduHostDriver;

#[test]
fn guests_with_the_same_addresses_have_their_own_bytes_and_registers() {
    let (fake, parent) = parent(LIMIT);
    let seats = [seat(&parent, &[]), seat(&parent, &[])];
    let mut guests = [guest(&seats[0], 1), guest(&seats[1], 2)];
    for (number, (guest, _)) in (7..).zip(&mut guests) {
        guest.write(Register::Liveness, number);
        assert_eq!(guest.load(IOVA + 100, 3000), None);
    }
    for (number, (guest, ram)) in (7..).zip(&mut guests) {
        assert_eq!(guest.read(Register::Liveness), !number);
        let mut expected = ram.read(0, 4 * PAGE);
        // Across a border of pages.
        assert_eq!(guest.store(IOVA + 2 * PAGE - 50, 3000), None);
        let from = 2 * PAGE as usize - 50;
        expected.copy_within(100..3100, from);
        assert_eq!(ram.read(0, 4 * PAGE), expected, "guest {number}");
    }
    assert_eq!(fake.faults(), 0);
}

#[test]
fn no_guest_is_given_bytes_that_are_not_its_own() {
    let (_, parent) = parent(LIMIT);
    let (first, second) = (seat(&parent, &[]), seat(&parent, &[]));
    let (mut first, _) = guest(&first, 1);
    let (mut second, ram) = guest(&second, 2);
    let zeroes = [0; BUFFER_LEN];
    // Neither what was in the device before, nor what the other has there.
    assert_eq!(second.store(IOVA, PAGE), None);
    assert_eq!(ram.read(0, PAGE), zeroes);
    assert_eq!(first.load(IOVA, PAGE), None);
    assert_eq!(second.load(IOVA + PAGE, 10), None);
    assert_eq!(second.store(IOVA + 2 * PAGE, PAGE), None);
    let stored = ram.read(2 * PAGE, PAGE);
    assert_eq!(stored[..10], pattern(2, 2 * PAGE)[PAGE as usize..][..10]);
    assert_eq!(stored[10..], zeroes[10..]);
    // Nor, after a reset, what it had itself.
    first.client.reset().unwrap();
    second.client.reset().unwrap();
    second.set_command(crate::edu::tests::guest::BUS_MASTER);
    assert_eq!(second.store(IOVA, PAGE), None);
    assert_eq!(ram.read(0, PAGE), zeroes);
}

#[test]
fn what_cannot_be_done_never_reaches_the_device() {
    let (fake, parent) = parent(LIMIT);
    let seat = seat(&parent, &[]);
    let (mut guest, ram) = guest(&seat, 1);
    let before = ram.read(0, 4 * PAGE);
    let to_ram = command::START | command::TO_RAM;
    for (source, destination, count, command, errno) in [
        (IOVA - 1, BUFFER, 2, command::START, Errno::FAULT),
        (BUFFER, IOVA + 4 * PAGE - 1, 2, to_ram, Errno::FAULT),
        (BUFFER, 0x1000, PAGE, to_ram, Errno::FAULT),
        (BUFFER + 1, IOVA, PAGE, to_ram, Errno::INVAL),
        (IOVA, BUFFER - 1, 1, command::START, Errno::INVAL),
        (BUFFER, 0xfff_ffff, 2, to_ram, Errno::RANGE),
    ] {
        guest.start(source, destination, count, command);
        assert_eq!(guest.finish(), Some(errno), "{source:#x} {destination:#x}");
    }
    let read_only = vfu::wire::dma::DmaMap {
        flags: vfu::wire::dma::DmaFlags::READ,
        offset: 0,
        iova: IOVA + 4 * PAGE,
        size: PAGE,
    };
    guest.map(&ram, &read_only);
    assert_eq!(guest.store(IOVA + 4 * PAGE, 1), Some(Errno::ACCESS));
    assert_eq!(guest.read_wide(Register::DmaFailures as u64), 7);
    assert_eq!(guest.load(IOVA + 4 * PAGE, 0), None);
    assert_eq!((fake.begun(), fake.mapped()), (0, OWN));
    assert_eq!(ram.read(0, 4 * PAGE), before);
    // It may be read.
    assert_eq!(guest.load(IOVA + 4 * PAGE, PAGE), None);
    assert_eq!((fake.faults(), fake.mapped()), (0, OWN));
}

/// The hardware transfers as seldom as it can.
#[test]
fn a_transfer_is_one_job_or_two_for_each_page_that_lies_apart() {
    let (fake, parent) = parent(LIMIT);
    let (first, second) = (seat(&parent, &[]), seat(&parent, &[]));
    let (mut first, _) = guest(&first, 1);
    let (mut second, _) = guest(&second, 2);
    let mut before = 0;
    let mut jobs = |what: &str, expected: u64| {
        let begun = fake.begun();
        assert_eq!(begun - before, expected, "{what}");
        before = begun;
    };
    first.load(IOVA, PAGE);
    jobs("to the device, and on to where the buffer is kept", 2);
    first.store(IOVA, PAGE);
    first.store(IOVA, 17);
    jobs("bytes that the device still has", 2);
    second.store(IOVA, PAGE);
    jobs("bytes that the device has not", 2);
    second.store(IOVA + 1, PAGE);
    jobs("the same, to two pages", 2);
    first.load(IOVA + 1, 4095);
    jobs("a part of the buffer", 2);
    first.store(IOVA, PAGE);
    jobs("more than that part", 2);
}

#[test]
fn an_unmap_waits_for_the_transfer_in_its_memory_and_for_no_other() {
    let (fake, parent) = parent(LIMIT);
    let (first, second) = (seat(&parent, &[]), seat(&parent, &[]));
    let (mut first, ram) = guest(&first, 1);
    let (mut second, other) = guest(&second, 2);
    fake.state().is_stuck = true;
    first.start_load(IOVA, PAGE, 0);
    fake.wait_until_begun(1);
    // It waits for the first, and has pinned nothing yet.
    second.start_store(IOVA, PAGE, 0);
    assert_eq!(fake.mapped(), 2 * OWN + 1);
    second.unmap(IOVA, 4 * PAGE);
    other.write(0, &[0x5c; BUFFER_LEN]);
    std::thread::scope(|scope| {
        let unmapped = scope.spawn(|| {
            first.unmap(IOVA, 4 * PAGE);
            first
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!unmapped.is_finished());
        fake.go_on();
        let mut first = unmapped.join().unwrap();
        ram.write(0, &[0; BUFFER_LEN]);
        assert_eq!(first.finish(), None);
    });
    assert_eq!(second.finish(), Some(Errno::FAULT));
    assert_eq!(other.read(0, PAGE), [0x5c; BUFFER_LEN]);
    assert_eq!((fake.faults(), fake.mapped()), (0, 2 * OWN));
}

#[test]
fn memory_that_cannot_be_pinned_is_copied_on_its_way() {
    for way in ["pin", "copy"] {
        let (fake, parent) = parent(LIMIT);
        let seat = seat(&parent, &[("dma", way)]);
        let mut vmm = Vmm::new(&seat);
        vmm.map(0, 4 * PAGE, None);
        vmm.ram = pattern(3, 4 * PAGE);
        vmm.start(10, BUFFER, 4000, 0);
        assert_eq!(vmm.finish(), None);
        vmm.start(BUFFER, 2 * PAGE, 4000, command::TO_RAM);
        assert_eq!(vmm.finish(), None);
        let mut expected = pattern(3, 4 * PAGE);
        expected.copy_within(10..4010, 2 * PAGE as usize);
        assert!(vmm.ram == expected, "{way}");
        assert_eq!((fake.begun(), fake.faults()), (3, 0));
    }
}

#[test]
fn what_is_gone_leaves_nothing_that_the_device_reaches() {
    let (fake, parent) = parent(LIMIT);
    let (first, second) = (seat(&parent, &[]), seat(&parent, &[]));
    let (mut guest, _ram) = guest(&first, 1);
    assert_eq!(guest.load(IOVA, PAGE), None);
    assert_eq!(fake.mapped(), 2 * OWN);
    drop(guest);
    drop(first);
    assert_eq!(fake.mapped(), OWN);
    assert!(fake.is_bus_master());
    drop(second);
    assert_eq!(fake.mapped(), 0);
    drop(parent);
    assert!(!fake.is_bus_master());
}

#[test]
fn only_the_type_and_the_attributes_of_the_driver_are_built() {
    let (fake, parent) = parent(LIMIT);
    let build =
        |name: &str, attribute: (&str, &str)| -> Result<Box<dyn MediatedDevice>, BuildError> {
            let spec = mdev::TypeSpec {
                name: name.to_owned(),
                ..driver::spec()
            };
            let attribute = (attribute.0.to_owned(), attribute.1.to_owned());
            parent.build(&spec, &Attributes(vec![attribute]), Services::default())
        };
    for (name, attribute, words) in [
        ("edu-1", ("dma", "pin"), "no type is called 'edu-1'"),
        (
            "edu-shared",
            ("speed", "9"),
            "there is no attribute 'speed'",
        ),
    ] {
        let error = build(name, attribute).err().unwrap();
        assert_eq!(error.to_string(), words);
    }
    let device = build("edu-shared", ("dma-mask", "40")).unwrap();
    assert!(device.attributes().contains(&("dma-mask", "40".to_owned())));
    drop(device);
    assert_eq!(fake.mapped(), 0);
}

#[test]
fn a_driver_knows_qemus_device_and_no_other() {
    for (vendor, device, is_known) in [
        (0x1234, 0x11e8, true),
        (0x1234, 0x1111, false),
        (0x8086, 0x11e8, false),
    ] {
        let identity = HostIdentity {
            vendor,
            device,
            ..HostIdentity::default()
        };
        assert_eq!(EduHostDriver.drives(&identity), is_known);
        assert_eq!(crate::parent_driver(&identity).is_some(), is_known);
    }
}
