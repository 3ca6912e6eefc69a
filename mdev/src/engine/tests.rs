//! A device's side against a lender that the test plays.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, send, socketpair};

use super::*;
use crate::sched::lease::{GrantWords, Granter, Lease, Page, UsageWords};

/// Longer than anything here takes: a test fails after it rather than hang.
const DEADLINE: Duration = Duration::from_secs(20);
const LONG: Nanos = Nanos::from_millis(1000);

struct TestLender {
    socket: OwnedFd,
    grant: Page<GrantWords>,
    usage: Page<UsageWords>,
    granter: Granter,
}

impl TestLender {
    fn connect(lease: &EngineLease) -> Self {
        let grant = Page::<GrantWords>::new().unwrap();
        let usage = Page::<UsageWords>::new().unwrap();
        let flags = SocketFlags::CLOEXEC;
        let kind = SocketType::STREAM;
        let (socket, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        let files = (
            grant.read_only_file().unwrap(),
            usage.as_fd().try_clone_to_owned().unwrap(),
        );
        lease.connect(theirs, files.0, files.1).unwrap();
        Self {
            socket,
            granter: Granter::new(&grant),
            grant,
            usage,
        }
    }

    fn grant(&mut self, budget: Nanos, expiry: Time) {
        let lease = Lease::new(0, 1, budget, LONG, expiry).unwrap();
        self.granter.grant(&self.grant, &lease);
        send(&self.socket, &[1], rustix::net::SendFlags::empty()).unwrap();
    }

    fn was_told(&self) -> bool {
        recv(&self.socket, &mut [0; 8], RecvFlags::DONTWAIT).is_ok()
    }
}

/// Begins a job in a thread of its own.
fn begin(lease: &EngineLease) -> Receiver<Result<Turn, Interrupted>> {
    let (sender, receiver) = channel();
    let ticket = lease.submit(Class::Render);
    thread::spawn(move || sender.send(ticket.begin()));
    receiver
}

fn waits(job: &Receiver<Result<Turn, Interrupted>>) -> bool {
    job.recv_timeout(Duration::from_millis(20)).is_err()
}

#[test]
fn without_a_scheduler_every_job_runs_at_once() {
    let lease = EngineLease::default();
    let _interrupt = lease.interrupt();
    let turns = [0, 1].map(|_| lease.submit(Class::Render).begin().unwrap());
    assert!(turns.iter().all(|turn| !turn.is_cancelled()));
    assert!(!lease.is_scheduled());
}

#[test]
fn a_job_waits_until_there_is_a_lease_and_is_told_of_once() {
    let lease = EngineLease::awaited().unwrap();
    let job = begin(&lease);
    assert!(waits(&job));
    let mut lender = TestLender::connect(&lease);
    lender.grant(LONG, Time(0));
    assert!(waits(&job));
    assert!(lender.was_told());
    assert_eq!(lender.usage.queued(Class::Render), 1);
    lender.grant(LONG, now() + LONG);
    let turn = job.recv_timeout(DEADLINE).unwrap().unwrap();
    assert_eq!(lender.usage.queued(Class::Render), 0);
    assert_eq!(lender.usage.running().map(|(job, _)| job), Some(1));
    drop(turn);
    assert_eq!(lender.usage.running(), None);
    assert_eq!(lender.usage.done().0, 1);
    while lender.was_told() {}
    drop(lease.submit(Class::Render).begin().unwrap());
    assert!(!lender.was_told(), "there was budget left");
}

#[test]
fn what_is_spent_or_wanted_by_others_is_told_at_the_end_of_a_job() {
    let lease = EngineLease::awaited().unwrap();
    let mut lender = TestLender::connect(&lease);
    lender.grant(Nanos(1), now() + LONG);
    drop(lease.submit(Class::Render).begin().unwrap());
    assert!(lender.was_told());
    lender.grant(LONG, now() + LONG);
    lender.grant.set_contended(true);
    let next = lease.submit(Class::Render);
    drop(lease.submit(Class::Render).begin().unwrap());
    assert!(!lender.was_told(), "there is another job");
    drop(next.begin().unwrap());
    assert!(lender.was_told());
}

#[test]
fn a_job_begins_under_no_lease_that_was_taken_back() {
    let lease = EngineLease::awaited().unwrap();
    let mut lender = TestLender::connect(&lease);
    lender.grant(LONG, now() + LONG);
    drop(lease.submit(Class::Render).begin().unwrap());
    lender.grant(LONG, Time(0));
    let job = begin(&lease);
    assert!(waits(&job));
    assert_eq!(lender.usage.running(), None);
    assert!(lender.was_told());
}

#[test]
fn an_interrupt_ends_waits_and_asks_what_runs_to_end() {
    let lease = EngineLease::awaited().unwrap();
    let mut lender = TestLender::connect(&lease);
    let job = begin(&lease);
    let interrupt = lease.interrupt();
    let ended = job.recv_timeout(DEADLINE).unwrap();
    assert_eq!(ended.err(), Some(Interrupted));
    assert_eq!(lender.usage.queued(Class::Render), 0);
    drop(interrupt);
    lender.grant(LONG, now() + LONG);
    let turn = lease.submit(Class::Render).begin().unwrap();
    assert!(!turn.is_cancelled());
    lender.grant.cancel(1);
    assert!(turn.is_cancelled());
    lender.grant.cancel(0);
    let _interrupt = lease.interrupt();
    assert!(turn.is_cancelled());
}

#[test]
fn without_the_lender_it_goes_on_at_the_last_rate() {
    let lease = EngineLease::awaited().unwrap();
    let mut lender = TestLender::connect(&lease);
    lender.grant(Nanos::from_millis(1), Time(0));
    let job = begin(&lease);
    assert!(waits(&job));
    drop(lender);
    drop(job.recv_timeout(DEADLINE).unwrap().unwrap());
    // One whose rate was none stays where it is.
    let lease = EngineLease::awaited().unwrap();
    let mut lender = TestLender::connect(&lease);
    lender.grant(Nanos(0), Time(0));
    drop(lender);
    let job = begin(&lease);
    assert!(waits(&job));
    let shared = lease.0.as_ref().unwrap();
    let wait = shared.state().begin(now(), now()).unwrap_err();
    assert_eq!(wait.until, None, "it would wake for nothing");
    let _interrupt = lease.interrupt();
    assert!(job.recv_timeout(DEADLINE).unwrap().is_err());
}

#[test]
fn another_lender_hears_of_what_runs_and_waits() {
    let lease = EngineLease::awaited().unwrap();
    let mut first = TestLender::connect(&lease);
    first.grant(LONG, now() + LONG);
    let turn = lease.submit(Class::Render).begin().unwrap();
    let job = begin(&lease);
    let mut second = TestLender::connect(&lease);
    assert_eq!(second.usage.running().map(|(job, _)| job), Some(1));
    assert_eq!(second.usage.queued(Class::Render), 1);
    assert!(!turn.is_cancelled());
    second.grant.cancel(1);
    assert!(turn.is_cancelled(), "the other one says it");
    drop(turn);
    assert_eq!(second.usage.running(), None);
    second.grant(LONG, now() + LONG);
    drop(job.recv_timeout(DEADLINE).unwrap().unwrap());
}

#[test]
fn a_job_is_told_of_anew_where_the_one_before_it_was_taken_back() {
    let lease = EngineLease::awaited().unwrap();
    let mut lender = TestLender::connect(&lease);
    lender.grant(Nanos::from_millis(1), Time(1));
    let job = begin(&lease);
    assert!(waits(&job));
    assert!(lender.was_told());
    let interrupt = lease.interrupt();
    assert!(job.recv_timeout(DEADLINE).unwrap().is_err());
    drop(interrupt);
    // Nobody has granted anything since.
    let job = begin(&lease);
    assert!(waits(&job));
    assert!(lender.was_told());
}

#[test]
fn what_is_to_be_shown_is_told_of_though_another_job_waits_already() {
    let lease = EngineLease::awaited().unwrap();
    let mut lender = TestLender::connect(&lease);
    lender.grant(Nanos::from_millis(1), Time(1));
    let render = begin(&lease);
    assert!(waits(&render));
    assert!(lender.was_told());
    let picture = lease.submit(Class::Display);
    let picture = thread::spawn(move || picture.begin().map(drop));
    let begun = std::time::Instant::now();
    while !lender.was_told() {
        assert!(begun.elapsed() < DEADLINE, "it is not told of");
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(lender.usage.queued(Class::Display), 1);
    let _interrupt = lease.interrupt();
    assert!(picture.join().unwrap().is_err());
}
