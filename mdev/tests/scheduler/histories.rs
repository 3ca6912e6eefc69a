//! Histories that nobody thought of.

use mdev::sched::{Class, Nanos, PerMille, Policy, Priority, Settings, Weight};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::world::{Work, World};

/// Longest job of a history.
pub(crate) const LONGEST: Nanos = Nanos::from_millis(20);

/// One thing that happens. Clients are counted modulo how many there have been.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Wait(Nanos),
    Arrive(usize, Work),
    Join(Settings),
    Leave(usize),
    Set(usize, Settings),
    Policy(Policy),
}

/// An engine, who is there, and what happens.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) depth: u32,
    pub(crate) policy: Policy,
    pub(crate) clients: Vec<Settings>,
    pub(crate) steps: Vec<Step>,
}

impl History {
    /// Lets it happen; what the scheduler refuses does not.
    pub(crate) fn run(&self) -> World {
        let mut world = World::new(self.depth, self.policy);
        for settings in &self.clients {
            let _ = world.join(*settings);
        }
        for step in &self.steps {
            happen(&mut world, step, 0);
        }
        world
    }
}

/// One step, of clients other than the first `spared`.
pub(crate) fn happen(world: &mut World, step: &Step, spared: usize) {
    let there = world.clients.len() - spared;
    match step {
        Step::Wait(length) => world.wait(*length),
        Step::Join(settings) => drop(world.join(*settings)),
        Step::Policy(policy) => world.set_policy(*policy),
        _ if there == 0 => {}
        Step::Arrive(number, work) => drop(world.arrive(spared + number % there, *work)),
        Step::Leave(number) => world.leave(spared + number % there),
        Step::Set(number, settings) => world.set(spared + number % there, *settings),
    }
}

/// From 131 µs to the longest, each magnitude as often. Shorter ones say nothing more, and a client
/// that has nothing else makes millions of them.
pub(crate) fn length() -> impl Strategy<Value = Nanos> {
    (17_u32..=24, 0_u64..1024).prop_map(|(bits, more)| {
        let least = 1_u64 << bits;
        Nanos((least + least * more / 1024).min(LONGEST.0))
    })
}

/// A job whose estimate is right, or has nothing to do with its length.
pub(crate) fn work(is_exact: bool) -> impl Strategy<Value = Work> {
    let class = prop_oneof![5 => Just(Class::Render), 1 => Just(Class::Display)];
    (class, length(), length()).prop_map(move |(class, length, other)| Work {
        class,
        length,
        estimate: if is_exact { length } else { other },
    })
}

/// Jobs to render, for a client that always has some.
pub(crate) fn renders(is_exact: bool) -> impl Strategy<Value = Vec<Work>> {
    vec(work(is_exact), 1..8).prop_map(|mut works| {
        for work in &mut works {
            work.class = Class::Render;
        }
        works
    })
}

/// The longest of these, or the longest that was claimed.
pub(crate) fn longest(works: &[Work]) -> Nanos {
    let lengths = works.iter().map(|work| work.length.max(work.estimate));
    lengths.max().unwrap_or_default()
}

/// Jobs whose lengths differ by no more than a factor of eight, so that a history in which the
/// longest matter is not one of millions of short ones.
pub(crate) fn similar(is_exact: bool) -> impl Strategy<Value = Vec<Work>> {
    let work = (512_u64..4096, 512_u64..4096).prop_map(move |(length, other)| {
        let length = Nanos(length * 1000);
        let estimate = if is_exact {
            length
        } else {
            Nanos(other * 1000)
        };
        Work {
            estimate,
            ..Work::render(length)
        }
    });
    vec(work, 1..8)
}

pub(crate) fn weights() -> impl Strategy<Value = Weight> {
    prop_oneof![
        2 => Just(Weight::DEFAULT),
        2 => (1_u32..=16).prop_map(|n| Weight::new(n * 100).unwrap()),
        1 => (1_u32..=10_000).prop_map(|n| Weight::new(n).unwrap()),
    ]
}

pub(crate) fn share(range: std::ops::RangeInclusive<u32>) -> impl Strategy<Value = PerMille> {
    range.prop_map(|n| PerMille::new(n).unwrap())
}

pub(crate) fn priorities() -> impl Strategy<Value = Priority> {
    prop_oneof![
        1 => Just(Priority::Low),
        3 => Just(Priority::Normal),
        1 => Just(Priority::High)
    ]
}

/// Whatever is not refused outright.
pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    let parts = (
        weights(),
        option::of(share(1..=1000)),
        option::of(share(1..=400)),
        priorities(),
    );
    parts.prop_map(|(weight, cap, reservation, priority)| {
        let cap = cap.max(cap.and(reservation));
        Settings::new(weight, cap, reservation, priority).unwrap()
    })
}

pub(crate) fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![
        4 => Just(Policy::BestEffort),
        1 => Just(Policy::EqualShare),
        1 => Just(Policy::FixedShare)
    ]
}

pub(crate) fn depths() -> impl Strategy<Value = u32> {
    prop_oneof![2 => Just(1_u32), 1 => 2_u32..=8]
}

fn step(policy_too: bool) -> impl Strategy<Value = Step> {
    let number = 0_usize..16;
    prop_oneof![
        8 => length().prop_map(Step::Wait),
        12 => (number.clone(), work(false)).prop_map(|(n, work)| Step::Arrive(n, work)),
        1 => settings().prop_map(Step::Join),
        1 => number.clone().prop_map(Step::Leave),
        2 => (number, settings()).prop_map(|(n, settings)| Step::Set(n, settings)),
        u32::from(policy_too) => policies().prop_map(Step::Policy),
    ]
}

/// Steps of clients, of whom some come and go and are given other settings.
pub(crate) fn steps(policy_too: bool) -> impl Strategy<Value = Vec<Step>> {
    vec(step(policy_too), 1..120)
}

/// Everything at once.
pub(crate) fn anything() -> impl Strategy<Value = History> {
    let parts = (depths(), policies(), vec(settings(), 0..6), steps(true));
    parts.prop_map(|(depth, policy, clients, steps)| History {
        depth,
        policy,
        clients,
        steps,
    })
}
