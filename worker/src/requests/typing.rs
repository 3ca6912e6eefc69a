//! A connection over which input comes, and nothing else.

use std::io;
use std::os::fd::OwnedFd;

use mdev::input::{InputError, InputPort, Seat};
use worker::protocol::{Answer, InputRecord};
use worker::seqpacket;

use super::refuse;

/// Takes input until the other end is gone, or says what makes no sense.
pub(super) fn serve(asker: &OwnedFd, port: &InputPort, stream: u64) {
    let seat = match port.open(stream) {
        Ok(seat) => seat,
        Err(error) => {
            let _ = send(asker, &refuse(errno(error), error.to_string()));
            return;
        }
    };
    if send(asker, &Answer::Done).is_err() {
        return;
    }
    loop {
        let answer = match seqpacket::receive(asker) {
            Ok(Some((document, _))) => take(&seat, &document),
            Ok(None) => return,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(("EMSGSIZE", error.to_string()))
            }
            Err(_) => return,
        };
        let sent = match answer {
            Ok(true) => send(asker, &Answer::Done),
            // Another worker is to be given it: that is told by the end of the connection.
            Ok(false) => return,
            Err((errno, message)) => {
                let _ = send(asker, &refuse(errno, message));
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Takes what a document says; `false` if another worker is to take it.
fn take(seat: &Seat, document: &[u8]) -> Result<bool, (&'static str, String)> {
    let record: InputRecord = serde_json::from_slice(document)
        .map_err(|error| ("EINVAL", format!("not input: {error}")))?;
    match seat.take(record.number, &record.report) {
        Ok(()) => Ok(true),
        Err(InputError::Elsewhere) => Ok(false),
        Err(error) => Err((errno(error), error.to_string())),
    }
}

/// The errno that fits, by name.
fn errno(error: InputError) -> &'static str {
    match error {
        InputError::None => "ENODEV",
        InputError::Unknown => "EINVAL",
        InputError::Elsewhere => "EBUSY",
    }
}

fn send(asker: &OwnedFd, answer: &Answer) -> io::Result<()> {
    // Text of our own: writing it cannot fail.
    let document = serde_json::to_vec(answer).unwrap_or_default();
    seqpacket::send(asker, &document, None)
}
