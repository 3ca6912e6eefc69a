//! The answering end of a physical device's own control socket.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use mdev::TypeSpec;
use mdev::host::HostFiles;
use mdev::mailbox::{Mail, MailSender};
use signal_hook::iterator::Handle;
use worker::protocol::{Answer, Counters, Request, Sandbox, SeatRequest, Status};
use worker::seat::{self, SeatFiles};
use worker::seqpacket;

use crate::requests::{parse, refuse};
use crate::serving::{Ground, Maker, Plan};

use super::refusal::Refusal;
use super::seats::{NoSeat, Seats};

/// What is needed to answer.
pub(super) struct ParentResponder {
    pub(super) kind: &'static str,
    /// Duplicates of the device's files, if they came from whoever started this: for whoever comes
    /// after that one.
    pub(super) files: Option<HostFiles>,
    pub(super) types: Vec<TypeSpec>,
    pub(super) maker: Maker,
    pub(super) seats: Seats,
    pub(super) sandbox: Sandbox,
    /// Closed, it ends the process.
    pub(super) stop: Handle,
}

impl ParentResponder {
    /// Answers one asker until it is gone.
    pub(super) fn serve(&self, asker: &OwnedFd) {
        while let Ok(Some((document, fd))) = seqpacket::receive(asker) {
            let request = parse(&document);
            let is_stop = matches!(request, Ok(Request::Stop));
            let mut served = None;
            let answer = match request {
                Ok(Request::Serve(seat)) => match self.seat(&seat, fd) {
                    Ok(mail) => {
                        served = Some(mail);
                        Answer::Done
                    }
                    Err(refusal) => refusal.into(),
                },
                Ok(request) => self.answer(&request, fd),
                Err((errno, message)) => refuse(errno, message),
            };
            // Text of our own: writing it cannot fail.
            let document = serde_json::to_vec(&answer).unwrap_or_default();
            let sent = seqpacket::send(asker, &document, None);
            if is_stop {
                // Only now: the end of the process would overtake the answer.
                self.stop.close();
            }
            if sent.is_err() {
                if let Some(seat) = served {
                    // Whoever asked has given up, and unlinked its sockets: nobody could reach it. If
                    // it has ended already, there is nothing to stop.
                    let _ = seat.send(Mail::Stop);
                }
                return;
            }
        }
    }

    fn answer(&self, request: &Request, fd: Option<OwnedFd>) -> Answer {
        match request {
            Request::Status => Answer::Status(self.status()),
            Request::Adopt => self.adopt(fd),
            Request::Stop => Answer::Done,
            _ => {
                let message = "this is the control socket of a physical device: what is asked of a \
                               vGPU goes to that one's own";
                refuse("ENOTSUP", message.to_owned())
            }
        }
    }

    fn adopt(&self, socket: Option<OwnedFd>) -> Answer {
        let (Some(files), Some(socket)) = (&self.files, socket) else {
            return refuse("EINVAL", "no socket came with the request".to_owned());
        };
        match seat::park_parent(&socket, files) {
            Ok(()) => Answer::Done,
            Err(error) => refuse("EIO", format!("the device cannot be parked: {error}")),
        }
    }

    fn status(&self) -> Status {
        let (seats, connected) = self.seats.count();
        Status {
            type_name: self.kind.to_owned(),
            pid: std::process::id(),
            connected,
            scanout: None,
            further_scanouts: Vec::new(),
            attributes: Vec::new(),
            counters: Counters::default(),
            sandbox: self.sandbox,
            mappings: 0,
            pinned_pages: 0,
            seats: Some(seats),
        }
    }

    /// Serves one more. If it is refused, nothing of it is left.
    fn seat(&self, seat: &SeatRequest, line: Option<OwnedFd>) -> Result<MailSender, Refusal> {
        let line = line.ok_or_else(|| Refusal::invalid("no socket came with the request"))?;
        let plan = Plan::of_request(seat).map_err(Refusal::invalid)?;
        let spec = super::find_type(&self.types, &seat.type_name).map_err(anyhow::Error::from)?;
        let files = SeatFiles::accept(&line).map_err(|error| {
            Refusal::invalid(format!("the seat's descriptors have not come: {error}"))
        })?;
        let place = self.seats.take().map_err(|error| match error {
            NoSeat::Full => Refusal("EUSERS", error.to_string()),
            NoSeat::Over => Refusal("ENODEV", error.to_string()),
        })?;
        let number = place.number();
        let ground = Ground::of_seat(files, &plan)?;
        let built = ground.build(&self.maker, spec, &plan)?;
        let metrics = Arc::clone(built.metrics());
        // The line is closed last: who sees that finds the seat free.
        let served = built.start(ground, self.sandbox, move || drop((place, line)))?;
        self.seats.occupy(number, served.mail.clone(), metrics);
        Ok(served.mail)
    }
}
