//! Commands carried out, on the thread that serves the queues.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mdev::scanout::ScanoutPublisher;
use virtio::{Cancelled, Chain, ChainError};

use super::change::Change;
use super::journal::Journal;
use super::model::Model;
use super::protocol::{Answer, EDID_ROOM, HEADER, Header, MAX_HEADS, Reader, Rect, command};
use super::resources::{Entry, MAX_ENTRIES, MAX_SIDE, Resource, pixel_format};
use super::table::Table;
use super::vram::Vram;
use crate::monitor::{Mode, edid};

/// The queues, by their number.
const CONTROL: u16 = 0;

/// Bytes of an entry of a backing, as the driver writes it.
const ENTRY: usize = 16;

/// What the operator has set, and what the driver is to be told of it. For both threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Display {
    pub(super) mode: Mode,
    /// What the driver has not heard of.
    pub(super) events: u32,
}

/// The state behind the queues.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) model: Model,
    pub(super) table: Table,
    /// `None` only if the kernel had none to give when a client left.
    pub(super) vram: Option<Vram>,
    pub(super) journal: Option<Journal>,
    /// The position of the last command that changed the table: it is not carried out twice.
    pub(super) applied: Option<u64>,
    pub(super) scanout: ScanoutPublisher,
    pub(super) display: Arc<Mutex<Display>>,
}

/// Why a command has no more of an answer.
enum Failure {
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
type Answered = Result<(Answer, Vec<u8>), Failure>;

const DONE: Answered = Ok((Answer::Ok, Vec::new()));

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
                (header, self.carry_out(queue, position, header, chain))
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

    fn carry_out(
        &mut self,
        queue: u16,
        position: u64,
        header: Header,
        chain: &mut Chain<'_>,
    ) -> Answered {
        if queue != CONTROL {
            return match header.command {
                command::UPDATE_CURSOR | command::MOVE_CURSOR => DONE,
                _ => Err(Answer::Unspecified.into()),
            };
        }
        if self.applied == Some(position) {
            return DONE;
        }
        let change = match header.command {
            command::GET_DISPLAY_INFO => return Ok(self.display_info()),
            command::GET_EDID => return self.edid(chain),
            command::TRANSFER_TO_HOST_2D => return self.transfer(chain),
            command::RESOURCE_FLUSH => return self.flush(chain),
            command::RESOURCE_CREATE_2D => self.create(chain)?,
            command::RESOURCE_UNREF => Change::Unref {
                id: self.known(chain)?,
            },
            command::RESOURCE_ATTACH_BACKING => self.attach(chain)?,
            command::RESOURCE_DETACH_BACKING => {
                let id = self.known(chain)?;
                if self.table.get(id).is_none_or(|it| it.backing.is_none()) {
                    return Err(Answer::Unspecified.into());
                }
                Change::Detach { id }
            }
            command::SET_SCANOUT => self.set_scanout(chain)?,
            _ => return Err(Answer::Unspecified.into()),
        };
        self.change(position, &change)
    }

    /// Makes a change, and notes it first where it outlives the process.
    fn change(&mut self, position: u64, change: &Change) -> Answered {
        if let Some(journal) = &mut self.journal {
            let noted = journal.append(position, change)
                || (journal.rewrite(&self.table.changes()) && journal.append(position, change));
            if !noted {
                return Err(Answer::OutOfMemory.into());
            }
        }
        self.applied = Some(position);
        let before = self.table.geometry(0);
        match self.table.apply(change) {
            Ok(Some(freed)) => {
                self.show_if_changed(before);
                if let Some(vram) = &mut self.vram {
                    vram.clear(freed.at, freed.len);
                }
            }
            Ok(None) => self.show_if_changed(before),
            // It was found possible.
            Err(error) => tracing::error!("a change was not made: {error}"),
        }
        DONE
    }

    fn show_if_changed(&self, before: Option<mdev::scanout::Geometry>) {
        if self.table.geometry(0) != before {
            self.show();
        }
    }

    /// Publishes what the head shows.
    pub(super) fn show(&self) {
        match (&self.vram, self.table.geometry(0)) {
            (Some(vram), Some(geometry)) => {
                self.scanout.publish(Arc::clone(vram.file()), geometry);
            }
            _ => self.scanout.blank(),
        }
    }

    fn display(&self) -> MutexGuard<'_, Display> {
        self.display.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn display_info(&self) -> (Answer, Vec<u8>) {
        const ENABLED: u32 = 1;
        let mode = self.display().mode;
        let mut body = Vec::with_capacity(24 * MAX_HEADS);
        for head in 0..MAX_HEADS as u32 {
            let words = match head < self.table.heads() {
                true => [0, 0, mode.width.into(), mode.height.into(), ENABLED, 0],
                false => [0; 6],
            };
            words
                .iter()
                .for_each(|word| body.extend(word.to_le_bytes()));
        }
        (Answer::DisplayInfo, body)
    }

    fn edid(&self, chain: &mut Chain<'_>) -> Answered {
        let body: [u8; 8] = read(chain)?;
        if Reader(&body).u32() >= self.table.heads() {
            return Err(Answer::InvalidParameter.into());
        }
        let block = edid::block(self.display().mode, self.model.largest);
        let mut answer = (block.len() as u32).to_le_bytes().to_vec();
        answer.extend([0; 4]);
        answer.extend(&block);
        answer.resize(8 + EDID_ROOM, 0);
        Ok((Answer::Edid, answer))
    }

