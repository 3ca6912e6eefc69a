//! Commands of the cursor's queue.

use mdev::scanout::ScanoutPublisher;
use virtio::{Chain, ChainError};

use super::adapter::{Adapter, Answered, DONE, Failure, read};
use super::change::Change;
use super::cursors::{IMAGE, Look, SIDE};
use super::protocol::{Answer, Reader, command};
use super::resources::Content;

/// The format of pixels in a blob: `VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM`, as the driver says nothing else.
const BLOB_FORMAT: u32 = 1;

impl Adapter {
    /// Carries out a command of the cursor's queue. It may be done twice: that changes nothing more.
    pub(super) fn point(&mut self, number: u32, chain: &mut Chain<'_>) -> Answered {
        if !matches!(number, command::UPDATE_CURSOR | command::MOVE_CURSOR) {
            return Err(Answer::Unspecified.into());
        }
        // `struct virtio_gpu_cursor_pos`
        let body: [u8; 16] = read(chain)?;
        let mut fields = Reader(&body);
        let (head, x, y) = (fields.u32(), fields.u32(), fields.u32());
        if head >= self.table.heads() {
            return Err(Answer::InvalidScanout.into());
        }
        if number == command::MOVE_CURSOR {
            self.change(None, &Change::MoveCursor { head, x, y })?;
            if let Some(scanout) = self.scanouts.get(head as usize) {
                scanout.move_cursor(x.cast_signed(), y.cast_signed());
            }
            return DONE;
        }
        let body: [u8; 16] = read(chain)?;
        let mut fields = Reader(&body);
        let (id, hot_x, hot_y) = (fields.u32(), fields.u32(), fields.u32());
        let look = match id {
            0 => None,
            id => Some(self.take_look(head, id, [hot_x, hot_y], chain)?),
        };
        self.change(None, &Change::Cursor { head, look, x, y })?;
        if let Some(scanout) = self.scanouts.get(head as usize) {
            self.show_cursor(head, scanout);
        }
        DONE
    }

    /// Takes the image of a cursor out of its resource.
    fn take_look(
        &self,
        head: u32,
        id: u32,
        hot: [u32; 2],
        chain: &Chain<'_>,
    ) -> Result<Look, Failure> {
        let pointer = self.table.pointer(head).ok_or(Answer::InvalidScanout)?;
        let resource = self.table.get(id).ok_or(Answer::InvalidResource)?;
        let mut pixels = vec![0; IMAGE];
        let format = match resource.content {
            Content::Picture(picture) if (picture.width, picture.height) == (SIDE, SIDE) => {
                let vram = self.vram.as_ref().ok_or(Answer::OutOfMemory)?;
                let read = vram.memory().read(picture.at, &mut pixels);
                read.map_err(|_| Answer::Unspecified)?;
                picture.format
            }
            Content::Blob(size) if size >= IMAGE as u64 => {
                let backing = resource.backing.as_ref();
                let backing = backing.filter(|backing| backing.holds(0, IMAGE as u64));
                let read = backing
                    .ok_or(Answer::Unspecified)?
                    .read(chain.memory(), 0, &mut pixels);
                read.map_err(ChainError::from)?;
                BLOB_FORMAT
            }
            _ => return Err(Answer::InvalidParameter.into()),
        };
        // A driver that points beside its image points at the edge.
        let [hot_x, hot_y] = hot.map(|at| at.min(SIDE - 1));
        let look = Look {
            format,
            hot_x,
            hot_y,
            slot: pointer.next_slot(),
        };
        let written = self.cursors.write(head as usize, &look, &pixels);
        written.map_err(|_| Answer::OutOfMemory)?;
        Ok(look)
    }

    /// Publishes the cursor of a head.
    pub(super) fn show_cursor(&self, head: u32, scanout: &ScanoutPublisher) {
        let pointer = self.table.pointer(head).unwrap_or_default();
        scanout.set_cursor(self.cursors.shown(head as usize, &pointer));
    }
}
