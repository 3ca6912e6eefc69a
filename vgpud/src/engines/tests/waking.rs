//! How long those wait who come now and then.

use super::*;

/// A worker with nothing to do until it is given something.
fn light(host: &mut Host, settings: &[(&str, &str)]) -> usize {
    let number = host.join(Nanos(0), settings);
    let slot = host.played[number].slot;
    host.engine.clients[&slot]
        .usage
        .set_queued(Class::Render, 0);
    host.wait(ms(30));
    number
}

/// Hands in a job of 0.1 ms, and returns how long it waits until it begins.
fn wait_of_one(host: &mut Host, number: usize, class: Class) -> Nanos {
    let slot = host.played[number].slot;
    host.played[number].length = STEP;
    host.engine.clients[&slot].usage.set_queued(class, 1);
    let begun = host.now;
    host.engine.heed(host.now, slot);
    while host.played[number].job.is_none() {
        assert!(host.now.since(begun) < ms(100), "it does not begin");
        host.wait(STEP);
    }
    let waited = host.now.since(begun);
    host.engine.clients[&slot].usage.set_queued(class, 0);
    host.played[number].length = Nanos(0);
    host.wait(ms(3));
    waited
}

/// The longest of waits that begin everywhere in leases and jobs.
fn longest_wait(host: &mut Host, number: usize, class: Class) -> Nanos {
    let waits = (0..100).map(|of| {
        host.wait(Nanos::from_micros(300 + of * 700));
        wait_of_one(host, number, class)
    });
    waits.max().unwrap()
}

#[test]
fn who_comes_now_and_then_waits_for_one_job_however_many_are_busy() {
    for hogs in [1, 2, 5] {
        let mut host = Host::new(1000);
        for number in 0..hogs {
            // Of those that have had exactly the same anybody may be next.
            let weight = (100 + 7 * number).to_string();
            host.join(Nanos::from_micros(900), &[("weight", &weight)]);
        }
        let light = light(&mut host, &[]);
        let longest = longest_wait(&mut host, light, Class::Render);
        // The job, and a step at each of its ends.
        assert!(longest <= Nanos::from_micros(1100), "{hogs}: {longest:?}");
    }
}

#[test]
fn a_job_that_comes_as_a_lease_ends_is_not_charged_for_what_nobody_wanted() {
    let mut host = Host::new(1000);
    let light = light(&mut host, &[]);
    let slot = host.played[light].slot;
    wait_of_one(&mut host, light, Class::Render);
    let expiry = host.engine.clients[&slot].held.as_ref().unwrap().expiry;
    let before = host.engine.clients[&slot].told(host.now).used_ns;
    host.engine.clients[&slot]
        .usage
        .set_queued(Class::Render, 1);
    host.now = expiry;
    host.engine.heed(host.now, slot);
    let slice = host.engine.slices_after(0).pop().unwrap();
    let used = host.engine.clients[&slot].told(host.now).used_ns - before;
    assert_eq!(
        (slice.used_ns, slice.charged_ns, used),
        (100_000, 100_000, 0)
    );
}

#[test]
fn what_is_to_be_shown_waits_for_one_job_though_its_vgpu_waits_already() {
    let mut host = Host::new(1000);
    for _ in 0..2 {
        host.join(Nanos::from_micros(900), &[("weight", "1000")]);
    }
    // It is always busy, and far from its turn.
    let busy = host.join(Nanos::from_micros(900), &[("weight", "1")]);
    let slot = host.played[busy].slot;
    for of in 0..20 {
        host.wait(Nanos::from_micros(40_000 + of * 300));
        let jobs = host.played[busy].jobs;
        let begun = host.now;
        host.engine.clients[&slot]
            .usage
            .set_queued(Class::Display, 1);
        host.engine.heed(host.now, slot);
        while host.played[busy].jobs == jobs {
            let waited = host.now.since(begun);
            assert!(
                waited <= Nanos::from_micros(1100),
                "{of}: it waits for a lease"
            );
            host.wait(STEP);
        }
        host.engine.clients[&slot]
            .usage
            .set_queued(Class::Display, 0);
    }
}

#[test]
fn who_has_had_its_lease_does_not_take_the_next_one_from_others() {
    let mut host = Host::new(1000);
    for _ in 0..2 {
        host.join(Nanos::from_micros(200), &[]);
    }
    host.wait(ms(1000));
    let leases = host.engine.clients.values().map(|it| it.counts.leases);
    // They are of 2 ms and a job.
    assert!(leases.sum::<u64>() < 500);
}
