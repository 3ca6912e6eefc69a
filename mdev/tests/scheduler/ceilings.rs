//! What is not to be had, though nobody else wants it: caps, and the shares of policies.

use mdev::sched::{Nanos, PerMille, Policy, Priority, Settings, Time, Weight};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::drift::Drift;
use crate::histories::{Step, depths, happen, longest, share, similar, steps, weights, work};
use crate::scenarios::{cap, ms};
use crate::world::{Work, World};
use crate::{config, say};

/// So many times the longest job, on every place of an engine, in the unit of a [`Drift`].
fn jobs(count: u32, depth: u32, longest: Nanos) -> i128 {
    i128::from(count) * i128::from(depth) * i128::from(longest.0) * 1000
}

#[derive(Clone, Debug)]
struct Capped {
    depth: u32,
    cap: PerMille,
    works: Vec<Work>,
    beside: Vec<Step>,
}

fn capped() -> impl Strategy<Value = Capped> {
    let works = vec(work(false), 1..8);
    let parts = (depths(), share(1..=1000), works, steps(false));
    parts.prop_map(|(depth, cap, works, beside)| Capped {
        depth,
        cap,
        works,
        beside,
    })
}

/// In every window of `W` a client has at most its cap of `W` and a fifth of a second, and the jobs
/// that were running or misjudged at its ends.
fn no_window_has_more(capped: &Capped) -> Result<(), TestCaseError> {
    let mut world = World::new(capped.depth, Policy::BestEffort);
    let number = world.join(cap(capped.cap.thousandths())).unwrap();
    world.hog(number, capped.works.clone());
    for step in &capped.beside {
        happen(&mut world, step, 1);
    }
    world.wait(ms(300));
    let rate = capped.cap.thousandths() * capped.depth;
    let drift = Drift::of(&world, number, Time(0), rate);
    let burst = i128::from(rate) * i128::from(ms(200).0);
    let most = burst + jobs(2, capped.depth, longest(&capped.works));
    prop_assert!(drift.rise <= most, "{drift:?}: more than {most}");
    Ok(())
}

#[test]
fn a_cap_holds_in_every_window() {
    let run = say(config(), &capped(), |capped| no_window_has_more(&capped));
    run.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn over_ten_seconds_a_cap_is_met_within_one_percent_alone_and_beside_a_hog() {
    for depth in [1, 4] {
        for (thousandths, is_alone) in [(100, true), (250, true), (900, true), (250, false)] {
            let mut world = World::new(depth, Policy::BestEffort);
            let number = world.join(cap(thousandths)).unwrap();
            if !is_alone {
                let hog = world.join(Settings::default()).unwrap();
                world.hog(hog, vec![Work::render(ms(7))]);
            }
            let misjudged = Work {
                estimate: ms(1),
                ..Work::render(ms(5))
            };
            world.hog(number, vec![Work::render(ms(3)), misjudged]);
            world.wait(ms(10_000));
            let fair = 10_000_000 * u64::from(thousandths * depth);
            let used = world.usage(number).used.0;
            assert!(used.abs_diff(fair) <= fair / 100, "{used} of {fair}");
        }
    }
}

#[derive(Clone, Debug)]
struct Shared {
    depth: u32,
    /// Weight, reservation, and the jobs of those who are busy.
    clients: Vec<(Weight, PerMille, Option<Vec<Work>>)>,
}

fn shared() -> impl Strategy<Value = Shared> {
    (depths(), any::<bool>()).prop_flat_map(|(depth, is_exact)| {
        let works = proptest::option::weighted(0.7, similar(is_exact));
        let client = (weights(), share(50..=250), works);
        vec(client, 1..5).prop_map(move |clients| Shared { depth, clients })
    })
}

/// Whoever is busy has its share in every window, no less and no more, up to a few jobs.
fn each_has_its_share(
    shared: &Shared,
    policy: Policy,
    thousandths: impl Fn(PerMille) -> u32,
) -> Result<(), TestCaseError> {
    let mut world = World::new(shared.depth, policy);
    let mut most = Nanos(0);
    for (weight, share, works) in &shared.clients {
        let settings = Settings::new(*weight, None, Some(*share), Priority::Normal).unwrap();
        let number = world.join(settings).unwrap();
        most = most.max(longest(works.as_deref().unwrap_or_default()));
        if let Some(works) = works {
            world.hog(number, works.clone());
        }
    }
    let start = world.now;
    world.wait(ms(1000));
    let few = shared.clients.len() as u32 + 2;
    let slack = jobs(few, shared.depth, most);
    for (number, (_, share, works)) in shared.clients.iter().enumerate() {
        if works.is_none() {
            prop_assert_eq!(world.usage(number).used, Nanos(0));
            continue;
        }
        let drift = Drift::of(&world, number, start, thousandths(*share) * shared.depth);
        prop_assert!(drift.rise <= slack, "{number} has more: {drift:?}, {slack}");
        prop_assert!(drift.fall <= slack, "{number} has less: {drift:?}, {slack}");
    }
    Ok(())
}

#[test]
fn under_fixed_share_each_has_what_it_reserved_whoever_else_is_busy() {
    let run = say(config(), &shared(), |shared| {
        each_has_its_share(&shared, Policy::FixedShare, PerMille::thousandths)
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn under_equal_share_each_has_the_same_whatever_its_weight_and_whoever_else_is_busy() {
    let run = say(config(), &shared(), |mut shared| {
        // Of four clients a quarter is a whole number of thousandths.
        shared
            .clients
            .resize(4, (Weight::DEFAULT, PerMille::new(250).unwrap(), None));
        each_has_its_share(&shared, Policy::EqualShare, |_| 250)
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
}
