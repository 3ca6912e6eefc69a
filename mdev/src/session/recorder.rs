//! What is noted between requests, so that another process can go on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use vfu::wire::version::Capabilities;

use super::Surroundings;
use super::doorbells::Doorbells;
use crate::device::MediatedDevice;
use crate::keep::journal::{Journal, Stream};
use crate::keep::{CLIENT, Held, Keep, TWIN};

/// Notes how things stand in the journal of one session, and of the time before its client came.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) journal: Journal,
    keep: Keep,
    /// What the device told last.
    told: Vec<u8>,
    /// Whether configuration space may be another than was noted.
    has_config_changed: bool,
    held: Vec<Held>,
}

impl Recorder {
    /// Begins a fresh journal; `None` if nothing outlives this process.
    pub(crate) fn begin(around: &Surroundings, able: &Capabilities) -> Option<(Self, Stream)> {
        if !around.keep.is_active() {
            return None;
        }
        match Journal::new(&around.keep, able, around.limits.max_mappings) {
            Ok((journal, stream)) => Some((Self::new(journal, around.keep.clone()), stream)),
            Err(error) => {
                tracing::warn!("no other process could go on from here: {error}");
                None
            }
        }
    }

    /// Goes on with a journal.
    pub(crate) fn new(journal: Journal, keep: Keep) -> Self {
        Self {
            journal,
            keep,
            told: Vec::new(),
            has_config_changed: true,
            held: Vec::new(),
        }
    }

    /// The client is this from now on.
    pub(crate) fn connect(&mut self, client: BorrowedFd<'_>) {
        self.held.extend(self.keep.hold_as(CLIENT, client));
        self.journal.set_connected(true);
    }

    /// The client is the one that was left.
    pub(crate) fn reconnect(&mut self, held: impl IntoIterator<Item = Held>) {
        self.held.extend(held);
    }

    /// What was agreed on, and the socket for our own commands if there is one.
    pub(crate) fn agree(&mut self, agreement: &[u8], twin: Option<BorrowedFd<'_>>) {
        let twin = twin.and_then(|twin| self.keep.hold_as(TWIN, twin));
        self.held.extend(twin);
        self.journal.set_agreement(agreement);
    }

    /// Holds the doorbells from a number on.
    pub(super) fn hold_doorbells(&mut self, bells: &Doorbells, first: usize) {
        for (number, bell) in bells.from(first) {
            if let Some(held) = self.keep.hold(bell.as_fd()) {
                let region = bell.region as u32;
                self.journal.doorbells.set(number, region, held.id());
                self.held.push(held);
            }
        }
    }

    /// Takes the doorbells that were left: the region of each, and its eventfd.
    pub(crate) fn claim_doorbells(&mut self) -> Vec<(u32, OwnedFd)> {
        let mut bells = Vec::new();
        for (region, id) in self.journal.doorbells.get() {
            let Some((fd, held)) = self.keep.claim(id) else {
                break;
            };
            bells.push((region, fd));
            self.held.push(held);
        }
        bells
    }

    /// Configuration space may have changed.
    pub(crate) fn config_changed(&mut self) {
        self.has_config_changed = true;
    }

    /// Notes the device as it is after every request before this position of the stream.
    pub(crate) fn note(&mut self, device: &mut dyn MediatedDevice, position: u64) {
        let changed = std::mem::take(&mut self.has_config_changed);
        let config = changed.then(|| device.config().save());
        self.told.clear();
        let version = device.migration().and_then(|migration| {
            let version = migration.version();
            migration.checkpoint(&mut self.told).then_some(version)
        });
        let registers = version.map(|version| (version, &self.told[..]));
        let checkpoints = &mut self.journal.checkpoints;
        checkpoints.take(position, config.as_deref(), registers);
    }
}
