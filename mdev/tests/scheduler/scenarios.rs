//! Small histories, decision by decision. Times in the tables are milliseconds.

use mdev::sched::{Nanos, PerMille, Policy, Priority, SchedError, Settings, Weight};

use crate::world::{Number, Work, World};

pub(crate) fn ms(millis: u64) -> Nanos {
    Nanos::from_millis(millis)
}

pub(crate) fn weight(weight: u32) -> Settings {
    Settings::new(Weight::new(weight).unwrap(), None, None, Priority::Normal).unwrap()
}

pub(crate) fn cap(thousandths: u32) -> Settings {
    let cap = Some(PerMille::new(thousandths).unwrap());
    Settings::new(Weight::DEFAULT, cap, None, Priority::Normal).unwrap()
}

pub(crate) fn reserved(thousandths: u32) -> Settings {
    let reservation = Some(PerMille::new(thousandths).unwrap());
    Settings::new(Weight::DEFAULT, None, reservation, Priority::Normal).unwrap()
}

pub(crate) fn priority(priority: Priority) -> Settings {
    Settings::new(Weight::DEFAULT, None, None, priority).unwrap()
}

/// A world with hogs of such settings and job lengths.
fn hogs(depth: u32, policy: Policy, all: &[(Settings, u64)]) -> World {
    let mut world = World::new(depth, policy);
    let joined: Vec<Number> = all
        .iter()
        .map(|(settings, _)| world.join(*settings).unwrap())
        .collect();
    for (number, (_, length)) in joined.into_iter().zip(all) {
        world.hog(number, vec![Work::render(ms(*length))]);
    }
    world
}

/// Who started, one letter a job.
fn letters(world: &World) -> String {
    let letter = |(_, number): (u64, Number)| char::from(b'a' + number as u8);
    world.started().into_iter().map(letter).collect()
}

#[test]
fn equals_take_turns() {
    let mut world = hogs(1, Policy::BestEffort, &[(weight(100), 1), (weight(100), 1)]);
    world.wait(ms(7));
    assert_eq!(letters(&world), "abababab");
}

#[test]
fn three_to_one_gets_three_of_four() {
    let mut world = hogs(1, Policy::BestEffort, &[(weight(300), 3), (weight(100), 3)]);
    world.wait(ms(3 * 11));
    assert_eq!(letters(&world), "abaaabaaabaa");
}

#[test]
fn long_jobs_get_fewer_turns() {
    let mut world = hogs(1, Policy::BestEffort, &[(weight(100), 4), (weight(100), 1)]);
    world.wait(ms(16));
    assert_eq!(letters(&world), "abbbbabbbba");
}

#[test]
fn a_job_that_took_longer_than_it_said_is_paid_for_afterwards() {
    let mut world = World::new(1, Policy::BestEffort);
    let [liar, other] = [weight(100), weight(100)].map(|s| world.join(s).unwrap());
    let lie = Work {
        estimate: Nanos(0),
        ..Work::render(ms(4))
    };
    world.hog(liar, vec![lie]);
    world.hog(other, vec![Work::render(ms(1))]);
    world.wait(ms(16));
    assert_eq!(letters(&world), "abbbbabbbba");
}

#[test]
fn who_slept_has_saved_up_nothing() {
    let mut world = hogs(1, Policy::BestEffort, &[(weight(100), 1)]);
    let sleeper = world.join(weight(100)).unwrap();
    world.arrive(sleeper, Work::render(ms(1)));
    world.wait(ms(9));
    world.hog(sleeper, vec![Work::render(ms(1))]);
    world.wait(ms(6));
    assert_eq!(letters(&world), "abaaaaaaaabababa");
}

#[test]
fn who_was_above_its_cap_has_saved_up_nothing_either() {
    let mut world = hogs(1, Policy::BestEffort, &[(cap(1), 1), (weight(100), 1)]);
    world.wait(ms(9));
    world.set(0, weight(100));
    world.wait(ms(6));
    assert_eq!(letters(&world), "abbbbbbbbbaababa");
}

