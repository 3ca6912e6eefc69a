//! SET_IRQS: which there are, and what each does.

mod pin;

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
use vfu::wire::irq::IrqData;

use super::*;

const COUNTS: IrqCounts = IrqCounts {
    intx: 1,
    msi: 4,
    msix: 8,
};

fn interrupts() -> Interrupts {
    let interrupts = Interrupts::default();
    interrupts.set_counts(COUNTS);
    interrupts
}

/// A client's eventfd, and the client's own descriptor of it.
fn client_eventfd() -> (OwnedFd, OwnedFd) {
    let ours = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
    (ours.try_clone().unwrap(), ours)
}

/// How often the eventfd was signalled since the last look.
fn signals(eventfd: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(eventfd, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(Errno::AGAIN) => 0,
        Err(error) => panic!("{error}"),
    }
}

fn set(
    interrupts: &Interrupts,
    action: IrqAction,
    index: IrqIndex,
    vectors: (u32, u32),
    data: IrqData<'_>,
) -> Result<(), Errno> {
    let set = SetIrqs {
        index: index as u32,
        start: vectors.0,
        count: vectors.1,
        action,
        data,
    };
    interrupts.set_irqs(set).map_err(|error| error.errno())
}

/// Gives vectors from `start` on an eventfd each.
fn assign(interrupts: &Interrupts, index: IrqIndex, start: u32, count: u32) -> Vec<OwnedFd> {
    let (theirs, ours): (Vec<_>, Vec<_>) = (0..count).map(|_| client_eventfd()).unzip();
    let data = IrqData::Eventfd(theirs.into_iter().map(Some).collect());
    set(interrupts, IrqAction::Trigger, index, (start, count), data).unwrap();
    ours
}

#[derive(Clone, Copy, Debug)]
enum Data {
    None,
    Bool,
    NoFd,
    Fd,
}

impl Data {
    fn build(self, count: u32) -> IrqData<'static> {
        const ONES: [u8; 16] = [1; 16];
        match self {
            Self::None => IrqData::None,
            Self::Bool => IrqData::Bool(&ONES[..count as usize]),
            Self::NoFd => IrqData::Eventfd((0..count).map(|_| None).collect()),
            Self::Fd => IrqData::Eventfd((0..count).map(|_| Some(client_eventfd().0)).collect()),
        }
    }
}

const ANY_DATA: &[Data] = &[Data::None, Data::Bool, Data::NoFd, Data::Fd];
const NOW: &[Data] = &[Data::None, Data::Bool];
const BY_EVENTFD: &[Data] = &[Data::NoFd, Data::Fd];
const ALL: &[IrqIndex] = &IrqIndex::ALL;
const INTX: &[IrqIndex] = &[IrqIndex::Intx];
const MSI: &[IrqIndex] = &[IrqIndex::Msi];
const MSIX: &[IrqIndex] = &[IrqIndex::Msix];
const SINGLE: &[IrqIndex] = &[IrqIndex::Intx, IrqIndex::Err, IrqIndex::Req];
const NOT_INTX: &[IrqIndex] = &[IrqIndex::Msi, IrqIndex::Msix, IrqIndex::Err, IrqIndex::Req];

fn check(
    action: IrqAction,
    (datas, indices): (&[Data], &[IrqIndex]),
    vectors: (u32, u32),
    expected: Result<(), Errno>,
) {
    for index in indices {
        for data in datas {
            let data_now = data.build(vectors.1.min(16));
            let result = set(&interrupts(), action, *index, vectors, data_now);
            assert_eq!(
                result, expected,
                "{action:?} {data:?} {index:?} {vectors:?}"
            );
        }
    }
}

#[test]
fn trigger_takes_any_data_within_the_vectors_that_there_are() {
    for (forms, vectors, expected) in [
        ((ANY_DATA, ALL), (0, 1), Ok(())),
        ((ANY_DATA, MSI), (3, 1), Ok(())),
        ((ANY_DATA, MSIX), (0, 8), Ok(())),
        ((ANY_DATA, SINGLE), (1, 1), Err(Errno::INVAL)),
        ((ANY_DATA, SINGLE), (0, 2), Err(Errno::INVAL)),
        ((ANY_DATA, MSI), (1, 4), Err(Errno::INVAL)),
        ((ANY_DATA, MSIX), (8, 1), Err(Errno::INVAL)),
        ((&[Data::None], ALL), (u32::MAX, 1), Err(Errno::INVAL)),
        ((&[Data::None], ALL), (1, u32::MAX), Err(Errno::INVAL)),
        // Without vectors it switches the group off, and takes no data then.
        ((&[Data::None], ALL), (0, 0), Ok(())),
        ((&[Data::None], ALL), (1, 0), Err(Errno::INVAL)),
        (
            (&[Data::Bool, Data::NoFd, Data::Fd], ALL),
            (0, 0),
            Err(Errno::INVAL),
        ),
    ] {
        check(IrqAction::Trigger, forms, vectors, expected);
    }
}

