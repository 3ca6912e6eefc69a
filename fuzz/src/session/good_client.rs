//! A client that behaves.

use std::os::fd::OwnedFd;

use vfu::client::Client;
use vfu::wire::version::Capabilities;

/// A client that does what clients do, and finds all in order.
pub(super) fn behave(socket: OwnedFd) {
    let offer = Capabilities {
        max_msg_fds: Some(16),
        max_data_xfer_size: Some(1 << 20),
        ..Capabilities::default()
    };
    let mut client = Client::negotiate(socket, offer).expect("a version");
    let info = client.device_info().expect("device info");
    for index in 0..info.num_regions {
        client.region_info(index).expect("region info");
    }
    let mut vendor = [0; 2];
    client
        .region_read(7, 0, &mut vendor)
        .expect("configuration space");
    assert_ne!(vendor, [0xff; 2], "no device");
    client.reset().expect("a reset");
}
