//! The registers, one by one.

use mdev::device::AttributeError;

use super::guest::{CONFIG, Guest, Instance};
use crate::edu::registers::{Register, command, status};

#[test]
fn configuration_space_is_that_of_qemu() {
    let instance = Instance::new(&[]);
    let mut guest = instance.guest();
    for (what, offset, expected) in [
        ("vendor, device", 0x00, [0x34, 0x12, 0xe8, 0x11]),
        ("revision, class", 0x08, [0x10, 0x00, 0xff, 0x00]),
        ("BAR0 is memory", 0x10, [0, 0, 0, 0]),
        ("subsystem", 0x2c, [0xf4, 0x1a, 0x00, 0x11]),
        ("capabilities", 0x34, [0x40, 0, 0, 0]),
        ("INTA", 0x3c, [0, 1, 0, 0]),
        ("MSI, one vector, 64 bits", 0x40, [0x05, 0x00, 0x80, 0x00]),
    ] {
        let mut bytes = [0; 4];
        guest
            .client
            .region_read(CONFIG, offset, &mut bytes)
            .unwrap();
        assert_eq!(bytes, expected, "{what}");
    }
    let (bar, _) = guest.client.region_info(0).unwrap();
    assert_eq!(bar.size, 1 << 20);
}

/// What reads after `written` went to the register; `None` for all ones, which a fault reads.
fn check(guest: &mut Guest, register: Register, written: u64, expected: Option<u64>) {
    guest.write_wide(register, written);
    let wide = guest.read_wide(register as u64);
    assert_eq!(wide, expected.unwrap_or(u64::MAX), "{register:?}");
    let low = guest.read(register);
    assert_eq!(low, wide as u32, "{register:?}");
}

#[test]
fn registers_read_what_they_should_after_a_write() {
    let instance = Instance::new(&[]);
    let mut guest = instance.guest();
    for (register, written, expected) in [
        (Register::Identification, 5, 0x0100_00ed),
        (Register::Liveness, 0x1234_5678, !0x1234_5678),
        (
            Register::Status,
            u32::MAX,
            status::INTERRUPT_AFTER_FACTORIAL,
        ),
        (Register::Status, status::COMPUTING, 0),
        (Register::InterruptStatus, 1, 0),
        (Register::InterruptRaise, 0, u32::MAX),
        (Register::InterruptAcknowledge, 0, u32::MAX),
    ] {
        guest.write(register, written);
        assert_eq!(guest.read(register), expected, "{register:?}");
        assert_eq!(guest.read_wide(register as u64), u64::MAX, "{register:?}");
    }
    let wide = 0x1122_3344_5566_7788;
    for register in [
        Register::DmaSource,
        Register::DmaDestination,
        Register::DmaCount,
    ] {
        check(&mut guest, register, wide, Some(wide));
        guest.write(register, 7);
        assert_eq!(guest.read_wide(register as u64), 7, "{register:?}");
    }
    check(&mut guest, Register::DmaError, wide, Some(0));
    check(&mut guest, Register::DmaFailures, wide, Some(0));
    let not_a_start = command::TO_RAM | command::INTERRUPT;
    check(&mut guest, Register::DmaCommand, not_a_start, Some(0));
}

#[test]
fn where_no_register_is_all_ones_are_read() {
    let instance = Instance::new(&[]);
    let mut guest = instance.guest();
    for offset in [0x02, 0x0c, 0x28, 0x68, 0x84, 0xb0, 0x4_0000, 0xf_fffc] {
        let write = guest.client.region_write(0, offset, &[0; 4]);
        write.unwrap();
        assert_eq!(guest.read_at(offset), u32::MAX, "{offset:#x}");
    }
    for len in [1, 2, 3, 5, 12] {
        let mut data = vec![0; len];
        guest.client.region_read(0, 0x80, &mut data).unwrap();
        assert_eq!(data, vec![0xff; len]);
    }
}

#[test]
fn a_factorial_is_there_once_the_status_says_so() {
    let instance = Instance::new(&[]);
    let mut guest = instance.guest();
    for (number, expected) in [(0, 1), (6, 720), (13, 1_932_053_504), (u32::MAX, 0)] {
        guest.write(Register::Factorial, number);
        guest.wait_until("the factorial is done", |guest| {
            guest.read(Register::Status) & status::COMPUTING == 0
        });
        assert_eq!(guest.read(Register::Factorial), expected, "{number}!");
    }
}

#[test]
fn the_way_of_transfers_may_be_changed_and_the_mask_may_not() {
    let instance = Instance::new(&[("dma-mask", "32")]);
    let set = |name: &'static str, value: &'static str| {
        let call = move |device: &mut dyn mdev::MediatedDevice| {
            (device.set_attribute(name, value), device.attributes())
        };
        instance.mail.call(call).unwrap()
    };
    let expect = |way: &str| {
        let all = [
            ("dma", way),
            ("dma-mask", "32"),
            ("panic-register", "off"),
            ("spin-register", "off"),
        ];
        all.map(|(name, value)| (name, value.to_owned())).to_vec()
    };
    assert_eq!(set("dma", "copy"), (Ok(()), expect("copy")));
    let fixed = AttributeError::Fixed("dma-mask".to_owned());
    assert_eq!(set("dma-mask", "64"), (Err(fixed), expect("copy")));
    let unknown = AttributeError::Unknown("msi".to_owned());
    assert_eq!(set("msi", "off"), (Err(unknown), expect("copy")));
    for (name, value) in [
        ("dma", "never"),
        ("dma-mask", "99"),
        ("panic-register", "x"),
    ] {
        let (wrong, after) = set(name, value);
        assert!(
            matches!(wrong, Err(AttributeError::Invalid { .. })),
            "{name}"
        );
        assert_eq!(after, expect("copy"));
    }
    assert_eq!(set("dma", "pin"), (Ok(()), expect("pin")));
}