    /// The number of a resource that there is.
    fn known(&self, chain: &mut Chain<'_>) -> Result<u32, Failure> {
        let body: [u8; 8] = read(chain)?;
        let id = Reader(&body).u32();
        match self.table.get(id) {
            Some(_) => Ok(id),
            None => Err(Answer::InvalidResource.into()),
        }
    }

    fn create(&self, chain: &mut Chain<'_>) -> Result<Change, Failure> {
        let body: [u8; 16] = read(chain)?;
        let mut fields = Reader(&body);
        let (id, format) = (fields.u32(), fields.u32());
        let (width, height) = (fields.u32(), fields.u32());
        if id == 0 || self.table.get(id).is_some() {
            return Err(Answer::InvalidResource.into());
        }
        let sides = 1..=MAX_SIDE;
        if pixel_format(format).is_none() || !sides.contains(&width) || !sides.contains(&height) {
            return Err(Answer::InvalidParameter.into());
        }
        let place = self.table.find_place(width, height);
        let at = place
            .filter(|_| self.vram.is_some())
            .ok_or(Answer::OutOfMemory)?;
        Ok(Change::Create {
            id,
            format,
            width,
            height,
            at,
        })
    }

    fn attach(&self, chain: &mut Chain<'_>) -> Result<Change, Failure> {
        let body: [u8; 8] = read(chain)?;
        let mut fields = Reader(&body);
        let (id, count) = (fields.u32(), fields.u32());
        let resource = self.table.get(id).ok_or(Answer::InvalidResource)?;
        if resource.backing.is_some() || count > MAX_ENTRIES {
            return Err(Answer::Unspecified.into());
        }
        let count = count as usize;
        if !self.table.has_room_for(count) {
            return Err(Answer::OutOfMemory.into());
        }
        if chain.readable() < (count * ENTRY) as u64 {
            return Err(Answer::Unspecified.into());
        }
        let mut bytes = vec![0; count * ENTRY];
        chain.read(&mut bytes)?;
        let entries = bytes.chunks_exact(ENTRY).map(|bytes| {
            let mut fields = Reader(bytes);
            Entry {
                at: fields.u64(),
                len: fields.u32(),
            }
        });
        let entries = entries.collect();
        Ok(Change::Attach { id, entries })
    }

    fn set_scanout(&self, chain: &mut Chain<'_>) -> Result<Change, Failure> {
        let body: [u8; 24] = read(chain)?;
        let mut fields = Reader(&body);
        let rect = fields.rect();
        let (head, id) = (fields.u32(), fields.u32());
        if head >= self.table.heads() {
            return Err(Answer::InvalidScanout.into());
        }
        let rect = match id {
            0 => Rect::default(),
            id => {
                within(&self.table, id, &rect)?;
                rect
            }
        };
        Ok(Change::Scanout { head, id, rect })
    }

    fn flush(&self, chain: &mut Chain<'_>) -> Answered {
        let body: [u8; 24] = read(chain)?;
        let mut fields = Reader(&body);
        let rect = fields.rect();
        within(&self.table, fields.u32(), &rect)?;
        // What is shown is read where it lies.
        DONE
    }

    /// Copies part of a resource out of guest memory. It may end half-way if that memory is not
    /// there.
    fn transfer(&mut self, chain: &mut Chain<'_>) -> Answered {
        let body: [u8; 32] = read(chain)?;
        let mut fields = Reader(&body);
        let rect = fields.rect();
        let (from, id) = (fields.u64(), fields.u32());
        let resource = within(&self.table, id, &rect)?;
        let backing = resource.backing.as_ref().ok_or(Answer::Unspecified)?;
        let stride = u64::from(resource.stride());
        let line = Resource::len(rect.width, 1);
        let whole = stride * u64::from(rect.height - 1) + line;
        let end = from.checked_add(whole);
        if end.is_none_or(|end| end > backing.len()) {
            return Err(Answer::InvalidParameter.into());
        }
        let to = resource.at + resource.offset(&rect);
        // Lines as wide as the resource are one piece.
        let (lines, len) = match line == stride {
            true => (1, whole),
            false => (u64::from(rect.height), line),
        };
        let vram = self.vram.as_mut().ok_or(Answer::OutOfMemory)?;
        for number in 0..lines {
            let offset = number * stride;
            let bytes = vram.bytes(to + offset, len as usize);
            backing
                .read(chain.memory(), from + offset, bytes)
                .map_err(ChainError::from)?;
        }
        DONE
    }
}

/// The fields of a command.
fn read<const N: usize>(chain: &mut Chain<'_>) -> Result<[u8; N], Failure> {
    let mut body = [0; N];
    chain.read(&mut body)?;
    Ok(body)
}

/// The resource, if it has this part.
fn within<'a>(table: &'a Table, id: u32, rect: &Rect) -> Result<&'a Resource, Failure> {
    let resource = table.get(id).ok_or(Answer::InvalidResource)?;
    match rect.is_within(resource.width, resource.height) {
        true => Ok(resource),
        false => Err(Answer::InvalidParameter.into()),
    }
}
