//! VERSION: what the two ends agree on, and how it is kept for another process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::twin::Twin;
use super::{FRAME_OVERHEAD, MIN_FRAME_DATA, Reply, Server, ServerError, has_twin, refuse_frame};
use crate::Errno;
use crate::wire::header::MessageType;
use crate::wire::version::Version;
use crate::wire::{Command, Malformed};

impl Server {
    /// Goes on where another process stopped that had noted an agreement, if it had one yet.
    pub fn resume(&mut self, agreement: &[u8], twin: Option<OwnedFd>) -> Result<(), ServerError> {
        let Some((max, answer)) = agreement.split_first_chunk() else {
            return Ok(());
        };
        self.client_max_data_xfer_size = u64::from_le_bytes(*max);
        let answer = Version::parse(answer)?;
        self.agree_on(answer);
        self.twin = twin.map(Twin::new);
        Ok(())
    }

    /// Takes VERSION and answers it. `None` if it is not here yet.
    pub fn agree(&mut self) -> Result<Option<&Version>, ServerError> {
        self.agree_noting(|_, _| ())
    }

    /// As [`Self::agree`]. Before the answer leaves, `note` is told what [`Self::resume`] takes in
    /// a process that goes on after it has.
    pub fn agree_noting(
        &mut self,
        note: impl FnOnce(&[u8], Option<BorrowedFd<'_>>),
    ) -> Result<Option<&Version>, ServerError> {
        if self.agreed.is_some() {
            return Ok(self.agreed.as_ref());
        }
        let frame = match self.receiver.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(None),
            Err(broken) => return Err(refuse_frame(&self.sender, broken)),
        };
        let header = frame.header;
        let reply = Reply {
            sender: &self.sender,
            out: &mut self.out,
            header,
            position: frame.position,
        };
        let is_version = header.command == Command::Version as u16
            && header.message_type() == MessageType::Command;
        if !is_version {
            reply.error(Errno::INVAL)?;
            return Err(ServerError::NotVersion(header.command));
        }
        let answer = match frame.fds.len() {
            0 => Version::parse(frame.payload).and_then(|offer| {
                self.client_max_data_xfer_size = offer.capabilities.max_data_xfer_size();
                offer.answer(&self.able)
            }),
            fds => Err(Malformed::Fds(fds, "none").into()),
        };
        match answer {
            Ok(answer) => {
                let twin = has_twin(&answer).then(Twin::pair).transpose();
                let (twin, theirs) = twin.map_err(ServerError::Twin)?.unzip();
                let fds: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
                let ours = twin.as_ref().map(|twin| twin.as_fd());
                note(&agreement(self.client_max_data_xfer_size, &answer), ours);
                reply.with_fds(&fds, |out| answer.emit(out))?;
                self.twin = twin;
                self.agree_on(answer);
                Ok(self.agreed.as_ref())
            }
            Err(error) => {
                reply.error(error.errno())?;
                Err(error.into())
            }
        }
    }

    fn agree_on(&mut self, answer: Version) {
        let data = answer.capabilities.max_data_xfer_size();
        self.max_data_xfer_size = usize::try_from(data).unwrap_or(usize::MAX);
        let frame_data = self.max_data_xfer_size.max(MIN_FRAME_DATA);
        self.receiver
            .set_max_frame(frame_data.saturating_add(FRAME_OVERHEAD));
        self.agreed = Some(answer);
    }
}

/// What was agreed on, in bytes.
fn agreement(client_max_data_xfer_size: u64, answer: &Version) -> Vec<u8> {
    let mut bytes = client_max_data_xfer_size.to_le_bytes().to_vec();
    answer.emit(&mut bytes);
    bytes
}
