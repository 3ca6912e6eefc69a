//! The answering end of the control socket.

mod states;
mod status;
mod typing;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use mdev::Services;
use mdev::device::{AttributeError, Reset, ResizeError};
use mdev::mailbox::{Mail, MailSender};
use mdev::metrics::Metrics;
use rustix::net::{SocketFlags, accept_with};
use worker::parking::Depositor;
use worker::protocol::{Answer, Envelope, FIXED, Request, Sandbox, VERSION};
use worker::{lending, seqpacket};

use crate::attendants::Attendants;
use crate::showing::{self, Watching};
use crate::taking_over::{Alone, Pause};

/// What is needed to answer.
pub(crate) struct Responder {
    pub(crate) type_name: String,
    pub(crate) mail: MailSender,
    pub(crate) services: Services,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sandbox: Sandbox,
    pub(crate) pause: Arc<Pause>,
    pub(crate) alone: Alone,
}

/// Has `serve` answer whoever connects to `socket`, from now on.
pub(crate) fn start(
    socket: OwnedFd,
    attendants: &Attendants,
    serve: impl Fn(&OwnedFd) + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let (serve, accepting) = (Arc::new(serve), attendants.clone());
    attendants.spawn("control", move || {
        while accepting.wait_for(&socket) {
            match accept_with(&socket, SocketFlags::CLOEXEC) {
                Ok(asker) => {
                    let serve = Arc::clone(&serve);
                    accepting.attend(asker, move |asker| serve(asker));
                }
                Err(error) => {
                    tracing::warn!("cannot accept a control connection: {error}");
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
            }
        }
    })
}

impl Responder {
    /// Answers one asker until it is gone.
    pub(crate) fn serve(&self, asker: &OwnedFd) {
        let mut watching = None;
        while let Ok(Some((document, fd))) = seqpacket::receive(asker) {
            let request = parse(&document).and_then(|request| permit(request, watching.as_ref()));
            let is_stop = matches!(request, Ok(Request::Stop));
            let is_leave = matches!(request, Ok(Request::Leave));
            let (answer, memory) = match request {
                Ok(Request::Input { stream }) => {
                    return typing::serve(asker, &self.services.input, stream);
                }
                Ok(Request::Watch { head }) => {
                    showing::watch(&self.services.scanout, head, &mut watching)
                }
                Ok(Request::Scanout { head }) => {
                    showing::scanout(&self.services.scanout, head, watching.as_ref())
                }
                Ok(request) => self.answer(request, fd),
                Err((errno, message)) => (refuse(errno, message), None),
            };
            // Geometry and text of our own: writing them cannot fail.
            let document = serde_json::to_vec(&answer).unwrap_or_default();
            let memory = memory.as_ref().map(|memory| memory.as_fd());
            let sent = seqpacket::send(asker, &document, memory);
            if is_stop {
                // Only now: the end of the process would overtake the answer.
                let _ = self.mail.send(Mail::Stop);
            }
            if is_leave && matches!(answer, Answer::Done) {
                tracing::info!("another worker goes on");
                // At once: the end of anything here would be the client's.
                std::process::exit(0);
            }
            if sent.is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: Request, fd: Option<OwnedFd>) -> (Answer, Option<Arc<OwnedFd>>) {
        match request {
            Request::HandOver | Request::GoOn | Request::Leave if self.alone == Alone::No => {
                let message = "no vGPU on a physical device is handed over by itself: all of them have \
                               one worker";
                (refuse("ENOTSUP", message.to_owned()), None)
            }
            Request::Save => self.save(),
            Request::Restore => (self.restore(fd), None),
            Request::Status => (self.status(), None),
            Request::Cursor { head } => showing::cursor(&self.services.scanout, head),
            Request::Resize {
                head,
                width,
                height,
            } => (self.resize(head, width, height), None),
            // Of a connection, which this does not know.
            Request::Scanout { .. } | Request::Watch { .. } | Request::Input { .. } => {
                (refuse("EINVAL", "nothing to watch".to_owned()), None)
            }
            Request::SetAttribute { name, value } => (self.set_attribute(name, value), None),
            Request::Adopt => (self.adopt(fd), None),
            Request::Lend => (self.lend(fd), None),
            Request::Reset => (self.reset(), None),
            Request::HandOver => (self.hand_over(), None),
            Request::GoOn if self.pause.end() => (Answer::Done, None),
            Request::Leave if self.pause.leave() => (Answer::Done, None),
            Request::GoOn | Request::Leave => {
                let message = "this worker is not handing over".to_owned();
                (refuse("EINVAL", message), None)
            }
            Request::Serve(_) => {
                let message = "this worker has no physical device to share".to_owned();
                (refuse("ENOTSUP", message), None)
            }
            Request::Stop => (Answer::Done, None),
        }
    }

    fn adopt(&self, fd: Option<OwnedFd>) -> Answer {
        let Some(fd) = fd else {
            return refuse("EINVAL", "no socket came with the request".to_owned());
        };
        match self.services.keep.adopt(Box::new(Depositor::new(fd))) {
            Ok(()) => Answer::Done,
            Err(error) => refuse("ENOTSUP", format!("nothing can be parked: {error}")),
        }
    }

    fn lend(&self, fd: Option<OwnedFd>) -> Answer {
        let Some(fd) = fd else {
            return refuse("EINVAL", "no socket came with the request".to_owned());
        };
        match lending::accept(&self.services.engine, fd) {
            Ok(()) => Answer::Done,
            Err(error) => refuse("EINVAL", format!("time cannot be granted: {error}")),
        }
    }

    fn reset(&self) -> Answer {
        match self.mail.call(|device| device.reset(Reset::Device)) {
            Ok(()) => Answer::Done,
            Err(gone) => refuse("ENODEV", gone.to_string()),
        }
    }

    fn hand_over(&self) -> Answer {
        if !self.services.keep.is_active() {
            let message = "nothing of this worker is kept for another".to_owned();
            return refuse("ENOTSUP", message);
        }
        match self.pause.begin(&self.mail) {
            Ok(()) => Answer::Done,
            Err(error) => refuse("EBUSY", error.to_string()),
        }
    }

    fn resize(&self, head: u32, width: u32, height: u32) -> Answer {
        let resized = self
            .mail
            .call(move |device| device.resize(head, width, height));
        match resized {
            Err(gone) => refuse("ENODEV", gone.to_string()),
            Ok(Err(error @ ResizeError::Unsupported)) => refuse("ENOTSUP", error.to_string()),
            Ok(Err(error)) => refuse("EINVAL", error.to_string()),
            Ok(Ok(())) => Answer::Done,
        }
    }

    fn set_attribute(&self, name: String, value: String) -> Answer {
        match self
            .mail
            .call(move |device| device.set_attribute(&name, &value))
        {
            Err(gone) => refuse("ENODEV", gone.to_string()),
            Ok(Err(error @ AttributeError::Fixed(_))) => refuse(FIXED, error.to_string()),
            Ok(Err(error)) => refuse("EINVAL", error.to_string()),
            Ok(Ok(())) => Answer::Done,
        }
    }
}

/// The request in a document, or the errno and the words that refuse it.
pub(crate) fn parse(document: &[u8]) -> Result<Request, (&'static str, String)> {
    match serde_json::from_slice::<Envelope>(document) {
        Ok(envelope) if envelope.version == VERSION => Ok(envelope.request),
        Ok(envelope) => {
            let version = envelope.version;
            let message = format!("version {version} is not spoken here; {VERSION} is");
            Err(("EPROTO", message))
        }
        Err(error) => Err(("EINVAL", format!("not a request: {error}"))),
    }
}

/// Who watches sees the picture of its head, may wish for another size, and does nothing else.
fn permit(
    request: Request,
    watching: Option<&Watching>,
) -> Result<Request, (&'static str, String)> {
    let Some(watching) = watching else {
        return Ok(request);
    };
    match request {
        Request::Scanout { head } | Request::Cursor { head } | Request::Resize { head, .. }
            if head == watching.head =>
        {
            Ok(request)
        }
        _ => Err((
            "EPERM",
            format!(
                "this connection is for the picture of head {} alone",
                watching.head
            ),
        )),
    }
}

pub(crate) fn refuse(errno: &str, message: String) -> Answer {
    Answer::Error {
        errno: errno.to_owned(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use mdev::scanout::ScanoutPublisher;

    use super::*;

    #[test]
    fn who_watches_may_ask_for_the_picture_of_its_head_and_nothing_else() {
        let publisher = ScanoutPublisher::default();
        publisher.set_heads(2);
        let mut watching = None;
        showing::watch(&publisher, 1, &mut watching);
        let resize = |head| Request::Resize {
            head,
            width: 64,
            height: 64,
        };
        for (request, is_permitted) in [
            (Request::Scanout { head: 1 }, true),
            (Request::Cursor { head: 1 }, true),
            (resize(1), true),
            (Request::Scanout { head: 0 }, false),
            (Request::Cursor { head: 0 }, false),
            (resize(0), false),
            (Request::Status, false),
            (Request::Save, false),
            (Request::Stop, false),
            (Request::Watch { head: 1 }, false),
            (Request::Input { stream: 1 }, false),
        ] {
            let permitted = permit(request.clone(), watching.as_ref());
            assert_eq!(permitted.is_ok(), is_permitted, "{request:?}");
            assert!(permit(request, None).is_ok());
        }
    }
}
