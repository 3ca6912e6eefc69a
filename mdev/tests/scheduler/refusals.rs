//! What is refused is refused with words, and has changed nothing.

use mdev::sched::{
    Class, Job, Nanos, PerMille, Policy, Priority, SchedError, Scheduler, Settings, Time, Weight,
};

use crate::scenarios::{ms, reserved, weight};
use crate::world::{Work, World};

const NOW: Time = Time(0);

const JOB: Job = Job {
    class: Class::Render,
    estimate: Nanos(1),
};

fn share(thousandths: u32) -> PerMille {
    PerMille::new(thousandths).unwrap()
}

#[test]
fn more_than_the_whole_cannot_be_reserved() {
    let mut scheduler = Scheduler::new();
    let first = scheduler.join(NOW, reserved(600)).unwrap();
    let second = scheduler.join(NOW, reserved(400)).unwrap();
    let refused = SchedError::Overcommitted {
        asked: share(1),
        left: 0,
    };
    assert_eq!(scheduler.join(NOW, reserved(1)), Err(refused));
    let refused = scheduler.set(NOW, second, reserved(401)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a reservation of 40.1 %: the others have reserved all but 400/1000"
    );
    assert_eq!(scheduler.settings(second), Ok(reserved(400)));
    // Its own is not in its way, and whoever leaves gives back what it had.
    scheduler.set(NOW, second, reserved(300)).unwrap();
    scheduler.leave(NOW, first).unwrap();
    scheduler.join(NOW, reserved(700)).unwrap();
}

#[test]
fn fixed_share_is_refused_where_somebody_has_no_share() {
    let mut scheduler = Scheduler::new();
    let engine = scheduler.add_engine(NOW, 1, Policy::BestEffort).unwrap();
    let client = scheduler.join(NOW, weight(100)).unwrap();
    let refused = Err(SchedError::NoReservation);
    assert_eq!(
        scheduler.set_policy(NOW, engine, Policy::FixedShare),
        refused
    );
    assert_eq!(scheduler.policy(engine), Ok(Policy::BestEffort));
    assert!(scheduler.add_engine(NOW, 1, Policy::FixedShare).is_err());
    scheduler.set(NOW, client, reserved(100)).unwrap();
    scheduler
        .set_policy(NOW, engine, Policy::FixedShare)
        .unwrap();
    assert_eq!(scheduler.set(NOW, client, weight(100)), refused);
    assert!(scheduler.join(NOW, weight(100)).is_err());
}

#[test]
fn every_refusal_says_why_and_has_an_errno() {
    let cap = Settings::new(
        Weight::DEFAULT,
        Some(share(100)),
        Some(share(200)),
        Priority::Normal,
    );
    for (refusal, words, errno) in [
        (
            Weight::new(0).err(),
            "a weight of 0: it must be 1 to 10000",
            22,
        ),
        (
            PerMille::new(1001).err(),
            "a share of 1001/1000: it must be 1 to 1000 thousandths of an engine",
            22,
        ),
        (
            cap.err(),
            "a cap of 10.0 % is below the reservation of 20.0 %",
            22,
        ),
        (
            Scheduler::new()
                .add_engine(NOW, 0, Policy::BestEffort)
                .err(),
            "an engine with 0 places: it must have 1 to 1024",
            22,
        ),
        (
            Some(SchedError::QueueFull),
            "the client has 1024 jobs waiting",
            11,
        ),
    ] {
        let refusal = refusal.unwrap();
        assert_eq!(refusal.to_string(), words);
        assert_eq!(refusal.errno().raw_os_error(), errno, "{words}");
    }
}

#[test]
fn there_is_an_end_to_what_a_client_may_have_waiting() {
    let mut scheduler = Scheduler::new();
    let engine = scheduler.add_engine(NOW, 1, Policy::BestEffort).unwrap();
    let client = scheduler.join(NOW, weight(100)).unwrap();
    for _ in 0..1024 {
        scheduler.arrive(NOW, engine, client, JOB).unwrap();
    }
    let refused = Err(SchedError::QueueFull);
    assert_eq!(scheduler.arrive(NOW, engine, client, JOB), refused);
    scheduler.next(NOW, engine).unwrap().unwrap();
    scheduler.arrive(NOW, engine, client, JOB).unwrap();
}

#[test]
fn a_job_ends_once_and_not_after_its_client() {
    let mut scheduler = Scheduler::new();
    let engine = scheduler.add_engine(NOW, 2, Policy::BestEffort).unwrap();
    let client = scheduler.join(NOW, weight(100)).unwrap();
    let jobs = [(); 2].map(|()| scheduler.arrive(NOW, engine, client, JOB).unwrap());
    let refused = Err(SchedError::UnknownJob);
    assert_eq!(scheduler.complete(NOW, engine, jobs[0], ms(1)), refused);
    for _ in jobs {
        scheduler.next(NOW, engine).unwrap().unwrap();
    }
    scheduler.complete(NOW, engine, jobs[0], ms(1)).unwrap();
    assert_eq!(scheduler.complete(NOW, engine, jobs[0], ms(1)), refused);
    scheduler.leave(NOW, client).unwrap();
    assert_eq!(scheduler.complete(NOW, engine, jobs[1], ms(1)), refused);
    let refused = Err(SchedError::UnknownClient);
    assert_eq!(scheduler.arrive(NOW, engine, client, JOB), refused);
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut scheduler = Scheduler::new();
    let engine = scheduler
        .add_engine(Time(50), 1, Policy::BestEffort)
        .unwrap();
    let client = scheduler.join(Time(70), weight(100)).unwrap();
    scheduler.arrive(Time(60), engine, client, JOB).unwrap();
    let decision = scheduler.next(Time(10), engine).unwrap().unwrap();
    assert_eq!((decision.at, decision.waited), (Time(70), Nanos(0)));
}

#[test]
fn a_measurement_gone_wrong_locks_nobody_out_for_ever() {
    let mut scheduler = Scheduler::new();
    let engine = scheduler.add_engine(NOW, 1, Policy::BestEffort).unwrap();
    let settings = Settings::new(Weight::DEFAULT, Some(PerMille::ALL), None, Priority::Low);
    let client = scheduler.join(NOW, settings.unwrap()).unwrap();
    for used in [Nanos(u64::MAX), Nanos(0)] {
        let huge = Job {
            estimate: Nanos(u64::MAX),
            ..JOB
        };
        let job = scheduler.arrive(NOW, engine, client, huge).unwrap();
        let soon = scheduler.next_change(engine).unwrap().unwrap();
        assert!(soon <= NOW + ms(3_600_000), "{soon:?}");
        scheduler.next(soon, engine).unwrap().unwrap();
        scheduler.complete(soon, engine, job, used).unwrap();
    }
}

#[test]
fn an_engine_added_late_has_the_clients_that_are_there() {
    let mut world = World::new(1, Policy::BestEffort);
    let number = world.join(weight(100)).unwrap();
    world.engine = world
        .scheduler
        .add_engine(world.now, 1, Policy::EqualShare)
        .unwrap();
    world.arrive(number, Work::render(ms(1)));
    assert_eq!(world.started(), [(0, number)]);
}