#[test]
fn after_an_idle_moment_nobody_owes_anything() {
    let mut world = World::new(1, Policy::BestEffort);
    let [one, other] = [weight(100), weight(100)].map(|s| world.join(s).unwrap());
    // Nobody else wanted the engine while it had that.
    world.arrive(one, Work::render(ms(50)));
    world.wait(ms(60));
    world.hog(other, vec![Work::render(ms(1))]);
    world.hog(one, vec![Work::render(ms(1))]);
    world.wait(ms(5));
    assert_eq!(letters(&world), "abaabab");
}

#[test]
fn a_capped_client_waits_though_nobody_else_wants_the_engine() {
    let mut world = hogs(1, Policy::BestEffort, &[(cap(250), 5)]);
    world.wait(ms(70));
    let starts: Vec<u64> = world.started().iter().map(|(at, _)| *at).collect();
    assert_eq!(starts, [0, 20, 40, 60]);
}

#[test]
fn what_a_capped_client_leaves_the_other_has() {
    let mut world = hogs(1, Policy::BestEffort, &[(cap(250), 5), (weight(100), 5)]);
    world.wait(ms(64));
    assert_eq!(letters(&world), "abbbabbbabbba");
}

#[test]
fn a_reservation_beats_weights() {
    let mut all = vec![(reserved(500), 1)];
    all.extend([(weight(1000), 1); 2]);
    let mut world = hogs(1, Policy::BestEffort, &all);
    world.wait(ms(11));
    assert_eq!(letters(&world), "abacabacabac");
}

#[test]
fn under_equal_share_the_share_of_an_idle_client_stays_unused() {
    let mut world = World::new(1, Policy::EqualShare);
    let busy = world.join(weight(9999)).unwrap();
    for _ in 0..3 {
        world.join(weight(1)).unwrap();
    }
    world.hog(busy, vec![Work::render(ms(5))]);
    world.wait(ms(70));
    let starts: Vec<u64> = world.started().iter().map(|(at, _)| *at).collect();
    assert_eq!(starts, [0, 20, 40, 60]);
}

#[test]
fn under_fixed_share_a_client_alone_gets_its_share_and_no_more() {
    let mut world = hogs(1, Policy::FixedShare, &[(reserved(200), 4)]);
    world.wait(ms(70));
    let starts: Vec<u64> = world.started().iter().map(|(at, _)| *at).collect();
    assert_eq!(starts, [0, 20, 40, 60]);
}

#[test]
fn a_picture_waits_for_the_job_that_runs_and_for_no_other() {
    let all = [(weight(100), 10), (weight(100), 10), (weight(100), 10)];
    let mut world = hogs(1, Policy::BestEffort, &all);
    let screen = world.join(cap(1)).unwrap();
    world.wait(ms(13));
    world.arrive(screen, Work::display(ms(1)));
    world.wait(ms(12));
    assert_eq!(world.started(), [(0, 0), (10, 1), (20, 3), (21, 2)]);
}

#[test]
fn who_calls_everything_a_picture_soon_waits_as_others_do() {
    let mut world = World::new(1, Policy::BestEffort);
    let [flood, other] = [weight(100), weight(100)].map(|s| world.join(s).unwrap());
    world.hog(other, vec![Work::render(ms(1))]);
    world.hog(flood, vec![Work::display(ms(1))]);
    world.wait(ms(1000));
    let [had, fair] = [flood, other].map(|number| world.usage(number).used.0 / 1_000_000);
    assert!((500..=600).contains(&had), "{had} ms, the other {fair}");
}

#[test]
fn high_priority_goes_first_until_it_is_ahead_by_the_lead() {
    let all = [
        (priority(Priority::Normal), 2),
        (priority(Priority::High), 2),
    ];
    let mut world = hogs(1, Policy::BestEffort, &all);
    world.wait(ms(31));
    assert_eq!(letters(&world), "abbbbbbabababababa"[..16]);
}

