//! What a permit is worth.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::*;

const PAGE: u64 = 4096;

/// A client that never answers, and what it could read of our requests.
fn silent_client(messages: &Messages) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let limits = MessageLimits {
        first_id: 0,
        max_data: 4096,
        patience: Duration::from_millis(20),
    };
    messages.connect(Sender::new(Arc::new(ours.into())), limits);
    theirs
}

fn page(number: u64) -> IovaRange {
    IovaRange::new(Iova(number * PAGE), PAGE).unwrap()
}

/// A read of the permit's page, in a thread of the device's.
fn read(messages: &Messages, permit: Permit) -> MessageError {
    let at = permit.range.start();
    let read = || messages.read(permit, at, &mut [0; 8]);
    thread::scope(|scope| scope.spawn(read).join().unwrap()).unwrap_err()
}

fn was_sent(mut client: &UnixStream) -> bool {
    client.read(&mut [0; 256]).is_ok_and(|len| len > 0)
}

#[test]
fn a_permit_is_worth_nothing_after_an_unmap() {
    let messages = Messages::default();
    let client = silent_client(&messages);
    let permit = messages.permit(page(0));
    drop(messages.cancel(page(5)));
    // Whichever it was: the mapping is to be looked up again.
    assert_eq!(read(&messages, permit), MessageError::Changed);
    assert!(!was_sent(&client));
    let permit = messages.permit(page(0));
    assert_eq!(read(&messages, permit), MessageError::TimedOut);
    assert!(was_sent(&client));
}

#[test]
fn while_memory_is_unmapped_nothing_begins_there_and_all_else_does() {
    let messages = Messages::default();
    let client = silent_client(&messages);
    let cancelling = messages.cancel(page(0));
    let permit = messages.permit(page(0));
    assert_eq!(read(&messages, permit), MessageError::Cancelled);
    assert!(!was_sent(&client));
    let permit = messages.permit(page(1));
    assert_eq!(read(&messages, permit), MessageError::TimedOut);
    assert!(was_sent(&client));
    drop(cancelling);
}

#[test]
fn a_permit_is_for_one_client() {
    let messages = Messages::default();
    let permit = messages.permit(page(0));
    assert_eq!(read(&messages, permit), MessageError::Gone);
    let first = silent_client(&messages);
    let permit = messages.permit(page(0));
    messages.disconnect();
    let second = silent_client(&messages);
    assert_eq!(read(&messages, permit), MessageError::Gone);
    assert!(!was_sent(&first) && !was_sent(&second));
}
