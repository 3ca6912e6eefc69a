//! The stream that is read of a device, memory first.

use super::pages::Pages;
use crate::device::MediatedDevice;
use crate::state::{Encoder, StateError};

/// A stream that is being read.
#[derive(Debug)]
pub(super) struct Saving {
    out: Encoder,
    memories: Vec<Pages>,
    /// The memory that the pass is in.
    current: usize,
    stage: Stage,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The device runs. Each page is given once: so the stream is at most twice the memory.
    Running,
    /// The device is stopped, and what has changed is given.
    Stopped,
    /// All was given.
    Ended,
}

impl Saving {
    /// Of a device that still runs, or that is stopped. `None` if it has no migration.
    pub(super) fn new(device: &mut dyn MediatedDevice, is_stopped: bool) -> Option<Self> {
        let migration = device.migration()?;
        let lens = migration.memories().into_iter().map(|memory| memory.len());
        Some(Self {
            memories: (0..).zip(lens).map(|(n, len)| Pages::new(n, len)).collect(),
            out: Encoder::new(migration.kind()),
            current: 0,
            stage: if is_stopped {
                Stage::Stopped
            } else {
                Stage::Running
            },
        })
    }

    /// The device was stopped: what has changed since it was read is read again.
    pub(super) fn device_stopped(&mut self) {
        self.stage = Stage::Stopped;
        self.current = 0;
        self.memories.iter_mut().for_each(Pages::rewind);
    }

    /// Appends the next `max` bytes of the stream; fewer are all that there are, of a device that
    /// runs for now.
    pub(super) fn read(
        &mut self,
        device: &mut dyn MediatedDevice,
        max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), StateError> {
        while self.out.len() < max && self.advance(device)? {}
        self.out.take(max, out);
        Ok(())
    }

    /// Adds to the stream. `false` if there is nothing to add.
    fn advance(&mut self, device: &mut dyn MediatedDevice) -> Result<bool, StateError> {
        if self.advance_memory(device)? {
            return Ok(true);
        }
        if self.stage != Stage::Stopped {
            return Ok(false);
        }
        self.stage = Stage::Ended;
        let config = device.config().save();
        self.out.config(&config);
        if let Some(migration) = device.migration() {
            let version = migration.version();
            self.out.registers(version, |out| migration.save(out));
        }
        self.out.end();
        Ok(true)
    }

    fn advance_memory(&mut self, device: &mut dyn MediatedDevice) -> Result<bool, StateError> {
        while let Some(pages) = self.memories.get_mut(self.current) {
            let migration = device.migration();
            let memories = migration.map_or_else(Vec::new, |migration| {
                migration.memories().into_iter().collect()
            });
            let Some(memory) = memories.get(self.current) else {
                break;
            };
            if pages
                .save(memory, &mut self.out)
                .map_err(StateError::Memory)?
            {
                return Ok(true);
            }
            self.current += 1;
        }
        Ok(false)
    }
}
