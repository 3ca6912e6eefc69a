//! `vgpu top` and `vgpu trace`, on a real daemon whose vGPUs share an engine.
//!
//! - `terminal`: a terminal that is none, to look at the screen.
//! - `top`: the screen, and tables for scripts.
//! - `trace`: what the trace's format asks for, of a real run.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "../cli_support/mod.rs"]
mod cli_support;
#[path = "../engines/hogs.rs"]
mod hogs;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod top;
mod trace;

use vgpud::api::Attribute;

use hogs::Hog;
use support::{Daemon, uuid};

/// A vGPU with a weight that always has something to do.
fn busy(daemon: &Daemon, number: u128, weight: &str) -> Hog {
    let mut request = support::request("edu-1");
    let attributes = [("spin-register", "on"), ("weight", weight)];
    request.attributes = attributes
        .map(|(name, value)| Attribute {
            name: name.to_owned(),
            value: value.to_owned(),
        })
        .into();
    daemon.client.create(uuid(number), &request).unwrap();
    let hog = Hog::start(daemon, number, 200);
    hog.goes_on(20);
    hog
}
