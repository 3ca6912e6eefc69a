//! Commands that say what a head shows, and bring pixels there.
//!
//! What a head shows of a picture in video memory is shown where it lies. A blob lies in guest memory,
//! which nobody is given who may see the picture: what is flushed of it is copied to video memory,
//! when somebody looks ([`super::late`]).

use mdev::dma::GuestMemory;
use mdev::scanout::Rect;
use virtio::{Chain, ChainError};

use super::adapter::{Adapter, Answered, DONE, Failure, read};
use super::change::Change;
use super::late::within;
use super::protocol::{Answer, Reader};
use super::resources::{Backing, Framebuffer, Picture, Resource};
use super::table::{Shown, Source};
use super::vram::Vram;

/// Lines to be copied: from where in a backing to where in video memory, each so many bytes after the
/// one before.
pub(super) struct Lines {
    pub(super) from: u64,
    pub(super) from_stride: u64,
    pub(super) to: u64,
    pub(super) to_stride: u64,
    pub(super) count: u64,
    /// Bytes of each.
    pub(super) len: u64,
}

impl Lines {
    /// What it reaches to in the backing, from where it begins.
    pub(super) fn reach(&self) -> u64 {
        self.from_stride * (self.count - 1) + self.len
    }

    pub(super) fn copy(
        mut self,
        backing: &Backing,
        memory: &GuestMemory,
        vram: &mut Vram,
    ) -> Result<(), Failure> {
        // Lines that follow one another on both sides are one piece.
        if self.from_stride == self.len && self.to_stride == self.len {
            self.len *= self.count;
            self.count = 1;
        }
        for line in 0..self.count {
            let bytes = vram.bytes(self.to + line * self.to_stride, self.len as usize);
            let read = backing.read(memory, self.from + line * self.from_stride, bytes);
            read.map_err(ChainError::from)?;
        }
        Ok(())
    }
}

impl Adapter {
    /// `VIRTIO_GPU_CMD_SET_SCANOUT`.
    pub(super) fn set_scanout(&self, chain: &mut Chain<'_>) -> Result<Change, Failure> {
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
                let resource = self.table.get(id).ok_or(Answer::InvalidResource)?;
                picture_with(resource, &rect)?;
                rect
            }
        };
        Ok(Change::Scanout { head, id, rect })
    }

    /// `VIRTIO_GPU_CMD_SET_SCANOUT_BLOB`.
    pub(super) fn set_scanout_blob(&mut self, position: u64, chain: &mut Chain<'_>) -> Answered {
        let body: [u8; 72] = read(chain)?;
        let mut fields = Reader(&body);
        let rect = fields.rect();
        let (head, id) = (fields.u32(), fields.u32());
        let (width, height) = (fields.u32(), fields.u32());
        let (format, _padding) = (fields.u32(), fields.u32());
        // Of each plane; all formats have one.
        let [stride, _, _, _] = [(); 4].map(|()| fields.u32());
        let offset = fields.u32();
        if !self.has_blobs {
            return Err(Answer::Unspecified.into());
        }
        if head >= self.table.heads() {
            return Err(Answer::InvalidScanout.into());
        }
        if id == 0 {
            let rect = Rect::default();
            self.change(Some(position), &Change::Scanout { head, id, rect })?;
            return DONE;
        }
        let resource = self.table.get(id).ok_or(Answer::InvalidResource)?;
        let framebuffer = Framebuffer {
            format,
            width,
            height,
            stride,
            offset,
        };
        let lies = resource
            .blob()
            .is_some_and(|size| framebuffer.is_within(size));
        if !lies || !rect.is_within(width, height) {
            return Err(Answer::InvalidParameter.into());
        }
        let place = self.table.find_copy_place(head, &rect);
        let at = place
            .filter(|_| self.vram.is_some())
            .ok_or(Answer::OutOfMemory)?;
        let before = self.table.geometry(head);
        let change = Change::ScanoutBlob {
            head,
            id,
            rect,
            framebuffer,
            at,
        };
        self.change(Some(position), &change)?;
        self.set_stale(head, true);
        if self.table.geometry(head) != before {
            // What is flushed next may be less than all of it, or late. If the guest has nothing there
            // yet, it is black until then.
            let _ = self.refresh(head, rect, chain.memory());
        }
        DONE
    }

    /// `VIRTIO_GPU_CMD_RESOURCE_FLUSH`.
    pub(super) fn flush(&mut self, chain: &mut Chain<'_>) -> Answered {
        let body: [u8; 24] = read(chain)?;
        let mut fields = Reader(&body);
        let rect = fields.rect();
        let id = fields.u32();
        let resource = self.table.get(id).ok_or(Answer::InvalidResource)?;
        if resource.blob().is_none() {
            picture_with(resource, &rect)?;
        }
        for head in 0..self.table.heads() {
            let shown = self.table.shown(head).filter(|shown| shown.id == id);
            if let Some(shown) = shown {
                self.flush_to(head, &shown, rect, chain)?;
            }
        }
        DONE
    }

    /// Brings what was drawn of a resource to a head that shows it.
    fn flush_to(
        &mut self,
        head: u32,
        shown: &Shown,
        rect: Rect,
        chain: &Chain<'_>,
    ) -> Result<(), Failure> {
        if let Source::Blob(framebuffer, _) = shown.source {
            return match rect.is_within(framebuffer.width, framebuffer.height) {
                true => self.flush_blob(head, shown, rect, chain.memory()),
                false => Err(Answer::InvalidParameter.into()),
            };
        }
        let drawn = rect.intersection(shown.rect);
        if let Some(scanout) = self.scanouts.get(head as usize)
            && !drawn.is_empty()
        {
            scanout.drawn(within(drawn, shown.rect));
        }
        Ok(())
    }

    /// `VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D`: copies part of a resource out of guest memory. It may end
    /// half-way if that memory is not there.
    pub(super) fn transfer(&mut self, chain: &mut Chain<'_>) -> Answered {
        let body: [u8; 32] = read(chain)?;
        let mut fields = Reader(&body);
        let rect = fields.rect();
        let (from, id) = (fields.u64(), fields.u32());
        let resource = self.table.get(id).ok_or(Answer::InvalidResource)?;
        if resource.blob().is_some() {
            // The driver of Linux does so before it flushes. The host sees the blob as it lies.
            return DONE;
        }
        let picture = picture_with(resource, &rect)?;
        let backing = resource.backing.as_ref().ok_or(Answer::Unspecified)?;
        let stride = u64::from(picture.stride());
        let lines = Lines {
            from,
            from_stride: stride,
            to: picture.at + picture.offset(&rect),
            to_stride: stride,
            count: rect.height.into(),
            len: Picture::len(rect.width, 1),
        };
        if !backing.holds(from, lines.reach()) {
            return Err(Answer::InvalidParameter.into());
        }
        let vram = self.vram.as_mut().ok_or(Answer::OutOfMemory)?;
        lines.copy(backing, chain.memory(), vram)?;
        DONE
    }
}

/// The picture of a resource, if it has one with this part.
fn picture_with<'a>(resource: &'a Resource, rect: &Rect) -> Result<&'a Picture, Answer> {
    let picture = resource.picture();
    picture
        .filter(|picture| rect.is_within(picture.width, picture.height))
        .ok_or(Answer::InvalidParameter)
}
