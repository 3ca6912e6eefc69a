//! What guest memory is, spelled out page by page.

use super::{FILE_PAGES, PAGES};
use crate::dma::tests::*;

/// A page of the address space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    /// The pages that were mapped with it.
    mapping: (u64, u64),
    flags: DmaFlags,
    file_page: Option<u64>,
}

/// What guest memory is, spelled out.
pub(super) struct Model {
    pub(super) pages: [Option<Page>; PAGES as usize],
    pub(super) file: Vec<u8>,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            pages: [None; PAGES as usize],
            file: vec![0; (FILE_PAGES * PAGE) as usize],
        }
    }

    pub(super) fn map(
        &mut self,
        pages: &std::ops::Range<u64>,
        flags: DmaFlags,
        file: Option<u64>,
    ) -> Result<(), Errno> {
        let len = pages.end - pages.start;
        if pages.is_empty() || flags.is_empty() {
            return Err(Errno::INVAL);
        }
        if pages
            .clone()
            .any(|page| self.pages[page as usize].is_some())
        {
            return Err(Errno::EXIST);
        }
        if file.is_some_and(|first| first + len > FILE_PAGES) {
            return Err(Errno::INVAL);
        }
        for page in pages.clone() {
            self.pages[page as usize] = Some(Page {
                mapping: (pages.start, pages.end),
                flags,
                file_page: file.map(|first| first + page - pages.start),
            });
        }
        Ok(())
    }

    pub(super) fn unmap(&mut self, pages: &std::ops::Range<u64>) -> Result<(), Errno> {
        if pages.is_empty() {
            return Err(Errno::INVAL);
        }
        let first = self.pages[pages.start as usize];
        if first.map(|page| page.mapping) != Some((pages.start, pages.end)) {
            return Err(Errno::NOENT);
        }
        self.pages[pages.start as usize..pages.end as usize].fill(None);
        Ok(())
    }

    /// Where in the file a byte is; or the errno, where there is no such thing.
    fn place(&self, at: u64, needs: DmaFlags, no_file: Errno) -> Result<usize, Errno> {
        let page = self.pages.get((at / PAGE) as usize).copied().flatten();
        let page = page.ok_or(Errno::FAULT)?;
        if !page.flags.contains(needs) {
            return Err(Errno::ACCESS);
        }
        let file_page = page.file_page.ok_or(no_file)?;
        Ok((file_page * PAGE + at % PAGE) as usize)
    }

    pub(super) fn places(
        &self,
        at: u64,
        len: usize,
        needs: DmaFlags,
        no_file: Errno,
    ) -> Result<Vec<usize>, Errno> {
        (at..at + len as u64)
            .map(|at| self.place(at, needs, no_file))
            .collect()
    }

    pub(super) fn bytes(&self, places: &[usize]) -> Vec<u8> {
        places.iter().map(|at| self.file[*at]).collect()
    }

    /// Nothing is written if anything is not allowed; memory without a file is found out on the
    /// way, since there is nobody to ask.
    pub(super) fn write(&mut self, at: u64, data: &[u8]) -> Result<(), Errno> {
        for at in at..at + data.len() as u64 {
            match self.place(at, DmaFlags::WRITE, Errno::NODEV) {
                Ok(_) | Err(Errno::NODEV) => {}
                Err(errno) => return Err(errno),
            }
        }
        for (at, byte) in (at..).zip(data) {
            let place = self.place(at, DmaFlags::WRITE, Errno::NODEV)?;
            self.file[place] = *byte;
        }
        Ok(())
    }

    pub(super) fn mappings(&self) -> usize {
        let starts = (0..PAGES)
            .zip(&self.pages)
            .filter(|(at, page)| page.as_ref().is_some_and(|page| page.mapping.0 == *at));
        starts.count()
    }
}
