//! What changes of settings and policies leave behind, and what work out of turn does: decision by
//! decision, times in milliseconds.

use mdev::sched::{Nanos, Policy, Priority, Settings, Time, Weight, Why};

use crate::scenarios::{cap, ms, reserved, weight};
use crate::world::{Happened, Number, Work, World};

/// A world in which each client always has jobs of its length.
fn hogs(policy: Policy, all: &[(Settings, u64)]) -> World {
    let mut world = World::new(1, policy);
    for (settings, _) in all {
        world.join(*settings).unwrap();
    }
    for (number, (_, length)) in all.iter().enumerate() {
        world.hog(number, vec![Work::render(ms(*length))]);
    }
    world
}

/// Who starts within the next `length`.
fn next(world: &mut World, length: Nanos) -> Vec<Number> {
    let before = world.started().len();
    world.wait(length);
    world.started()[before..]
        .iter()
        .map(|(_, number)| *number)
        .collect()
}

/// Why each job of a client was picked.
fn reasons(world: &World, of: Number) -> Vec<Why> {
    let reason = |(_, what): &(Time, Happened)| match what {
        Happened::Started(number, decision) if *number == of => Some(decision.why),
        _ => None,
    };
    world.log.iter().filter_map(reason).collect()
}

/// With half of the engine by its weight, a client needs none of what it has reserved, and has a
/// right to it all the same at any time: what it had in its turn does not count against it.
#[test]
fn a_turn_uses_up_no_reservation() {
    let mut world = hogs(Policy::BestEffort, &[(reserved(250), 1), (weight(100), 1)]);
    world.wait(ms(39));
    let reasons = reasons(&world, 0);
    let reserved = reasons.iter().filter(|why| **why == Why::Reservation);
    assert_eq!((reserved.count(), reasons.len()), (10, 20));
}

#[test]
fn work_out_of_turn_puts_nobody_far_behind() {
    let mut world = hogs(Policy::BestEffort, &[(reserved(800), 1), (weight(100), 1)]);
    world.wait(ms(2000));
    assert!(world.usage(0).used > ms(1500));
    world.set(0, weight(100));
    // 50 ms of the default weight, and not what it had more than the other.
    let started = next(&mut world, ms(60));
    assert!(started.contains(&0), "{started:?}");
    let until = started.iter().position(|it| *it == 0);
    assert!((45..=52).contains(&until.unwrap_or(0)), "{until:?}");
}

#[test]
fn under_equal_share_weights_decide_no_order_either() {
    let mut world = World::new(1, Policy::EqualShare);
    for settings in [weight(9999), weight(1), weight(100)] {
        world.join(settings).unwrap();
    }
    // All others are below their ceilings after that.
    world.arrive(2, Work::render(ms(90)));
    for number in [0, 1] {
        world.hog(number, vec![Work::render(ms(1))]);
    }
    assert_eq!(next(&mut world, ms(97)), [0, 1, 0, 1, 0, 1, 0, 1]);
}

#[test]
fn what_runs_counts_against_a_cap_that_is_given_meanwhile() {
    let mut world = World::new(1, Policy::BestEffort);
    let one = world.join(weight(100)).unwrap();
    world.wait(ms(1000));
    world.hog(one, vec![Work::render(ms(100))]);
    world.wait(ms(50));
    world.set(one, cap(250));
    world.wait(ms(1000));
    let starts: Vec<_> = world.started().iter().map(|(at, _)| *at).collect();
    assert_eq!(starts, [1000, 1450, 1850]);
}

#[test]
fn under_another_policy_nobody_is_behind_from_before() {
    let mut world = hogs(Policy::BestEffort, &[(reserved(800), 1), (weight(100), 1)]);
    world.wait(ms(1000));
    world.set(0, weight(100));
    // One is behind by now, as in the test above.
    world.set_policy(Policy::EqualShare);
    world.set_policy(Policy::BestEffort);
    let started = next(&mut world, ms(10));
    assert!(
        started.iter().filter(|it| **it == 0).count() >= 4,
        "{started:?}"
    );
}

#[test]
fn what_runs_while_the_policy_changes_is_charged_once() {
    let mut world = hogs(Policy::BestEffort, &[(weight(100), 10), (weight(100), 10)]);
    world.wait(ms(105));
    assert_eq!(world.started().last(), Some(&(100, 0)));
    world.set_policy(Policy::EqualShare);
    world.set_policy(Policy::BestEffort);
    // Both begin anew, and one has the job that runs.
    assert_eq!(next(&mut world, ms(20)), [1, 0]);
}

#[test]
fn what_is_used_outside_of_any_job_is_charged_as_a_turn() {
    let priority = Priority::Normal;
    let capped = Settings::new(Weight::DEFAULT, cap(500).cap(), None, priority).unwrap();
    let mut world = hogs(Policy::BestEffort, &[(weight(100), 1), (weight(100), 1)]);
    world.wait(ms(9));
    let client = world.clients[0].unwrap();
    let (now, engine) = (world.now, world.engine);
    world.scheduler.charge(now, engine, client, ms(20)).unwrap();
    let started = next(&mut world, ms(25));
    assert_eq!(
        started.iter().filter(|it| **it == 0).count(),
        3,
        "{started:?}"
    );
    // It counts against a cap as well.
    let mut world = hogs(Policy::BestEffort, &[(capped, 1)]);
    world.wait(ms(9));
    let client = world.clients[0].unwrap();
    let (now, engine) = (world.now, world.engine);
    let used = world.usage(0).used;
    world
        .scheduler
        .charge(now, engine, client, ms(100))
        .unwrap();
    assert!(next(&mut world, ms(195)).is_empty());
    assert!(!next(&mut world, ms(20)).is_empty());
    assert!(world.usage(0).used > Nanos(used.0 + ms(100).0));
}
