//! The thread that asks the daemon, so that keys are obeyed while it is slow.

use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use vgpud::client::Client;

use crate::output::one_line;

use super::sample::Sample;
use super::state::Message;

/// How long the daemon may take for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Sends a sample in each interval, or why there is none, until nobody listens.
pub(super) fn start(
    client: Client,
    parent: Option<String>,
    interval: Duration,
    to: Sender<Message>,
) {
    thread::spawn(move || {
        loop {
            thread::sleep(interval);
            let message = match Sample::take(&client, parent.as_deref()) {
                Ok(sample) => Message::Sampled(sample),
                Err(error) => Message::Lost(one_line(&error.to_string())),
            };
            if to.send(message).is_err() {
                return;
            }
        }
    });
}
