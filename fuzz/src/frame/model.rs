//! The obvious way to cut a stream into messages: look at all of it again each time.

use vfu::socket::SCM_MAX_FD;
use vfu::wire::Header;

/// One whole message.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
    pub(super) fds: usize,
}

/// Why there is no next message.
#[derive(Debug)]
pub(super) enum Broken {
    /// One that no message has, in this header.
    Size(Header),
    TooManyFds,
}

/// What was sent and not yet cut off.
pub(super) struct Model {
    max_frame: usize,
    sent: Vec<u8>,
    /// Descriptors, by where the message begins that each belongs to.
    fds: Vec<usize>,
    start: usize,
    has_too_many_fds: bool,
}

impl Model {
    pub(super) fn new(max_frame: usize) -> Self {
        Self {
            max_frame,
            sent: Vec::new(),
            fds: Vec::new(),
            start: 0,
            has_too_many_fds: false,
        }
    }

    /// Descriptors belong to the last message that begins in the bytes that they came with, or
    /// before.
    pub(super) fn sent(&mut self, piece: &[u8], fds: usize) {
        self.sent.extend(piece);
        let mut at = self.start;
        while let Some(header) = self.header_at(at)
            && self.is_possible(&header)
            && at + (header.size as usize) < self.sent.len()
        {
            at += header.size as usize;
        }
        self.fds.extend(vec![at; fds]);
        let own = self.fds.iter().filter(|of| **of == at).count();
        self.has_too_many_fds = own > SCM_MAX_FD;
    }

    /// The error that decoding has to end in.
    pub(super) fn broken(&self) -> Option<Broken> {
        if self.has_too_many_fds {
            return Some(Broken::TooManyFds);
        }
        let header = self.header_at(self.start);
        let impossible = header.filter(|header| !self.is_possible(header));
        impossible.map(Broken::Size)
    }

    /// Takes the next message.
    pub(super) fn cut(&mut self) -> Result<Option<Cut>, Broken> {
        let Some(header) = self.header_at(self.start) else {
            return Ok(None);
        };
        if !self.is_possible(&header) {
            return Err(Broken::Size(header));
        }
        let end = self.start + header.size as usize;
        let Some(payload) = self.sent.get(self.start + Header::LEN..end) else {
            return Ok(None);
        };
        let is_own = |of: &mut usize| *of <= self.start;
        let cut = Cut {
            header,
            payload: payload.to_vec(),
            fds: self.fds.extract_if(.., is_own).count(),
        };
        self.start = end;
        Ok(Some(cut))
    }

    pub(super) fn is_mid_message(&self) -> bool {
        self.start < self.sent.len()
    }

    fn header_at(&self, at: usize) -> Option<Header> {
        Header::parse(self.sent.get(at..at + Header::LEN)?).ok()
    }

    fn is_possible(&self, header: &Header) -> bool {
        (Header::LEN..=self.max_frame).contains(&(header.size as usize))
    }
}
