//! The life of connections: clients that are late, silent, gone, or too many.

use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;

use crate::check::{Unmet, Verdict, Within};
use crate::connection::{Connection, Received, send_some};
use crate::negotiated::{CONFIG, Client, OFFER};
use crate::payload::{access, dma, message, version, words};
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "Connection Initiation" {
        a_late_client_is_served:
            "A client that is slow to send its VERSION is served when it does.";
        a_client_that_says_nothing_and_goes_does_no_harm:
            "A client that goes before its VERSION leaves the server to the next one.";
        a_silent_client_does_not_hold_up_the_next:
            "A silent client is let go after 5 s at most, so that the next one is served or let go.";
        half_a_version_does_not_hold_up_the_next:
            "While a client owes the rest of its VERSION the next one is answered, or let go.";
    }
    "Socket" {
        a_second_client_is_answered_or_let_go:
            "While one client is served, another is answered, or let go, within 5 s.";
        a_second_client_does_not_disturb_the_first:
            "A connection belongs to one client: another that comes does not disturb it.";
        half_a_message_does_not_hold_up_the_next:
            "While a client owes the rest of a message another one is answered, or let go.";
    }
    "Client Disconnection" {
        the_next_client_is_served:
            "After a client has gone another one is served, or the server ends.";
        many_clients_are_served_one_after_the_other:
            "A server does not wear out: fifty clients in a row are served.";
        a_client_that_goes_in_the_middle_of_a_message_does_no_harm:
            "A client may go in the middle of a message; the next one is served.";
        a_client_that_goes_without_its_replies_does_no_harm:
            "A client may go without reading its replies; the next one is served.";
        a_client_that_stops_reading_does_no_harm:
            "A client that never reads a reply, and goes, does not end the server.";
        a_client_that_ends_its_side_is_let_go:
            "When a client will send no more, the server closes its side too.";
        commands_before_the_end_are_served:
            "What a client sent before it ended its side is served.";
        memory_of_a_client_that_went_is_unmapped:
            "When a client has gone its memory is unmapped.";
        interrupts_of_a_client_that_went_do_no_harm:
            "A client may go while its interrupts are set; the next one is served.";
    }
}

/// Within this time somebody who comes second must know where they stand: QEMU gives every
/// reply 5 s.
const SECOND_CLIENT_LIMIT: Duration = Duration::from_secs(5);

fn is_served(target: &Target) -> Verdict {
    target.client().within("the next client")?.is_in_step()
}

fn offer() -> Vec<u8> {
    let text = [OFFER.as_bytes(), b"\0"].concat();
    message(1, 1, 0, &version(0, 0, &text))
}

fn a_late_client_is_served(target: &Target) -> Verdict {
    let connection = target.connect()?;
    sleep(Duration::from_secs(1));
    Client::negotiate(connection, 0, OFFER)?.is_in_step()
}

fn a_client_that_says_nothing_and_goes_does_no_harm(target: &Target) -> Verdict {
    for _ in 0..5 {
        drop(target.connect()?);
        is_served(target)?;
    }
    Ok(())
}

/// Whoever comes while another client is there is answered or closed in time.
fn another_is_answered(target: &Target) -> Verdict {
    another_is_answered_within(target, SECOND_CLIENT_LIMIT)
}

fn another_is_answered_within(target: &Target, limit: Duration) -> Verdict {
    let mut second = target.connect()?;
    // The server may have closed it already.
    if !second.send_while_taken(&offer(), &[])? {
        return Ok(());
    }
    let received = second.receive_within(limit)?;
    let limit = limit.as_secs();
    ensure!(
        received.is_some(),
        "another client is neither answered nor let go within {limit} s"
    );
    Ok(())
}

fn a_silent_client_does_not_hold_up_the_next(target: &Target) -> Verdict {
    let first = target.connect()?;
    // The silent one has its own 5 s first.
    another_is_answered_within(target, SECOND_CLIENT_LIMIT + Duration::from_secs(1))?;
    drop(first);
    is_served(target)
}

fn half_a_version_does_not_hold_up_the_next(target: &Target) -> Verdict {
    let mut first = target.connect()?;
    first.send(&offer()[..30], &[])?;
    another_is_answered(target)?;
    drop(first);
    is_served(target)
}

fn a_second_client_is_answered_or_let_go(target: &Target) -> Verdict {
    let first = target.client()?;
    another_is_answered(target)?;
    drop(first);
    is_served(target)
}

fn a_second_client_does_not_disturb_the_first(target: &Target) -> Verdict {
    let mut first = target.client()?;
    for _ in 0..5 {
        let mut second = target.connect()?;
        second.send_while_taken(&offer(), &[])?;
        sleep(Duration::from_millis(10));
        first.is_in_step().within("the first client")?;
        drop(second);
        first.is_in_step().within("the first client")?;
    }
    Ok(())
}

