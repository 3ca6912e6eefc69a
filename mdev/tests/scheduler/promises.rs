//! What is there for whoever wants it: reservations, an end to every wait, pictures at once.

use mdev::sched::{Class, JobId, Nanos, PerMille, Policy, Priority, Settings, Time, Weight, Why};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::drift::Drift;
use crate::histories::{
    LONGEST, Step, depths, happen, longest, policies, priorities, share, similar, steps, weights,
};
use crate::scenarios::ms;
use crate::world::{Happened, Work, World};
use crate::{config, say};

#[derive(Clone, Debug)]
struct Reserved {
    depth: u32,
    /// All are busy, and some have reserved.
    hogs: Vec<(Settings, Vec<Work>)>,
    beside: Vec<Step>,
}

fn reserved() -> impl Strategy<Value = Reserved> {
    (1_u32..=3, any::<bool>()).prop_flat_map(|(depth, is_exact)| {
        let settings = (weights(), option::of(share(1..=300)), priorities());
        let settings = settings.prop_map(|(weight, reservation, priority)| {
            Settings::new(weight, None, reservation, priority).unwrap()
        });
        let hogs = vec((settings, similar(is_exact)), 2..4);
        (hogs, steps(false)).prop_map(move |(hogs, beside)| Reserved {
            depth,
            hogs,
            beside: beside.into_iter().filter_map(unreserved).collect(),
        })
    })
}

/// Who comes along renders, and has reserved nothing: else it had a right to be in the way.
fn unreserved(step: Step) -> Option<Step> {
    let without = |settings: Settings| {
        Settings::new(settings.weight(), settings.cap(), None, settings.priority()).unwrap()
    };
    Some(match step {
        Step::Arrive(number, work) => Step::Arrive(
            number,
            Work {
                class: Class::Render,
                ..work
            },
        ),
        Step::Join(settings) => Step::Join(without(settings)),
        Step::Set(number, settings) => Step::Set(number, without(settings)),
        other => other,
    })
}

/// In every window a client has its reservation, but for as many jobs as can be in its way: one of
/// each other client that has reserved, one on each place, and as many of its own.
fn reservations_are_met(reserved: &Reserved) -> Result<(), TestCaseError> {
    let mut world = World::new(reserved.depth, Policy::BestEffort);
    for (settings, works) in &reserved.hogs {
        let number = world.join(*settings).unwrap();
        world.hog(number, works.clone());
    }
    for step in &reserved.beside {
        happen(&mut world, step, reserved.hogs.len());
    }
    world.wait(ms(800));
    let jobs = reserved.hogs.len() as u32 + 2;
    for (number, (settings, _)) in reserved.hogs.iter().enumerate() {
        let Some(share) = settings.reservation() else {
            continue;
        };
        let rate = share.thousandths() * reserved.depth;
        let drift = Drift::of(&world, number, Time(0), rate);
        let slack = i128::from(jobs * reserved.depth) * i128::from(LONGEST.0) * 1000;
        prop_assert!(drift.fall <= slack, "{number}: {drift:?} > {slack}");
    }
    Ok(())
}

