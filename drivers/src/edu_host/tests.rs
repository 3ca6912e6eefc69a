//! vGPUs on a device that is none, behind real sessions.

mod fake;
mod hung;
mod saved;
mod seats;

use std::sync::Arc;
use std::time::Duration;

use mdev::session::Surroundings;
use mdev::{Attributes, Parent, Services};

use super::driver;
use super::parent::EduParent;
use crate::edu::tests::guest::{Guest, Instance, PAGE, Ram, pattern};
use crate::edu::transfer::BUFFER_LEN;
use fake::Fake;

/// Longer than anything takes that ends.
const LIMIT: Duration = Duration::from_secs(20);

/// Where guests have their memory: all at the same place.
const IOVA: u64 = 0x40_0000;

/// Pages that the device reaches for each vGPU as long as that is there.
const OWN: usize = 2;

/// A device, and what is shared of it.
fn parent(limit: Duration) -> (Fake, EduParent) {
    let fake = Fake::new();
    let parent = EduParent::new(Box::new(fake.clone()), Arc::new(fake.clone()), limit);
    (fake, parent)
}

fn seat(parent: &EduParent, attributes: &[(&str, &str)]) -> Instance {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let attributes = Attributes(attributes.iter().map(owned).collect());
    let services = Services::default();
    let around = Surroundings::new(&services);
    let device = parent.build(&driver::spec(), &attributes, services);
    Instance::serving(device.unwrap(), around)
}

/// A guest with four pages of memory.
fn guest(seat: &Instance, seed: u8) -> (Guest, Ram) {
    let mut guest = seat.guest();
    let ram = Ram::new(4 * PAGE);
    ram.write(0, &pattern(seed, 4 * PAGE));
    guest.map_rw(&ram, IOVA, 4 * PAGE);
    (guest, ram)
}
