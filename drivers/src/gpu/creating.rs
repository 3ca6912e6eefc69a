//! Commands that make resources, and say what backs them.

use virtio::Chain;

use super::adapter::{Adapter, Answered, Failure, read};
use super::change::Change;
use super::protocol::{Answer, BLOB_FLAGS, BLOB_MEM_GUEST, Reader};
use super::resources::{Backing, Entry, MAX_ENTRIES, Picture};

/// Bytes of an entry of a backing, as the driver writes it.
const ENTRY: usize = 16;

/// Bits of a UUID that say that it is random (RFC 9562, section 5.4), by their byte: those that are
/// kept, and those that are set.
const RANDOM_UUID: [(usize, u8, u8); 2] = [(6, 0x0f, 0x40), (8, 0x3f, 0x80)];

impl Adapter {
    /// The number of a resource that there is.
    pub(super) fn known(&self, chain: &mut Chain<'_>) -> Result<u32, Failure> {
        let body: [u8; 8] = read(chain)?;
        let id = Reader(&body).u32();
        match self.table.get(id) {
            Some(_) => Ok(id),
            None => Err(Answer::InvalidResource.into()),
        }
    }

    /// `VIRTIO_GPU_CMD_RESOURCE_CREATE_2D`.
    pub(super) fn create(&self, chain: &mut Chain<'_>) -> Result<Change, Failure> {
        let body: [u8; 16] = read(chain)?;
        let mut fields = Reader(&body);
        let (id, format) = (fields.u32(), fields.u32());
        let (width, height) = (fields.u32(), fields.u32());
        if id == 0 || self.table.get(id).is_some() {
            return Err(Answer::InvalidResource.into());
        }
        if !Picture::is_possible(format, width, height) {
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

    /// `VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB`, where it lies in guest memory: there is no other kind
    /// without three dimensions.
    pub(super) fn create_blob(&self, chain: &mut Chain<'_>) -> Result<Change, Failure> {
        let body: [u8; 32] = read(chain)?;
        let mut fields = Reader(&body);
        let (id, memory) = (fields.u32(), fields.u32());
        let (flags, count) = (fields.u32(), fields.u32());
        // What lies on the host's side would be found by it.
        let _blob_id = fields.u64();
        let size = fields.u64();
        if !self.has_blobs {
            return Err(Answer::Unspecified.into());
        }
        if id == 0 || self.table.get(id).is_some() {
            return Err(Answer::InvalidResource.into());
        }
        if memory != BLOB_MEM_GUEST || flags & !BLOB_FLAGS != 0 || size == 0 {
            return Err(Answer::InvalidParameter.into());
        }
        if !self.table.has_number_free() {
            return Err(Answer::OutOfMemory.into());
        }
        let entries = self.entries(count, chain)?;
        let len: u64 = entries.iter().map(|entry| u64::from(entry.len)).sum();
        if !entries.is_empty() && len < size {
            return Err(Answer::InvalidParameter.into());
        }
        Ok(Change::CreateBlob { id, size, entries })
    }

    /// `VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING`.
    pub(super) fn attach(&self, chain: &mut Chain<'_>) -> Result<Change, Failure> {
        let body: [u8; 8] = read(chain)?;
        let mut fields = Reader(&body);
        let (id, count) = (fields.u32(), fields.u32());
        let resource = self.table.get(id).ok_or(Answer::InvalidResource)?;
        if resource.backing.is_some() {
            return Err(Answer::Unspecified.into());
        }
        let entries = self.entries(count, chain)?;
        Ok(Change::Attach { id, entries })
    }

    /// `VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING`.
    pub(super) fn detach(&self, chain: &mut Chain<'_>) -> Result<Change, Failure> {
        let id = self.known(chain)?;
        let resource = self.table.get(id).ok_or(Answer::InvalidResource)?;
        match &resource.backing {
            Some(_) => Ok(Change::Detach { id }),
            None => Err(Answer::Unspecified.into()),
        }
    }

    /// Parts of guest memory, as they follow a command.
    fn entries(&self, count: u32, chain: &mut Chain<'_>) -> Result<Vec<Entry>, Failure> {
        if count > MAX_ENTRIES {
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
        Ok(entries.collect())
    }

    /// `VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID`: the same one however often it is asked for.
    pub(super) fn assign_uuid(&mut self, position: u64, chain: &mut Chain<'_>) -> Answered {
        let id = self.known(chain)?;
        let known = self.table.get(id).and_then(|resource| resource.uuid);
        if let Some(uuid) = known {
            return Ok((Answer::ResourceUuid, uuid.to_vec()));
        }
        let uuid = random_uuid()?;
        self.change(Some(position), &Change::AssignUuid { id, uuid })?;
        Ok((Answer::ResourceUuid, uuid.to_vec()))
    }
}

impl Backing {
    /// Whether all of a part of it is there.
    pub(super) fn holds(&self, offset: u64, len: u64) -> bool {
        let end = offset.checked_add(len);
        end.is_some_and(|end| end <= self.len())
    }
}

fn random_uuid() -> Result<[u8; 16], Answer> {
    let mut uuid = [0; 16];
    let filled = rustix::rand::getrandom(&mut uuid, rustix::rand::GetRandomFlags::empty());
    if filled != Ok(uuid.len()) {
        return Err(Answer::OutOfMemory);
    }
    for (at, kept, set) in RANDOM_UUID {
        uuid[at] = uuid[at] & kept | set;
    }
    Ok(uuid)
}
