//! Serving what has come, and noting between requests how things stand.

use vfu::server::Incoming;
use vfu::wire::Request;
use vfu::wire::feature::DeviceFeature;
use vfu::wire::migration::MigState;

use super::{Session, SessionError};
use crate::dma::messages::MessageLimits;

impl Session<'_> {
    /// Answers every request that is here whole. `true` if there was one, VERSION included.
    pub(super) fn serve_received(&mut self) -> Result<bool, SessionError> {
        let is_new = self.server.agreed().is_none();
        let mut served = is_new;
        if is_new {
            self.agree()?;
        }
        let mut is_noted = !is_new;
        loop {
            if self.resumed.is_some() && self.serve_old()? {
                (served, is_noted) = (true, false);
                continue;
            }
            let (server, waiter, mut handler) = self.parts();
            let Some(Incoming { request, reply }) = server.next_request()? else {
                break;
            };
            served = true;
            handler.around.metrics.requests.add(1);
            if matches!(
                request,
                Ok(Request::DeviceFeature(DeviceFeature::SetState(_)))
            ) {
                // What the guest wrote before belongs to the state that the device stops in.
                for number in waiter.take_rung(handler.mailbox)? {
                    handler.ring(number);
                }
            }
            handler.begin(reply.position().start);
            let is_access = request.as_ref().is_ok_and(is_access);
            match request {
                Ok(request) => handler.handle(request, reply)?,
                Err(malformed) => handler.refuse_malformed(reply, malformed)?,
            }
            is_noted = !is_access;
            if is_noted {
                self.note();
            }
        }
        if !is_noted {
            self.note();
        }
        Ok(served && self.server.agreed().is_some())
    }

    /// Takes VERSION, if it is here.
    pub(super) fn agree(&mut self) -> Result<(), SessionError> {
        let recorder = &mut self.recorder;
        let agreed = self.server.agree_noting(|agreement, twin| {
            if let Some(recorder) = recorder {
                recorder.agree(agreement, twin);
            }
        })?;
        if agreed.is_none() {
            return Ok(());
        }
        self.connect_messages(0);
        Ok(())
    }

    /// Whether the client can be asked for memory is seen by what it offers: QEMU names its
    /// mappings, and answers DMA_READ; Cloud Hypervisor does neither, and would take the request
    /// for a reply.
    pub(super) fn takes_messages(&self) -> bool {
        let agreed = self.server.agreed();
        agreed.is_some_and(|version| version.capabilities.max_dma_maps.is_some())
    }

    /// Has the client asked for memory, if it can be. `first_id` is none that another process has
    /// in use.
    pub(super) fn connect_messages(&mut self, first_id: u16) {
        if self.server.agreed().is_none() {
            return;
        }
        let takes_messages = self.takes_messages();
        let memory = &self.around.memory;
        if takes_messages {
            let limits = MessageLimits {
                max_data: self.server.client_max_data_xfer_size(),
                patience: self.around.limits.message,
                first_id,
            };
            let sender = self.server.sender().clone();
            memory.messages().connect(sender, limits);
        }
        memory.trust().connect(takes_messages);
    }

    /// Notes how things stand, for another process to go on from here.
    pub(super) fn note(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.journal.set_under_way(None);
            let is_migrating = self.migrator.state() != MigState::Running;
            recorder.journal.set_migrating(is_migrating);
            recorder.note(self.device, self.server.inbox().next());
        }
    }
}

/// Whether a request is an access to a region.
fn is_access(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::RegionRead(_) | Request::RegionWrite(..) | Request::RegionWriteMulti(_)
    )
}
