//! The interrupt pin: when exactly its client is signalled.

use std::os::fd::OwnedFd;

use proptest::prelude::*;
use vfu::wire::irq::{IrqAction, IrqData};

use super::{Data, Interrupts, IrqIndex, assign, interrupts, set, signals};

/// Something that happens to the interrupt pin.
#[derive(Clone, Copy, Debug)]
enum Event {
    Level(bool),
    /// Bit 10 of the command register.
    Disable(bool),
    Assign,
    TakeAway,
    SwitchOff,
    Mask,
    Unmask,
    /// UNMASK with a bool of 0: of no vector.
    UnmaskNone,
    Trigger,
    ClientLeaves,
}

/// The pin under test, and the eventfd that its client holds now.
struct Pin {
    interrupts: Interrupts,
    eventfd: Option<OwnedFd>,
}

impl Pin {
    fn new() -> Self {
        Self {
            interrupts: interrupts(),
            eventfd: None,
        }
    }

    /// Makes it happen, and tells how often the client was signalled by it.
    fn happen(&mut self, event: Event) -> u64 {
        let one = |action, data| set(&self.interrupts, action, IrqIndex::Intx, (0, 1), data);
        match event {
            Event::Level(level) => self.interrupts.set_intx(level),
            Event::Disable(disable) => self.interrupts.set_intx_disabled(disable),
            Event::Assign => {
                self.eventfd = assign(&self.interrupts, IrqIndex::Intx, 0, 1).pop();
            }
            Event::TakeAway => one(IrqAction::Trigger, Data::NoFd.build(1)).unwrap(),
            Event::SwitchOff => {
                let (action, index) = (IrqAction::Trigger, IrqIndex::Intx);
                set(&self.interrupts, action, index, (0, 0), IrqData::None).unwrap();
            }
            Event::Mask => one(IrqAction::Mask, IrqData::None).unwrap(),
            Event::Unmask => one(IrqAction::Unmask, IrqData::None).unwrap(),
            Event::UnmaskNone => one(IrqAction::Unmask, IrqData::Bool(&[0])).unwrap(),
            Event::Trigger => one(IrqAction::Trigger, IrqData::None).unwrap(),
            Event::ClientLeaves => self.interrupts.disconnect(),
        }
        self.eventfd.as_ref().map_or(0, signals)
    }
}

impl Event {
    fn named(name: &str) -> Self {
        match name {
            "up" => Self::Level(true),
            "down" => Self::Level(false),
            "disable" => Self::Disable(true),
            "enable" => Self::Disable(false),
            "assign" => Self::Assign,
            "take-away" => Self::TakeAway,
            "switch-off" => Self::SwitchOff,
            "mask" => Self::Mask,
            "unmask" => Self::Unmask,
            "unmask-none" => Self::UnmaskNone,
            "trigger" => Self::Trigger,
            "leave" => Self::ClientLeaves,
            other => panic!("{other}"),
        }
    }
}

/// An exclamation mark stands where the client is signalled.
#[test]
fn the_pin_signals_once_until_it_is_unmasked() {
    for (rule, script) in [
        ("once for a level", "assign up! up up"),
        (
            "again while the level is up",
            "assign up! unmask! unmask! down unmask",
        ),
        (
            "a second rise waits",
            "assign up! down up unmask! down unmask up!",
        ),
        ("no eventfd yet", "up assign! assign"),
        (
            "a mask outlives its eventfd",
            "assign up! assign take-away assign unmask!",
        ),
        (
            "a mask does not outlive the setup",
            "assign up! switch-off assign!",
        ),
        (
            "a mask by message",
            "assign mask up assign unmask-none unmask! mask unmask!",
        ),
        (
            "a level that is gone is forgotten",
            "assign mask up down unmask",
        ),
        (
            "INTx Disable is another switch",
            "assign disable up unmask enable! disable enable unmask!",
        ),
        (
            "a test masks nothing",
            "assign trigger! trigger! up! trigger!",
        ),
        (
            "the next client starts afresh",
            "assign mask disable leave up assign!",
        ),
    ] {
        let mut pin = Pin::new();
        for word in script.split(' ') {
            let signals = pin.happen(Event::named(word.trim_end_matches('!')));
            assert_eq!(signals == 1, word.ends_with('!'), "{rule}: {word}");
            assert!(signals <= 1, "{rule}: {word}");
        }
    }
}

/// What VFIO says of a pin, without a line of the code that does it.
#[derive(Debug, Default)]
struct Model {
    level: bool,
    masked: bool,
    disabled: bool,
    assigned: bool,
}

impl Model {
    fn happen(&mut self, event: Event) -> u64 {
        match event {
            Event::Level(level) => self.level = level,
            Event::Disable(disable) => self.disabled = disable,
            Event::Assign => self.assigned = true,
            Event::TakeAway => self.assigned = false,
            Event::SwitchOff => (self.assigned, self.masked) = (false, false),
            Event::Mask => self.masked = true,
            Event::Unmask => self.masked = false,
            Event::UnmaskNone => {}
            Event::Trigger => return u64::from(self.assigned),
            Event::ClientLeaves => {
                *self = Self {
                    level: self.level,
                    ..Self::default()
                }
            }
        }
        let signals = self.assigned && self.level && !self.masked && !self.disabled;
        self.masked |= signals;
        u64::from(signals)
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any::<bool>().prop_map(Event::Level),
        any::<bool>().prop_map(Event::Disable),
        Just(Event::Assign),
        Just(Event::TakeAway),
        Just(Event::SwitchOff),
        Just(Event::Mask),
        Just(Event::Unmask),
        Just(Event::UnmaskNone),
        Just(Event::Trigger),
        Just(Event::ClientLeaves),
    ]
}

proptest! {
    #[test]
    fn the_pin_signals_exactly_when_vfio_says(
        events in proptest::collection::vec(any_event(), 0..40),
    ) {
        let (mut pin, mut model) = (Pin::new(), Model::default());
        for event in events {
            prop_assert_eq!(pin.happen(event), model.happen(event), "{:?}: {:?}", event, model);
        }
    }
}