#[test]
fn only_intx_is_masked_and_only_at_once() {
    for action in [IrqAction::Mask, IrqAction::Unmask] {
        for (forms, vectors, expected) in [
            ((NOW, INTX), (0, 1), Ok(())),
            ((NOW, INTX), (0, 0), Err(Errno::INVAL)),
            ((NOW, INTX), (0, 2), Err(Errno::INVAL)),
            ((BY_EVENTFD, INTX), (0, 1), Err(Errno::NOTTY)),
            ((ANY_DATA, NOT_INTX), (0, 1), Err(Errno::NOTTY)),
            ((ANY_DATA, NOT_INTX), (0, 0), Err(Errno::INVAL)),
        ] {
            check(action, forms, vectors, expected);
        }
    }
}

#[test]
fn a_group_without_vectors_can_be_switched_off_and_nothing_else() {
    let interrupts = Interrupts::default();
    for index in [IrqIndex::Intx, IrqIndex::Msi, IrqIndex::Msix] {
        let trigger = IrqAction::Trigger;
        let off = set(&interrupts, trigger, index, (0, 0), IrqData::None);
        assert_eq!(off, Ok(()), "{index:?}");
        let assigned = set(&interrupts, trigger, index, (0, 1), Data::Fd.build(1));
        assert_eq!(assigned, Err(Errno::INVAL), "{index:?}");
    }
}

#[test]
fn there_are_five_groups() {
    for index in [5, u32::MAX] {
        let set = SetIrqs {
            index,
            start: 0,
            count: 0,
            action: IrqAction::Trigger,
            data: IrqData::None,
        };
        let refused = interrupts().set_irqs(set).unwrap_err();
        assert_eq!(refused.errno(), Errno::INVAL, "{index}");
    }
}

#[test]
fn only_an_eventfd_is_taken_and_a_message_with_another_descriptor_changes_nothing() {
    let interrupts = interrupts();
    let old = assign(&interrupts, IrqIndex::Msix, 0, 2);
    let file = rustix::fs::memfd_create("file", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let (pipe, _) = rustix::pipe::pipe().unwrap();
    for other in [file, pipe] {
        let data = IrqData::Eventfd(vec![Some(client_eventfd().0), Some(other)]);
        let refused = set(
            &interrupts,
            IrqAction::Trigger,
            IrqIndex::Msix,
            (0, 2),
            data,
        );
        assert_eq!(refused, Err(Errno::BADF));
        interrupts.trigger(IrqIndex::Msix, 0);
        interrupts.trigger(IrqIndex::Msix, 1);
        assert_eq!([signals(&old[0]), signals(&old[1])], [1, 1]);
    }
}

#[test]
fn each_vector_signals_its_own_eventfd_and_a_bool_chooses_among_them() {
    let interrupts = interrupts();
    let eventfds = assign(&interrupts, IrqIndex::Msix, 2, 3);
    let counts = |eventfds: &[OwnedFd]| eventfds.iter().map(signals).collect::<Vec<_>>();
    for vector in [1, 2, 4, 4, 5, u32::MAX] {
        interrupts.trigger(IrqIndex::Msix, vector);
        interrupts.trigger(IrqIndex::Msi, vector);
    }
    assert_eq!(counts(&eventfds), [1, 0, 2]);
    assert_eq!(interrupts.raised(), 3);
    let trigger = IrqAction::Trigger;
    let data = IrqData::Bool(&[1, 0, 2]);
    set(&interrupts, trigger, IrqIndex::Msix, (2, 3), data).unwrap();
    assert_eq!(counts(&eventfds), [1, 0, 1]);
    set(
        &interrupts,
        trigger,
        IrqIndex::Msix,
        (3, 1),
        Data::NoFd.build(1),
    )
    .unwrap();
    set(&interrupts, trigger, IrqIndex::Msix, (0, 8), IrqData::None).unwrap();
    assert_eq!(counts(&eventfds), [1, 0, 1]);
    assert!(interrupts.is_enabled(IrqIndex::Msix));
    set(&interrupts, trigger, IrqIndex::Msix, (0, 0), IrqData::None).unwrap();
    assert!(!interrupts.is_enabled(IrqIndex::Msix));
    interrupts.trigger(IrqIndex::Msix, 2);
    assert_eq!(counts(&eventfds), [0, 0, 0]);
}

#[test]
fn a_full_eventfd_holds_nobody_up() {
    for flags in [EventfdFlags::empty(), EventfdFlags::NONBLOCK] {
        let interrupts = interrupts();
        let ours = eventfd(0, flags).unwrap();
        let data = IrqData::Eventfd(vec![Some(ours.try_clone().unwrap())]);
        set(&interrupts, IrqAction::Trigger, IrqIndex::Msi, (0, 1), data).unwrap();
        rustix::io::write(&ours, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        interrupts.trigger(IrqIndex::Msi, 0);
        assert_eq!(signals(&ours), u64::MAX - 1);
        interrupts.trigger(IrqIndex::Msi, 0);
        assert_eq!(signals(&ours), 1);
    }
}