#[test]
fn an_engine_of_four_places_runs_four_jobs_at_once() {
    let mut world = hogs(4, Policy::BestEffort, &[(weight(100), 3), (weight(100), 3)]);
    world.wait(ms(5));
    let starts = world.started();
    assert_eq!(starts.iter().filter(|(at, _)| *at == 0).count(), 4);
    assert_eq!(starts.iter().filter(|(at, _)| *at == 3).count(), 4);
    assert_eq!(letters(&world), "aaaababa");
}

#[test]
fn the_place_of_a_client_that_dies_is_free_at_once() {
    let mut world = hogs(
        1,
        Policy::BestEffort,
        &[(weight(100), 50), (weight(100), 2)],
    );
    world.wait(ms(10));
    world.leave(0);
    world.wait(ms(1));
    assert_eq!(world.started(), [(0, 0), (10, 1)]);
}

#[test]
fn what_runs_makes_way_for_whoever_would_be_picked_before_it() {
    // Who runs, and for how long by now; who has come; whether it makes way.
    for (runs, used, comes, makes_way) in [
        (weight(100), ms(1), Work::render(ms(1)), true),
        (weight(100), Nanos(0), Work::render(ms(1)), false),
        (weight(100), Nanos(0), Work::display(ms(1)), true),
        (priority(Priority::High), ms(9), Work::render(ms(1)), false),
        (priority(Priority::High), ms(11), Work::render(ms(1)), true),
        (
            priority(Priority::Low),
            Nanos(0),
            Work::render(ms(1)),
            false,
        ),
        (priority(Priority::Low), Nanos(1), Work::render(ms(1)), true),
    ] {
        let mut world = hogs(1, Policy::BestEffort, &[(runs, 50)]);
        let [(_, first)] = world.running()[..] else {
            panic!("one runs");
        };
        world.wait(ms(1));
        let comer = world.join(weight(100)).unwrap();
        world.arrive(comer, comes);
        let displaced = world
            .scheduler
            .displaced(world.now, world.engine, &[(first, used)]);
        let expected = makes_way.then_some(first);
        assert_eq!(displaced, Ok(expected), "{runs:?} {used:?} {comes:?}");
    }
}

#[test]
fn of_several_that_run_the_furthest_ahead_makes_way_and_only_for_who_is_behind() {
    let mut world = World::new(2, Policy::BestEffort);
    let clients = [100, 400, 100].map(|of| world.join(weight(of)).unwrap());
    for client in &clients[..2] {
        world.arrive(*client, Work::render(ms(50)));
    }
    world.wait(ms(4));
    let running = world.running();
    let used = |at: usize| (running[at].1, ms(4));
    let ask = |world: &mut World, running: &[_]| {
        let (now, engine) = (world.now, world.engine);
        world.scheduler.displaced(now, engine, running).unwrap()
    };
    assert_eq!(ask(&mut world, &[used(0), used(1)]), None, "nobody waits");
    world.arrive(clients[2], Work::render(ms(1)));
    // Four of one at weight 100 are more than four at weight 400.
    assert_eq!(ask(&mut world, &[used(0), used(1)]), Some(running[0].1));
    assert_eq!(ask(&mut world, &[used(1)]), Some(running[1].1));
    assert_eq!(ask(&mut world, &[]), None);
}

#[test]
fn a_job_that_turns_out_to_be_a_picture_overtakes_what_is_not() {
    let mut world = hogs(
        1,
        Policy::BestEffort,
        &[(weight(100), 10), (weight(100), 10)],
    );
    let screen = world.join(weight(100)).unwrap();
    let client = world.clients[screen].unwrap();
    let job = world.arrive(screen, Work::render(ms(1))).unwrap();
    let (now, engine) = (world.now, world.engine);
    let scheduler = &mut world.scheduler;
    scheduler.hurry(now, engine, client, job).unwrap();
    assert_eq!(
        scheduler.hurry(now, engine, client, job),
        Err(SchedError::UnknownJob)
    );
    world.wait(ms(12));
    assert_eq!(letters(&world), "acb");
}
