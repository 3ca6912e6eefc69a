//! What holds in every history, whatever happens in it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mdev::sched::{Class, JobId, Nanos, Policy, Settings, Time};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::histories::{History, Step, anything, length};
use crate::world::{Happened, Number, World};
use crate::{config, say};

/// What can be known of a history from what was written down of it.
#[derive(Default)]
struct Reader {
    settings: BTreeMap<Number, Settings>,
    policy: Policy,
    waiting: BTreeMap<(Number, bool), VecDeque<JobId>>,
    running: BTreeMap<JobId, Number>,
    used: BTreeMap<Number, Nanos>,
    ended: BTreeSet<JobId>,
}

impl Reader {
    fn waits(&self, number: Number) -> usize {
        let classes = [false, true].map(|class| self.waiting.get(&(number, class)));
        classes.into_iter().flatten().map(VecDeque::len).sum()
    }

    fn read(&mut self, at: Time, what: &Happened, depth: usize) -> Result<(), TestCaseError> {
        match what {
            Happened::Joined(number, settings) | Happened::Set(number, settings, Ok(())) => {
                self.settings.insert(*number, *settings);
            }
            Happened::Policy(policy, Ok(())) => self.policy = *policy,
            Happened::Set(_, _, Err(_)) | Happened::Policy(_, Err(_)) => {}
            Happened::Arrived(number, job, work) => {
                let key = (*number, work.class == Class::Display);
                self.waiting.entry(key).or_default().push_back(*job);
            }
            Happened::Started(number, decision) => {
                let key = (*number, decision.class == Class::Display);
                let first = self.waiting.get_mut(&key).and_then(VecDeque::pop_front);
                prop_assert_eq!(first, Some(decision.job), "in the order they came");
                prop_assert_eq!(decision.at, at);
                self.running.insert(decision.job, *number);
                prop_assert!(self.running.len() <= depth);
            }
            Happened::Ended(number, job, used) => {
                prop_assert_eq!(self.running.remove(job), Some(*number));
                prop_assert!(self.ended.insert(*job), "a job ends once");
                let sum = self.used.entry(*number).or_default();
                *sum = Nanos(sum.0 + used.0);
            }
            Happened::Left(number, gone) => {
                prop_assert_eq!(gone.waiting, self.waits(*number));
                let ran = self.running.len();
                self.running.retain(|_, owner| owner != number);
                prop_assert_eq!(gone.running, ran - self.running.len());
                self.waiting.retain(|(owner, _), _| owner != number);
            }
            Happened::Quiet(free) => {
                prop_assert_eq!(*free, depth - self.running.len());
                self.is_right_to_rest(*free)?;
            }
        }
        Ok(())
    }

    /// Under `best-effort` no place stays free while a client waits that has no cap.
    fn is_right_to_rest(&self, free: usize) -> Result<(), TestCaseError> {
        if free == 0 || self.policy != Policy::BestEffort {
            return Ok(());
        }
        for (number, settings) in &self.settings {
            if settings.cap().is_none() {
                prop_assert_eq!(self.waits(*number), 0, "client {} waits", number);
            }
        }
        Ok(())
    }
}

fn read(world: &World, policy: Policy) -> Result<Reader, TestCaseError> {
    let mut reader = Reader {
        policy,
        ..Reader::default()
    };
    for (at, what) in &world.log {
        reader.read(*at, what, world.depth)?;
    }
    Ok(reader)
}

/// Every job that has come runs once and is counted, or goes with its client.
fn nothing_is_lost(history: &History) -> Result<(), TestCaseError> {
    let mut world = history.run();
    let is_drained = world.drain();
    prop_assert!(is_drained, "it comes to an end");
    let reader = read(&world, history.policy)?;
    for number in 0..world.clients.len() {
        if world.clients[number].is_some() {
            let usage = world.usage(number);
            let used = reader.used.get(&number).copied().unwrap_or_default();
            prop_assert_eq!((usage.waiting, usage.running), (0, 0));
            prop_assert_eq!(usage.used, used);
        }
        prop_assert_eq!(reader.waits(number), 0);
    }
    prop_assert!(reader.running.is_empty());
    Ok(())
}

#[test]
fn no_job_is_lost_and_no_place_is_free_while_somebody_may_run() {
    let run = say(config(), &anything(), |history| nothing_is_lost(&history));
    run.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn the_same_history_gives_the_same_decisions() {
    let run = say(config(), &anything(), |history| {
        let [one, other] = [(); 2].map(|()| history.run());
        prop_assert_eq!(&one.log, &other.log);
        prop_assert_eq!(
            format!("{:?}", one.scheduler),
            format!("{:?}", other.scheduler)
        );
        Ok(())
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
}

/// The same without ceilings, which a job that ends early may lift.
fn uncapped(settings: Settings) -> Settings {
    let (weight, priority) = (settings.weight(), settings.priority());
    Settings::new(weight, None, settings.reservation(), priority).unwrap()
}

/// Had the job that is to make way just ended, another client's would be next.
fn another_one_is_next(history: &History, used: &[Nanos]) -> Result<(), TestCaseError> {
    let mut world = history.run();
    let running = world.running();
    let asked = running
        .iter()
        .zip(used)
        .map(|((_, job), used)| (*job, *used));
    let asked: Vec<_> = asked.collect();
    let (now, engine) = (world.now, world.engine);
    let displaced = world.scheduler.displaced(now, engine, &asked).unwrap();
    let Some(&(job, used)) = asked.iter().find(|(job, _)| Some(*job) == displaced) else {
        prop_assert_eq!(displaced, None, "it does not run");
        return Ok(());
    };
    world.scheduler.complete(now, engine, job, used).unwrap();
    let next = world.scheduler.next(now, engine).unwrap();
    let owner = |of: JobId| running.iter().find(|(_, job)| *job == of).map(|it| it.0);
    let next = next.map(|next| world.clients.iter().position(|it| *it == Some(next.client)));
    prop_assert!(next.is_some_and(|next| next != owner(job)), "{next:?}");
    Ok(())
}

#[test]
fn what_makes_way_is_followed_by_a_job_of_another_client() {
    let histories = (anything(), vec(length(), 8)).prop_map(|(mut history, used)| {
        history.policy = Policy::BestEffort;
        history
            .clients
            .iter_mut()
            .for_each(|it| *it = uncapped(*it));
        history
            .steps
            .retain(|step| !matches!(step, Step::Policy(_)));
        for step in &mut history.steps {
            if let Step::Join(settings) | Step::Set(_, settings) = step {
                *settings = uncapped(*settings);
            }
        }
        (history, used)
    });
    let run = say(config(), &histories, |(history, used)| {
        another_one_is_next(&history, &used)
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
}
