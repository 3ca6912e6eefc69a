//! The transfers of one vGPU: what is pinned, and which jobs a transfer is.

use std::io;
use std::sync::Arc;

use mdev::dma::pin::DeviceIommu;
use mdev::dma::view::Access;
use mdev::dma::{AccessError, DmaLimits, GuestMemory, Iova, IovaRange};
use mdev::host::{Hold, Job, Seat};
use mdev::region_memory::RegionMemory;

use super::card::{Card, Turn};
use crate::edu::mover::{Flow, Mover};
use crate::edu::settings::Way;
use crate::edu::transfer::{BUFFER_LEN, Buffer, Direction, Transfer, TransferError};

/// A file of ours, whose first page the device reaches.
pub(super) struct OwnPage {
    file: Arc<RegionMemory>,
    hold: Hold,
}

/// Has a physical device do the transfers of one vGPU.
pub(super) struct CardMover {
    seat: Seat,
    card: Arc<Card>,
    /// The vGPU's buffer.
    buffer: OwnPage,
    /// What is copied from guest memory, or to it, where that cannot be pinned.
    copied: OwnPage,
}

impl OwnPage {
    pub(super) fn new(
        seat: Seat,
        iommu: Arc<dyn DeviceIommu>,
        file: Arc<RegionMemory>,
    ) -> io::Result<Self> {
        let whole = IovaRange::new(Iova(0), BUFFER_LEN as u64);
        let whole = whole.ok_or(io::ErrorKind::InvalidInput)?;
        let memory = GuestMemory::of_file(&file, whole, DmaLimits::default())?;
        memory.set_device_iommu(iommu)?;
        let hold = Hold::pin(seat, &memory, whole, Access::Write);
        let hold = hold.map_err(|error| match error {
            AccessError::Iommu(error) => error,
            other => io::Error::other(other),
        })?;
        Ok(Self { file, hold })
    }
}

impl CardMover {
    pub(super) fn new(seat: Seat, card: Arc<Card>, buffer: OwnPage, copied: OwnPage) -> Self {
        Self {
            seat,
            card,
            buffer,
            copied,
        }
    }

    /// With the guest's memory pinned.
    fn run_pinned(
        &self,
        transfer: &Transfer,
        (memory, ram): (&GuestMemory, IovaRange),
        flow: &dyn Flow,
    ) -> Result<(), TransferError> {
        let turn = self.card.take(self.seat, || flow.is_hasty())?;
        flow.touch(true);
        let access = match transfer.direction {
            Direction::FromRam => Access::Read,
            Direction::ToRam => Access::Write,
        };
        let hold = Hold::pin(self.seat, memory, ram, access)?;
        self.run_held(transfer, &hold, &turn, flow)
    }

    /// With a copy of the guest's memory, or of what goes there. The device is not had while the client is
    /// asked for memory.
    fn run_copied(
        &self,
        transfer: &Transfer,
        (memory, ram): (&GuestMemory, IovaRange),
        flow: &dyn Flow,
    ) -> Result<(), TransferError> {
        let mut bytes = vec![0; transfer.buffer.len()];
        let lost = |_| TransferError::Device("its memory is not to be had");
        if transfer.direction == Direction::FromRam {
            flow.touch(true);
            memory.read(ram.start(), &mut bytes)?;
            self.copied.file.write(0, &bytes).map_err(lost)?;
        }
        flow.touch(false);
        let turn = self.card.take(self.seat, || flow.is_hasty())?;
        self.run_held(transfer, &self.copied.hold, &turn, flow)?;
        drop(turn);
        if transfer.direction == Direction::ToRam {
            self.copied.file.read(0, &mut bytes).map_err(lost)?;
            flow.touch(true);
            memory.write(ram.start(), &bytes)?;
        }
        Ok(())
    }

    /// Between memory that is held, from its start, and the vGPU's buffer.
    fn run_held(
        &self,
        transfer: &Transfer,
        memory: &Hold,
        turn: &Turn<'_>,
        flow: &dyn Flow,
    ) -> Result<(), TransferError> {
        let part = transfer.buffer.start as u64..transfer.buffer.end as u64;
        let whole = 0..part.end - part.start;
        let own = &self.buffer.hold;
        match transfer.direction {
            Direction::FromRam => {
                turn.forget_all();
                do_all(turn, memory.read(whole), part.start, flow)?;
                do_all(turn, own.write(part.clone()), part.start, flow)?;
                turn.note(self.seat, part);
            }
            Direction::ToRam => {
                if !turn.has(self.seat, &part) {
                    turn.forget_all();
                    do_all(turn, own.read(part.clone()), part.start, flow)?;
                    turn.note(self.seat, part.clone());
                }
                do_all(turn, memory.write(whole), part.start, flow)?;
            }
        }
        Ok(())
    }
}

/// Does jobs with the bytes of the device's buffer from `at` on, unless there are none.
fn do_all(
    turn: &Turn<'_>,
    jobs: Option<Vec<Job<'_>>>,
    mut at: u64,
    flow: &dyn Flow,
) -> Result<(), TransferError> {
    for job in jobs.ok_or(TransferError::Device("its memory is not held"))? {
        if flow.is_hasty() {
            return Err(TransferError::Interrupted);
        }
        turn.run(&job, at)?;
        at += job.len();
    }
    Ok(())
}

impl Mover for CardMover {
    fn buffer(&self) -> Buffer {
        let mut buffer = [0; BUFFER_LEN];
        if let Err(error) = self.buffer.file.read(0, &mut buffer) {
            tracing::warn!("the buffer cannot be read: {error}");
        }
        buffer
    }

    fn hold(&mut self, buffer: &Buffer) {
        self.card.forget(self.seat);
        if let Err(error) = self.buffer.file.write(0, buffer) {
            tracing::warn!("the buffer cannot be written: {error}");
        }
    }

    fn may_wait(&self) -> bool {
        true
    }

    fn run(
        &mut self,
        transfer: &Transfer,
        memory: &GuestMemory,
        way: Way,
        flow: &dyn Flow,
    ) -> Result<(), TransferError> {
        let Some(ram) = transfer.ram else {
            return Ok(());
        };
        if way == Way::Pin {
            match self.run_pinned(transfer, (memory, ram), flow) {
                Err(TransferError::Memory(AccessError::NeedsMessages(_))) => {}
                done => return done,
            }
        }
        self.run_copied(transfer, (memory, ram), flow)
    }
}
