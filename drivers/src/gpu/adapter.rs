//! Commands carried out, on the thread that serves the queues.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mdev::dma::GuestMemory;
use mdev::scanout::{Geometry, Rect, ScanoutPublisher};
use virtio::{Cancelled, Chain, ChainError};

use super::change::Change;
use super::cursors::Cursors;
use super::display::Display;
use super::journal::Journal;
use super::late::within;
use super::model::Model;
use super::protocol::{Answer, HEADER, Header, Reader, command};
use super::table::Table;
use super::vram::Vram;

/// The queues, by their number.
pub(super) const CONTROL: u16 = 0;

/// The state behind the queues.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) model: Model,
    /// Whether resources may lie in guest memory.
    pub(super) has_blobs: bool,
    pub(super) table: Table,
    /// `None` only if the kernel had none to give when a client left.
    pub(super) vram: Option<Vram>,
    pub(super) cursors: Cursors,
    pub(super) journal: Option<Journal>,
    /// The position of the last command that changed the table: it is not carried out twice.
    pub(super) applied: Option<u64>,
    /// Of each head.
    pub(super) scanouts: Vec<ScanoutPublisher>,
    /// Of each head: whether the copy of a blob that it shows is of another, or of none yet.
    pub(super) stale: Vec<bool>,
    /// Of each head: what of a blob was flushed and is not copied yet.
    pub(super) late: Vec<Rect>,
    pub(super) memory: GuestMemory,
    pub(super) display: Arc<Mutex<Display>>,
}

/// Why a command has no more of an answer.
pub(super) enum Failure {
    Cancelled(Cancelled),
    Answer(Answer),
}

impl From<ChainError> for Failure {
    fn from(error: ChainError) -> Self {
        match error {
            ChainError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            _ => Self::Answer(Answer::Unspecified),
        }
    }
}

impl From<Answer> for Failure {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// What a command is answered: the kind, and what follows the header.
pub(super) type Answered = Result<(Answer, Vec<u8>), Failure>;

pub(super) const DONE: Answered = Ok((Answer::Ok, Vec::new()));

impl Adapter {
    /// Handles one command; how many bytes the answer has.
    pub(super) fn handle(
        &mut self,
        queue: u16,
        position: u64,
        chain: &mut Chain<'_>,
    ) -> Result<u32, Cancelled> {
        let mut bytes = [0; HEADER];
        let (header, answered) = match chain.read(&mut bytes).map_err(Failure::from) {
            Ok(()) => {
                let header = Header::parse(&bytes);
                let answered = match queue {
                    CONTROL => self.carry_out(position, header, chain),
                    _ => self.point(header.command, chain),
                };
                (header, answered)
            }
            Err(failure) => (Header::default(), Err(failure)),
        };
        let (answer, body) = match answered {
            Ok(answered) => answered,
            Err(Failure::Answer(answer)) => (answer, Vec::new()),
            Err(Failure::Cancelled(cancelled)) => return Err(cancelled),
        };
        let mut whole = header.answer(answer);
        whole.extend(body);
        let written = match chain.write(&whole) {
            Err(ChainError::Short) => chain.write(&header.answer(Answer::Unspecified)),
            written => written,
        };
        match written {
            Err(ChainError::Cancelled(cancelled)) => Err(cancelled),
            // Nobody is there to be told.
            _ => Ok(chain.written()),
        }
    }

