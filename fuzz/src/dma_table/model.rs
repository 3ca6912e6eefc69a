//! What the table and guest memory are, spelled out.

mod tracking;

use std::collections::BTreeSet;

use vfu::Errno;
use vfu::wire::dma::{DmaFlags, DmaMap, DmaUnmap};

use super::files::{FILE_LEN, Kind, SEALED_BYTE};

pub(super) const PAGE: u64 = 4096;

/// A mapping. Addresses are those of the first and of the last byte.
#[derive(Debug)]
struct Entry {
    first: u64,
    last: u64,
    flags: DmaFlags,
    file: Option<(Kind, u64)>,
    /// Pages that were written, by number.
    dirty: BTreeSet<u64>,
}

impl Entry {
    fn size(&self) -> u64 {
        (self.last - self.first).wrapping_add(1)
    }

    fn pages(&self) -> u64 {
        self.last / PAGE - self.first / PAGE + 1
    }

    /// Bytes of bits while writes are tracked.
    fn bit_bytes(&self) -> u64 {
        self.file.map_or(0, |_| bit_bytes(self.pages()))
    }
}

struct PinModel {
    first: u64,
    last: u64,
    write: bool,
}

pub(super) struct Model {
    max_mappings: usize,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    pins: Vec<PinModel>,
    /// Most bytes of bits, while writes are tracked.
    tracking: Option<u64>,
}

fn bit_bytes(pages: u64) -> u64 {
    pages.div_ceil(64) * 8
}

fn overlap(a: (u64, u64), b: (u64, u64)) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

impl Model {
    pub(super) fn new(max_mappings: usize) -> Self {
        Self {
            max_mappings,
            entries: Vec::new(),
            bytes: vec![0; FILE_LEN],
            pins: Vec::new(),
            tracking: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Address and size of one that is there.
    pub(super) fn mapping(&self, choice: usize) -> Option<(u64, u64)> {
        let entry = self.entries.get(choice % self.entries.len().max(1))?;
        Some((entry.first, entry.size()))
    }

    pub(super) fn map(&mut self, map: &DmaMap, kind: Option<Kind>) -> Result<(), Errno> {
        let offset = kind.map_or(0, |_| map.offset);
        check_pages(map.iova, map.size, offset)?;
        let (first, last) = (map.iova, map.iova + (map.size - 1));
        if map.flags.is_empty() {
            return Err(Errno::INVAL);
        }
        if self
            .entries
            .iter()
            .any(|it| overlap((it.first, it.last), (first, last)))
        {
            return Err(Errno::EXIST);
        }
        if self.entries.len() >= self.max_mappings {
            return Err(Errno::NOSPC);
        }
        let entry = Entry {
            first,
            last,
            flags: map.flags,
            file: kind.map(|kind| (kind, offset)),
            dirty: BTreeSet::new(),
        };
        if self
            .tracking
            .is_some_and(|max| self.bits_in_use() + u128::from(entry.bit_bytes()) > max.into())
        {
            return Err(Errno::NOSPC);
        }
        if let Some(kind) = kind {
            if let Some(errno) = kind.refusal(map.flags) {
                return Err(errno);
            }
            if offset + (map.size - 1) >= FILE_LEN as u64 {
                return Err(Errno::INVAL);
            }
        }
        self.entries.push(entry);
        Ok(())
    }

    fn bits_in_use(&self) -> u128 {
        self.entries
            .iter()
            .map(|it| u128::from(it.bit_bytes()))
            .sum()
    }

    /// How many mappings it takes away.
    pub(super) fn unmap(&mut self, unmap: &DmaUnmap) -> Result<usize, Errno> {
        let gone: Vec<_> = match *unmap {
            DmaUnmap::All => self.entries.iter().map(|it| (it.first, it.last)).collect(),
            DmaUnmap::One { iova, size } => {
                check_pages(iova, size, 0)?;
                let range = (iova, iova + (size - 1));
                let is_it = |it: &Entry| (it.first, it.last) == range;
                self.entries.iter().position(is_it).ok_or(Errno::NOENT)?;
                vec![range]
            }
        };
        for range in &gone {
            while let Some(place) = self
                .pins
                .iter()
                .position(|it| overlap((it.first, it.last), *range))
            {
                self.unpin(place);
            }
        }
        self.entries
            .retain(|it| !gone.contains(&(it.first, it.last)));
        Ok(gone.len())
    }

    fn entry(&self, address: u64) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|it| it.first <= address && address <= it.last)
    }

