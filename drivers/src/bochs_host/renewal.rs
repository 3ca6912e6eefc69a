//! Video memory for one client after the other.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mdev::region::{Access, RegionIndex};

use super::aperture::Aperture;
use super::device::BochsSlice;
use super::mirror::Parts;
use super::place::Noted;
use super::slices::Slice;
use super::vram::Vram;

/// Name of the memory file, as `/proc/PID/maps` shows it.
const VRAM_NAME: &str = "vgpud-bochs-slice";

/// How often, and how far apart, it is looked whether a client that closes has let go of its slice: of
/// what a process has open, its socket may be closed first.
const LOOKS: u32 = 20;
const LOOKS_APART: Duration = Duration::from_millis(10);

impl BochsSlice {
    /// Takes memory for the next client, which is none if there is no slice.
    pub(super) fn set_slice(&mut self, slice: Option<Arc<Slice>>) -> io::Result<()> {
        self.slice = slice;
        if let Some(slice) = &self.slice {
            let parts = Parts {
                way: self.aperture.way(),
                seat: self.seat,
                slice: Arc::clone(slice),
                memory: self.keep.memory(VRAM_NAME, slice.len())?,
                screen: Arc::clone(&self.shared.screen),
                scanout: self.scanout.clone(),
            };
            let vram = Vram::new(self.aperture, parts)?;
            self.regions.set_access(RegionIndex::Bar0, vram.access());
            self.vram = Some(vram);
        }
        self.note(0);
        Ok(())
    }

    /// Notes where it is, and its turn on the screen, for a process that goes on.
    pub(super) fn note(&self, turn: u64) {
        let slice = self.slice.as_ref();
        self.place.set(Noted {
            start: slice.map_or(0, |slice| slice.start()),
            len: slice.map_or(0, |slice| slice.len()),
            turn,
        });
    }

    /// Clears the slice for the next client, or takes another if the last one may still reach it. If
    /// there is none to be had, the next client gets faults, and never the memory of the last one.
    pub(super) fn renew(&mut self) {
        self.shared.screen.give_up(self.seat);
        self.regions.set_access(RegionIndex::Bar0, Access::Trapped);
        self.vram = None;
        let slice = self.next_slice();
        if slice.is_none() {
            tracing::error!(
                "the last client still has this vGPU's slice, and no other is free: the next one gets no \
                 video memory"
            );
        }
        if let Err(error) = self.set_slice(slice) {
            tracing::error!(%error, "cannot allocate fresh video memory");
        }
    }

    fn next_slice(&mut self) -> Option<Arc<Slice>> {
        let len = self.display.model.vram.into();
        let Some(slice) = self.slice.take() else {
            return self.shared.slices.take(len).map(Arc::new);
        };
        if self.aperture == Aperture::Direct && slice.is_window_held() {
            if let Some(other) = self.shared.slices.take(len) {
                return Some(Arc::new(other));
            }
            for _ in 0..LOOKS {
                if !slice.is_window_held() {
                    break;
                }
                thread::sleep(LOOKS_APART);
            }
            if slice.is_window_held() {
                return None;
            }
        }
        slice.clear();
        Some(slice)
    }
}
