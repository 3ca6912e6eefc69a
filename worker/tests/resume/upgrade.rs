//! A worker hands over to another one.

use crate::host::{Host, is_closed};
use crate::stream::{End, Stream};
use ::worker::parking::CLIENT;

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

#[test]
fn a_vgpu_without_a_client_is_handed_over_as_well() {
    let mut host = Host::start("bochs-4m");
    host.wait_parked(::worker::parking::JOURNAL);
    let outlook = host.upgrade().unwrap();
    assert!(!outlook.connected && outlook.exact);
    let stream = Stream::start(Host::start("edu-1").connect());
    drop(stream);
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