#[test]
fn a_reservation_is_met_in_every_window_in_which_it_is_wanted() {
    let run = say(config(), &reserved(), |reserved| {
        reservations_are_met(&reserved)
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
}

#[derive(Clone, Debug)]
struct Crowd {
    depth: u32,
    /// All are busy, and are given other settings now and then.
    hogs: Vec<(Vec<Work>, Vec<Settings>)>,
}

const ROUNDS: usize = 3;

fn crowds() -> impl Strategy<Value = Crowd> {
    (1_u32..=3).prop_flat_map(|depth| {
        let settings = (100_u32..=400, option::of(share(1..=150)), priorities());
        let settings = settings.prop_map(|(weight, reservation, priority)| {
            let weight = Weight::new(weight).unwrap();
            Settings::new(weight, None, reservation, priority).unwrap()
        });
        let hog = (similar(false), vec(settings, ROUNDS));
        vec(hog, 2..5).prop_map(move |hogs| Crowd { depth, hogs })
    })
}

/// Whoever waits is picked before the others have had more than what its own jobs, the lead of
/// their priority and a reservation of its own that it has no more put it behind.
fn nobody_starves(crowd: &Crowd) -> Result<(), TestCaseError> {
    let mut world = World::new(crowd.depth, Policy::BestEffort);
    for (works, settings) in &crowd.hogs {
        let number = world.join(settings[0]).unwrap();
        world.hog(number, works.clone());
    }
    for round in 0..ROUNDS {
        for (number, (_, settings)) in crowd.hogs.iter().enumerate() {
            world.set(number, settings[round]);
        }
        world.wait(ms(600));
    }
    // All in virtual milliseconds of the default weight, of which the heaviest has four for one:
    // its own jobs on each place, 50 behind, twice a lead of 10, and what the others run at once.
    let longest = crowd.hogs.iter().map(|(works, _)| longest(works).0).max();
    let longest = longest.unwrap_or_default();
    let places = u64::from(crowd.depth);
    let behind = longest * places + ms(50 + 2 * 10).0;
    let others = crowd.hogs.len() as u64 - 1;
    // No more than 600 thousandths are reserved.
    let service = others * (4 * behind + 2 * places * longest);
    let bound = Nanos(service * 1000 / (400 * places) + longest);
    let mut last = vec![Time(0); crowd.hogs.len()];
    for (at, what) in &world.log {
        if let Happened::Started(number, _) = what {
            prop_assert!(at.since(last[*number]) <= bound, "{number} at {at:?}");
            last[*number] = *at;
        }
    }
    for (number, last) in last.into_iter().enumerate() {
        prop_assert!(world.now.since(last) <= bound, "{number} since {last:?}");
    }
    Ok(())
}

#[test]
fn nobody_starves_whatever_the_others_were_given_and_whatever_it_had() {
    let run = say(config(), &crowds(), |crowd| nobody_starves(&crowd));
    run.unwrap_or_else(|failure| panic!("{failure}"));
}

#[derive(Clone, Debug)]
struct Screens {
    depth: u32,
    policy: Policy,
    /// What each renders meanwhile, its cap, and how long drawing takes it.
    clients: Vec<(Vec<Work>, Option<PerMille>, Nanos)>,
    /// When a picture comes, and whose.
    pictures: Vec<(usize, Nanos)>,
}

/// Between two pictures, at least: a 60th of a second.
const FRAME: Nanos = Nanos::from_micros(16_667);

fn screens() -> impl Strategy<Value = Screens> {
    let draw = (50_u64..1000).prop_map(Nanos::from_micros);
    let client = (similar(false), option::of(share(200..=1000)), draw);
    let picture = (0_usize..8, (0_u64..8000).prop_map(Nanos::from_micros));
    let parts = (depths(), policies(), vec(client, 1..5), vec(picture, 1..20));
    parts.prop_map(|(depth, policy, clients, pictures)| Screens {
        depth,
        policy,
        clients,
        pictures,
    })
}

fn pictures_wait_for_pictures_alone(screens: &Screens) -> Result<(), TestCaseError> {
    let mut world = World::new(screens.depth, screens.policy);
    for (works, cap, _) in &screens.clients {
        let reservation = Some(PerMille::new(200).unwrap());
        let settings = Settings::new(Weight::DEFAULT, *cap, reservation, Priority::Low);
        let number = world.join(settings.unwrap()).unwrap();
        world.hog(number, works.clone());
    }
    let mut drawn: Vec<Option<Time>> = vec![None; screens.clients.len()];
    for (number, pause) in &screens.pictures {
        world.wait(*pause);
        let number = number % screens.clients.len();
        if drawn[number].is_none_or(|at| world.now.since(at) >= FRAME) {
            drawn[number] = Some(world.now);
            world.arrive(number, Work::display(screens.clients[number].2));
        }
    }
    world.wait(FRAME);
    let mut waiting: Vec<JobId> = Vec::new();
    for (at, what) in &world.log {
        match what {
            Happened::Arrived(_, job, work) if work.class == Class::Display => waiting.push(*job),
            Happened::Started(_, decision) if decision.class == Class::Display => {
                prop_assert_eq!(decision.why, Why::Display);
                waiting.retain(|job| *job != decision.job);
            }
            Happened::Started(number, _) => {
                prop_assert!(waiting.is_empty(), "{number} overtook a picture at {at:?}");
            }
            _ => {}
        }
    }
    prop_assert!(waiting.is_empty());
    Ok(())
}

#[test]
fn nothing_overtakes_a_picture_so_it_waits_for_one_running_job() {
    let run = say(config(), &screens(), |screens| {
        pictures_wait_for_pictures_alone(&screens)
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
}