    pub(super) fn find(&self, address: u64) -> Option<u64> {
        self.entry(address).map(|it| it.first)
    }

    pub(super) fn lookup(&self, first: u64, last: u64) -> Option<u64> {
        self.entry(first)
            .filter(|it| last <= it.last)
            .map(|it| it.first)
    }

    /// Walks a range, mapping by mapping: how far each goes. An error where there is none, or it
    /// does not allow the access.
    fn pieces(&self, at: u64, len: u64, needs: DmaFlags) -> Result<Vec<(&Entry, u64, u64)>, Errno> {
        let last = at.checked_add(len - 1).ok_or(Errno::FAULT)?;
        let mut pieces = Vec::new();
        let mut next = Some(at);
        while let Some(address) = next.filter(|address| *address <= last) {
            let entry = self.entry(address).ok_or(Errno::FAULT)?;
            if !entry.flags.contains(needs) {
                return Err(Errno::ACCESS);
            }
            let end = last.min(entry.last);
            pieces.push((entry, address, end));
            next = end.checked_add(1);
        }
        Ok(pieces)
    }

    pub(super) fn read(&self, at: u64, len: u64) -> Result<Vec<u8>, Errno> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < len {
            let done = bytes.len() as u64;
            // What comes first decides.
            at.checked_add(len - 1).ok_or(Errno::FAULT)?;
            let pieces = self.pieces(at + done, 1, DmaFlags::READ)?;
            let (entry, first, _) = pieces[0];
            let last = entry.last.min(at + (len - 1));
            let (kind, offset) = entry.file.ok_or(Errno::NODEV)?;
            let place = (offset + (first - entry.first)) as usize;
            let piece_len = (last - first + 1) as usize;
            match kind {
                Kind::Sealed => bytes.extend(vec![SEALED_BYTE; piece_len]),
                _ => bytes.extend(&self.bytes[place..place + piece_len]),
            }
        }
        Ok(bytes)
    }

    /// Nothing is written if anything is not allowed; memory without a file is found out on the
    /// way, since there is nobody to ask.
    pub(super) fn write(&mut self, at: u64, data: &[u8]) -> Result<(), Errno> {
        if data.is_empty() {
            return Ok(());
        }
        let pieces = self.pieces(at, data.len() as u64, DmaFlags::WRITE)?;
        let pieces: Vec<_> = pieces
            .iter()
            .map(|(it, first, last)| (it.first, it.file, *first, *last))
            .collect();
        for (start, file, first, last) in pieces {
            let (_, offset) = file.ok_or(Errno::NODEV)?;
            let place = (offset + (first - start)) as usize;
            let piece = &data[(first - at) as usize..=(last - at) as usize];
            self.bytes[place..place + piece.len()].copy_from_slice(piece);
            self.mark(first, last);
        }
        Ok(())
    }

    fn mark(&mut self, first: u64, last: u64) {
        if self.tracking.is_none() {
            return;
        }
        for entry in self.entries.iter_mut().filter(|it| it.file.is_some()) {
            let (from, to) = (entry.first.max(first), entry.last.min(last));
            if from <= to {
                entry.dirty.extend(from / PAGE..=to / PAGE);
            }
        }
    }
}

fn check_pages(iova: u64, size: u64, offset: u64) -> Result<(), Errno> {
    for start in [iova, offset] {
        if start.checked_add(size.saturating_sub(1)).is_none() {
            return Err(Errno::OVERFLOW);
        }
    }
    if size == 0 || [iova, size, offset].iter().any(|it| it % PAGE != 0) {
        return Err(Errno::INVAL);
    }
    Ok(())
}
