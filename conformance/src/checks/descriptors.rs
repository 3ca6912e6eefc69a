//! Descriptors that come where none belong: the server must not keep them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::check::{Unmet, Verdict, Within};
use crate::connection::Connection;
use crate::negotiated::{CONFIG, OFFER};
use crate::payload::{access, dma, header, message, region_info, version, words};
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "Security Considerations" {
        descriptors_with_a_message_that_takes_none_are_closed:
            "A descriptor that came with a message which takes none is closed, not kept.";
        many_descriptors_with_a_message_that_takes_none_are_closed:
            "The same holds for more than the server said it takes.";
        descriptors_with_an_unknown_command_are_closed:
            "A descriptor that came with a command which is not known is closed.";
        descriptors_with_version_are_closed:
            "A descriptor that came with VERSION is closed.";
        descriptors_of_a_refused_map_are_closed:
            "A descriptor that came with a DMA_MAP which was refused is closed.";
        descriptors_of_refused_interrupts_are_closed:
            "Descriptors that came with a DEVICE_SET_IRQS which was refused are closed.";
        descriptors_in_the_middle_of_a_message_are_closed:
            "A descriptor that came on a later piece of a message that takes none is closed.";
        descriptors_of_half_a_message_are_closed:
            "A descriptor of a message that never came whole is closed with the connection.";
        descriptors_of_a_broken_frame_are_closed:
            "A descriptor that came with a size that no message has is closed.";
        as_many_descriptors_as_the_kernel_passes_do_no_harm:
            "253 descriptors with one message do no harm to those who come later.";
    }
}

/// A pipe whose other end tells when the last copy of this one is closed.
struct Witness {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Witness {
    fn new() -> Result<Self, Unmet> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self { reader, writer })
    }

    /// Gives our own copy up, and waits until the server has none.
    fn wait_for_release(self, limit: Duration) -> Verdict {
        drop(self.writer);
        let deadline = Instant::now() + limit;
        loop {
            let mut fds = [PollFd::new(&self.reader, PollFlags::IN)];
            let pause = Timespec {
                tv_sec: 0,
                tv_nsec: 10_000_000,
            };
            poll(&mut fds, Some(&pause))?;
            if fds[0].revents().contains(PollFlags::HUP) {
                return Ok(());
            }
            let is_late = Instant::now() > deadline;
            ensure!(!is_late, "the server still holds a descriptor");
        }
    }
}

/// Sends `bytes` with `count` copies of a descriptor on a connection that has a version, and
/// waits until the server holds none of them, the connection being open all the time.
fn are_closed(target: &Target, bytes: &[u8], count: usize) -> Verdict {
    let mut client = target.client()?;
    let witness = Witness::new()?;
    let fds: Vec<BorrowedFd<'_>> = vec![witness.writer.as_fd(); count];
    client.connection.send(bytes, &fds)?;
    // A reply, an error or the end: that it is one of them is for other checks to say.
    client.connection.receive_within(target.patience())?;
    witness.wait_for_release(target.patience())?;
    drop(client);
    let mut next = target.client().within("the next client")?;
    next.is_in_step().within("the next client")
}

/// Messages that take no descriptor.
fn that_take_none() -> Vec<(u16, Vec<u8>)> {
    vec![
        (3, dma(24, 0, &[0, 0x1000])),
        (4, words(&[16, 0, 0, 0])),
        (5, region_info(32, CONFIG)),
        (7, words(&[16, 0, 0, 0])),
        (9, access(CONFIG, 0, 4, &[])),
        (10, access(CONFIG, 0x3c, 1, &[0])),
        (13, vec![]),
    ]
}

fn descriptors_with_a_message_that_takes_none_are_closed(target: &Target) -> Verdict {
    for (command, payload) in that_take_none() {
        let bytes = message(1, command, 0, &payload);
        are_closed(target, &bytes, 1).within(&format!("command {command}"))?;
    }
    Ok(())
}

fn many_descriptors_with_a_message_that_takes_none_are_closed(target: &Target) -> Verdict {
    for (command, payload) in that_take_none() {
        let bytes = message(1, command, 0, &payload);
        are_closed(target, &bytes, 16).within(&format!("command {command}"))?;
    }
    Ok(())
}

fn descriptors_with_an_unknown_command_are_closed(target: &Target) -> Verdict {
    are_closed(target, &message(1, 0x7fff, 0, &[]), 3)
}

fn descriptors_with_version_are_closed(target: &Target) -> Verdict {
    let mut connection = target.connect()?;
    let text = [OFFER.as_bytes(), b"\0"].concat();
    let bytes = message(1, 1, 0, &version(0, 0, &text));
    let witness = Witness::new()?;
    connection.send(&bytes, &[witness.writer.as_fd()])?;
    connection.receive_within(target.patience())?;
    witness.wait_for_release(target.patience())?;
    drop(connection);
    target.client().within("the next client").map(drop)
}

fn descriptors_of_a_refused_map_are_closed(target: &Target) -> Verdict {
    // A pipe cannot be mapped, and no mapping has a size of 0.
    are_closed(target, &message(1, 2, 0, &dma(32, 3, &[0, 0, 0])), 1).within("one")?;
    are_closed(target, &message(1, 2, 0, &dma(32, 3, &[0, 0, 0x1000])), 2).within("two")
}

fn descriptors_of_refused_interrupts_are_closed(target: &Target) -> Verdict {
    // Of a type that there is not.
    let set = words(&[20, 0x24, u32::MAX, 0, 1]);
    are_closed(target, &message(1, 8, 0, &set), 1)
}

fn send_front(connection: &mut Connection, bytes: &[u8]) -> Verdict {
    connection.send(bytes, &[])?;
    std::thread::sleep(Duration::from_millis(20));
    Ok(())
}

fn descriptors_in_the_middle_of_a_message_are_closed(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let bytes = message(1, 4, 0, &words(&[16, 0, 0, 0]));
    let witness = Witness::new()?;
    send_front(&mut client.connection, &bytes[..20])?;
    client
        .connection
        .send(&bytes[20..], &[witness.writer.as_fd()])?;
    client.connection.receive_within(target.patience())?;
    witness.wait_for_release(target.patience())?;
    drop(client);
    target.client().within("the next client").map(drop)
}

fn descriptors_of_half_a_message_are_closed(target: &Target) -> Verdict {
    for len in [1, 8, 16, 20] {
        let mut client = target.client()?;
        let bytes = message(1, 4, 0, &words(&[16, 0, 0, 0]));
        let witness = Witness::new()?;
        client
            .connection
            .send(&bytes[..len], &[witness.writer.as_fd()])?;
        drop(client);
        witness
            .wait_for_release(target.patience())
            .within(&format!("{len} bytes"))?;
    }
    target.client().within("the next client").map(drop)
}

fn descriptors_of_a_broken_frame_are_closed(target: &Target) -> Verdict {
    for size in [3, u32::MAX] {
        are_closed(target, &header(1, 4, size, 0), 2).within(&format!("size {size:#x}"))?;
    }
    Ok(())
}

fn as_many_descriptors_as_the_kernel_passes_do_no_harm(target: &Target) -> Verdict {
    are_closed(target, &message(1, 4, 0, &words(&[16, 0, 0, 0])), 253)
}
