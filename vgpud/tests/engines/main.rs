//! vGPUs that share an engine: with the real daemon, real workers, and clients that keep `edu` busy.
//!
//! - `hogs`: clients that always have something to do.
//! - `hostile`: a worker that somebody has broken into; `liars`: what comes of that.
//! - `sharing`: shares by weight, caps, policies, all of them changed live.
//! - `settings`: what is refused, told and kept.
//! - `trouble`: daemons and workers that are killed or stopped, jobs that do not end.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod hogs;
mod hostile;
mod liars;
mod settings;
mod sharing;
#[path = "../support/mod.rs"]
mod support;
mod trouble;

use vgpud::api::{Attribute, CreateRequest, EngineUse};

use support::{Daemon, uuid};

fn attribute(name: &str, value: &str) -> Attribute {
    Attribute {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

/// What is asked for: an `edu` that can be kept busy, with these settings.
fn request(settings: &[(&str, &str)]) -> CreateRequest {
    let mut request = support::request("edu-1");
    let settings = [("spin-register", "on")].iter().chain(settings);
    request.attributes = settings
        .map(|(name, value)| attribute(name, value))
        .collect();
    request
}

/// Creates one.
fn create(daemon: &Daemon, number: u128, settings: &[(&str, &str)]) {
    let created = daemon.client.create(uuid(number), &request(settings));
    created.unwrap_or_else(|error| panic!("{error}: {}", daemon.log()));
}

/// Changes settings while it runs.
fn set(daemon: &Daemon, number: u128, settings: &[(&str, &str)]) {
    let changes = settings.iter().map(|(name, value)| attribute(name, value));
    daemon
        .client
        .set_attributes(uuid(number), changes.collect())
        .unwrap();
}

/// What an instance has of its engine.
fn engine_use(daemon: &Daemon, number: u128) -> EngineUse {
    let engine = daemon.client.engine("soft0").unwrap();
    let mut clients = engine.clients.into_iter();
    clients.find(|client| client.uuid == uuid(number)).unwrap()
}
