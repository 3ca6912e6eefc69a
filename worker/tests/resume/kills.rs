//! Workers are killed while their client asks at full rate.

use std::thread;
use std::time::Duration;

use ::worker::parking::CLIENT;
use rustix::process::Signal;
use vfu::client::Client;
use vfu::wire::version::Capabilities;

use crate::host::Host;
use crate::stream::{End, Stream};

/// How often a worker is killed; `./x test --all` kills more.
fn kills() -> u32 {
    match std::env::var_os("VGPUD_TEST_ALL") {
        Some(_) => 5000,
        None => 1000,
    }
}

/// Every request has its own answer, once, or the connection is closed: which it is only if half of
/// an answer had left.
#[test]
fn a_worker_may_be_killed_at_any_byte_of_the_stream() {
    let mut host = Host::start("edu-1");
    let mut stream = Stream::start(host.connect());
    host.wait_parked(CLIENT);
    let mut random = 12345_u32;
    let (mut exact, mut answered, mut closed) = (0, 0, 0);
    for _ in 0..kills() {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        thread::sleep(Duration::from_micros(u64::from(random >> 16) % 2000));
        host.kill(Signal::KILL);
        let before = stream.answered();
        let outlook = host.recover().unwrap();
        exact += u32::from(outlook.exact);
        stream.wait_for(before + 100);
        if stream.is_over() {
            closed += 1;
            answered += stream.answered();
            assert_eq!(stream.end(), End::Closed);
            stream = Stream::start(host.connect());
            host.wait_parked(CLIENT);
        }
    }
    answered += stream.answered();
    assert_eq!(stream.end(), End::Told);
    println!(
        "{} kills, {exact} exact, {closed} closed, {answered} answers",
        kills()
    );
    assert_eq!(
        exact,
        kills(),
        "the registers are noted between any two requests"
    );
    assert!(closed < kills() / 100, "{closed} connections were closed");
    host.stop();
}

/// The register that ends the process that serves it.
const PANIC: u64 = 0xc0;

/// The first time it may have been anything: it is tried again. Two workers are enough.
#[test]
fn a_request_in_which_two_workers_died_is_given_up() {
    let mut host = Host::start_with("edu-1", &["-o", "panic-register=on"]);
    let mut client = Client::negotiate(host.connect().into(), Capabilities::default()).unwrap();
    host.wait_parked(CLIENT);
    client.region_write(0, 4, &[1, 2, 3, 4]).unwrap();
    for round in 0..2 {
        let writer = thread::spawn(move || {
            let written = client.region_write(0, PANIC, &[0; 4]);
            (client, written)
        });
        host.wait_for_end();
        let outlook = host.recover().unwrap();
        assert_eq!((outlook.exact, outlook.skipped), (true, None), "{round}");
        host.wait_for_end();
        let outlook = host.recover().unwrap();
        assert!(outlook.exact && outlook.skipped.is_some(), "{round}");
        let written;
        (client, written) = writer.join().unwrap();
        written.unwrap();
        let mut liveness = [0; 4];
        client.region_read(0, 4, &mut liveness).unwrap();
        assert_eq!(liveness, [0xfe, 0xfd, 0xfc, 0xfb]);
    }
    host.stop();
}