    fn carry_out(&mut self, position: u64, header: Header, chain: &mut Chain<'_>) -> Answered {
        let is_applied = self.applied == Some(position);
        let change = match header.command {
            command::GET_DISPLAY_INFO => return Ok((Answer::DisplayInfo, self.display().info())),
            command::GET_EDID => return self.edid(chain),
            command::TRANSFER_TO_HOST_2D => return self.transfer(chain),
            command::RESOURCE_FLUSH => return self.flush(chain),
            // The answer has more than that it is done.
            command::RESOURCE_ASSIGN_UUID => return self.assign_uuid(position, chain),
            _ if is_applied => return DONE,
            command::RESOURCE_CREATE_2D => self.create(chain)?,
            command::RESOURCE_CREATE_BLOB => self.create_blob(chain)?,
            command::RESOURCE_UNREF => Change::Unref {
                id: self.known(chain)?,
            },
            command::RESOURCE_ATTACH_BACKING => self.attach(chain)?,
            command::RESOURCE_DETACH_BACKING => self.detach(chain)?,
            command::SET_SCANOUT => self.set_scanout(chain)?,
            command::SET_SCANOUT_BLOB => return self.set_scanout_blob(position, chain),
            // There are none.
            command::GET_CAPSET_INFO | command::GET_CAPSET => {
                return Err(Answer::InvalidParameter.into());
            }
            command::CTX_DESTROY
            | command::CTX_ATTACH_RESOURCE
            | command::CTX_DETACH_RESOURCE
            | command::SUBMIT_3D => return Err(Answer::InvalidContext.into()),
            _ => return Err(Answer::Unspecified.into()),
        };
        self.change(Some(position), &change)?;
        DONE
    }

    /// Makes a change, and notes it first where it outlives the process: as that of the command at a
    /// position of the control queue, if it must not be made twice.
    pub(super) fn change(&mut self, position: Option<u64>, change: &Change) -> Result<(), Failure> {
        // The last entry tells which command must not be made twice: one of the control queue that was
        // interrupted, and comes again, is followed by the cursor's.
        let at = position.or(self.applied);
        if let Some(journal) = &mut self.journal {
            let noted = journal.append(at, change)
                || (journal.rewrite(&self.table.changes()) && journal.append(at, change));
            if !noted {
                return Err(Answer::OutOfMemory.into());
            }
        }
        if position.is_some() {
            self.applied = position;
        }
        let before = self.geometries();
        match self.table.apply(change) {
            Ok(freed) => {
                self.show_changed(&before);
                for part in freed {
                    if let Some(vram) = &mut self.vram {
                        vram.clear(part.at, part.len);
                    }
                }
            }
            // It was found possible.
            Err(error) => tracing::error!("a change was not made: {error}"),
        }
        Ok(())
    }

    fn geometries(&self) -> Vec<Option<Geometry>> {
        let heads = 0..self.table.heads();
        heads.map(|head| self.table.geometry(head)).collect()
    }

    /// Publishes what heads show that showed something else before.
    fn show_changed(&mut self, before: &[Option<Geometry>]) {
        let after = self.geometries();
        for (head, (before, after)) in before.iter().zip(after).enumerate() {
            if *before != after {
                if let Some(late) = self.late.get_mut(head) {
                    *late = Rect::default();
                }
                if let Some(scanout) = self.scanouts.get(head) {
                    self.publish(scanout, after);
                }
            }
        }
    }

    fn publish(&self, scanout: &ScanoutPublisher, geometry: Option<Geometry>) {
        match (&self.vram, geometry) {
            (Some(vram), Some(geometry)) => scanout.publish(Arc::clone(vram.file()), geometry),
            _ => scanout.blank(),
        }
    }

    /// Publishes what every head shows, and its cursor.
    pub(super) fn show(&self) {
        for ((head, scanout), geometry) in (0..).zip(&self.scanouts).zip(self.geometries()) {
            self.publish(scanout, geometry);
            if let Some(late) = self.late.get(head as usize).filter(|late| !late.is_empty())
                && let Some(shown) = self.table.shown(head)
            {
                scanout.drawn_late(within(late.intersection(shown.rect), shown.rect));
            }
            self.show_cursor(head, scanout);
        }
    }

    pub(super) fn display(&self) -> MutexGuard<'_, Display> {
        self.display.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edid(&self, chain: &mut Chain<'_>) -> Answered {
        let body: [u8; 8] = read(chain)?;
        let head = Reader(&body).u32();
        if head >= self.table.heads() {
            return Err(Answer::InvalidParameter.into());
        }
        let edid = self.display().edid(&self.model, head);
        Ok((Answer::Edid, edid.ok_or(Answer::InvalidParameter)?))
    }
}

/// The fields of a command.
pub(super) fn read<const N: usize>(chain: &mut Chain<'_>) -> Result<[u8; N], Failure> {
    let mut body = [0; N];
    chain.read(&mut body)?;
    Ok(body)
}