fn half_a_message_does_not_hold_up_the_next(target: &Target) -> Verdict {
    let mut first = target.client()?;
    let info = message(1, 4, 0, &words(&[16, 0, 0, 0]));
    first.connection.send(&info[..20], &[])?;
    another_is_answered(target)?;
    drop(first);
    is_served(target)
}

fn the_next_client_is_served(target: &Target) -> Verdict {
    for _ in 0..3 {
        let mut client = target.client()?;
        client.is_in_step()?;
    }
    Ok(())
}

fn many_clients_are_served_one_after_the_other(target: &Target) -> Verdict {
    for number in 0..50 {
        let mut client = target.client().within(&format!("client {number}"))?;
        client.is_in_step()?;
    }
    Ok(())
}

fn a_client_that_goes_in_the_middle_of_a_message_does_no_harm(target: &Target) -> Verdict {
    let bytes = message(1, 10, 0, &access(CONFIG, 0x3c, 1, &[0]));
    for len in [1, 15, 16, 17, 32] {
        let mut client = target.client()?;
        client.connection.send(&bytes[..len], &[])?;
        drop(client);
        is_served(target).within(&format!("{len} bytes"))?;
    }
    Ok(())
}

fn a_client_that_goes_without_its_replies_does_no_harm(target: &Target) -> Verdict {
    for count in [1, 100, 200] {
        let mut client = target.client()?;
        let bytes = message(1, 4, 0, &words(&[16, 0, 0, 0])).repeat(count);
        client.connection.send(&bytes, &[])?;
        drop(client);
        is_served(target).within(&format!("{count} replies"))?;
    }
    Ok(())
}

fn a_client_that_stops_reading_does_no_harm(target: &Target) -> Verdict {
    let client = target.client()?;
    let bytes = message(1, 9, 0, &access(CONFIG, 0, 256, &[])).repeat(100);
    // Until the server, which cannot send, no longer reads.
    let mut idle_since = Instant::now();
    let begin = Instant::now();
    while idle_since.elapsed() < Duration::from_millis(300) {
        ensure!(
            begin.elapsed() < 2 * target.patience() + Duration::from_secs(5),
            "the server reads on, though nobody takes its replies"
        );
        match send_some(client.connection.as_fd(), &bytes, &[]) {
            // Whatever is cut here never ends, and nobody will read the answer.
            Ok(_) => idle_since = Instant::now(),
            Err(Errno::AGAIN) => sleep(Duration::from_millis(5)),
            Err(Errno::INTR) => {}
            // It had enough of this client.
            Err(Errno::PIPE | Errno::CONNRESET) => break,
            Err(error) => return Err(error.into()),
        }
    }
    drop(client);
    is_served(target)
}

fn drained(connection: &mut Connection) -> Result<usize, Unmet> {
    let mut messages = 0;
    while let Received::Message(_) = connection.receive()? {
        messages += 1;
    }
    Ok(messages)
}

fn a_client_that_ends_its_side_is_let_go(target: &Target) -> Verdict {
    let mut client = target.client()?;
    client.connection.finish_sending()?;
    drained(&mut client.connection)?;
    drop(client);
    is_served(target)
}

fn commands_before_the_end_are_served(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let bytes = message(1, 4, 0, &words(&[16, 0, 0, 0])).repeat(20);
    client.connection.send(&bytes, &[])?;
    client.connection.finish_sending()?;
    let replies = drained(&mut client.connection)?;
    ensure!(replies == 20, "20 commands brought {replies} replies");
    Ok(())
}

fn memory_of_a_client_that_went_is_unmapped(target: &Target) -> Verdict {
    let file = memfd_create(
        "conformance",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?;
    ftruncate(&file, 0x10_0000)?;
    let mut client = target.client()?;
    let map = dma(32, 3, &[0, 0x10_0000, 0x10_0000]);
    client.connection.accepts(2, &map, &[file.as_fd()])?;
    drop(client);
    // The kernel takes this seal only where nobody has the file mapped for writing.
    let deadline = Instant::now() + target.patience();
    loop {
        match fcntl_add_seals(&file, SealFlags::WRITE) {
            Ok(()) => return is_served(target),
            Err(Errno::BUSY) => {
                let is_late = Instant::now() > deadline;
                ensure!(!is_late, "the memory is still mapped");
                sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn interrupts_of_a_client_that_went_do_no_harm(target: &Target) -> Verdict {
    let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
    let mut client = target.client()?;
    let count = client.device_info()?.num_irqs.min(5);
    for index in 0..count {
        if client.irq_info(index)?.count > 0 {
            let set = words(&[20, 0x24, index, 0, 1]);
            // That it succeeds is for other checks to say.
            client.connection.ask(8, &set, &[eventfd.as_fd()])?;
        }
    }
    drop(client);
    is_served(target)?;
    is_served(target)
}
