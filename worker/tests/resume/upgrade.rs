//! A worker hands over to another one.

use crate::host::{Host, is_closed};
use crate::stream::{End, Stream};
use ::worker::parking::{CLIENT, JOURNAL};
use rustix::process::Signal;

#[test]
fn a_client_sees_nothing_of_another_worker_that_goes_on() {
    let mut host = Host::start("edu-1");
    let stream = Stream::start(host.connect());
    host.wait_parked(CLIENT);
    for _ in 0..20 {
        let outlook = host.upgrade().unwrap();
        assert!(outlook.connected && outlook.exact);
    }
    assert_eq!(stream.end(), End::Told);
    host.stop();
}

/// One whose journal has another form, as that of another build may.
#[test]
fn a_worker_that_cannot_take_over_refuses_and_the_other_one_goes_on() {
    let mut host = Host::start("edu-1");
    let stream = Stream::start(host.connect());
    host.wait_parked(CLIENT);
    for _ in 0..5 {
        let words = host.upgrade_with(&["--max-dma-maps", "100"]).unwrap_err();
        assert!(words.contains("no journal"), "{words}");
        let before = stream.answered();
        stream.wait_for(before + 100);
    }
    // It is as good as before: another one can take over, also after a death.
    assert!(host.upgrade().unwrap().exact);
    host.upgrade_with(&["--max-dma-maps", "100"]).unwrap_err();
    host.kill(Signal::KILL);
    assert!(host.recover().unwrap().connected);
    assert_eq!(stream.end(), End::Told);
    host.stop();
}

#[test]
fn a_vgpu_without_a_client_is_handed_over_as_well() {
    let mut host = Host::start("edu-1");
    host.wait_parked(JOURNAL);
    let outlook = host.upgrade().unwrap();
    assert!(!outlook.connected && outlook.exact);
    let stream = Stream::start(host.connect());
    stream.wait_for(100);
    assert_eq!(stream.end(), End::Told);
    host.stop();
}

#[test]
fn a_client_that_goes_is_told_so_though_its_socket_is_kept() {
    let mut host = Host::start("edu-1");
    let socket = host.connect();
    let stream = Stream::start(socket.try_clone().unwrap());
    host.wait_parked(CLIENT);
    assert_eq!(stream.end(), End::Told);
    host.control().stop().unwrap();
    assert!(is_closed(&socket));
}
