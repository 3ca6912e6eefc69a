//! REGION_WRITE_MULTI.

use vfu::wire::Command;

use crate::check::{Unmet, Verdict, Within};
use crate::connection::Answer;
use crate::negotiated::{CONFIG, Client, SCRATCH};
use crate::payload::multi;
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "VFIO_USER_VERSION" {
        write_multiple_is_agreed_on_only_if_offered:
            "A server does not say that writes may be coalesced to a client that cannot.";
    }
    "VFIO_USER_REGION_WRITE_MULTI" {
        write_multi_does_all_its_writes, needs WriteMultiple Pci:
            "The writes are done, and the reply has their number.";
        write_multi_is_done_in_order, needs WriteMultiple Pci:
            "The writes are done in the order they stand in.";
        write_multi_takes_many, needs WriteMultiple Pci:
            "QEMU coalesces up to 200 writes, and they are done.";
        write_multi_of_no_writes_leaves_the_stream_in_step, needs WriteMultiple:
            "A message of no writes succeeds with none done, or is refused.";
        write_multi_without_a_reply_is_done_before_the_next_reply, needs WriteMultiple Pci:
            "Writes that want no reply are done before the command behind them.";
        write_multi_of_an_unknown_region_is_not_done, needs WriteMultiple:
            "The number of writes that are done counts none of a region that is not there.";
        write_multi_past_the_end_is_not_done, needs WriteMultiple Pci:
            "The number of writes that are done counts none outside of its region.";
        write_multi_of_more_than_8_bytes_is_refused, needs WriteMultiple Pci:
            "A single write has at most 8 bytes.";
        write_multi_with_another_number_is_refused, needs WriteMultiple Pci:
            "The number of writes is that of those which follow.";
        write_multi_of_a_huge_number_is_refused, needs WriteMultiple:
            "The number of writes is a client's, and does not size a buffer unchecked.";
        write_multi_without_its_number_is_refused:
            "A request shorter than its number of writes has no meaning.";
        write_multi_that_was_not_agreed_on_leaves_the_stream_in_step:
            "Where it was not agreed on it is refused, or done, but not taken for several.";
    }
}

/// One byte to the place that holds it.
fn to_scratch(value: u8) -> (u32, u64, u32, [u8; 8]) {
    (CONFIG, SCRATCH, 1, [value, 0, 0, 0, 0, 0, 0, 0])
}

/// Sends writes that must succeed, and tells how many were done.
fn done(client: &mut Client, payload: &[u8]) -> Result<u64, Unmet> {
    let reply = client.accepts(Command::RegionWriteMulti, payload)?;
    match reply.payload.first_chunk() {
        Some(count) if reply.payload.len() == 8 => Ok(u64::from_ne_bytes(*count)),
        _ => Err(Unmet::fail(format!(
            "the reply has {} bytes",
            reply.payload.len()
        ))),
    }
}

fn write_multiple_is_agreed_on_only_if_offered(target: &Target) -> Verdict {
    for offer in [
        r#"{"capabilities":{"write_multiple":false}}"#,
        r#"{"capabilities":{"max_msg_fds":8}}"#,
    ] {
        let client = target.client_offering(offer)?;
        let agreed = &client.capabilities()["write_multiple"];
        ensure!(*agreed != true, "{offer} was offered");
    }
    Ok(())
}

fn write_multi_does_all_its_writes(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let count = done(&mut client, &multi(1, &[to_scratch(0x5c)]))?;
    ensure!(count == 1, "1 was sent, {count} done");
    let read = client.scratch()?;
    ensure!(read == 0x5c, "0x5c was written, {read:#x} is read");
    client.is_in_step()
}

fn write_multi_is_done_in_order(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for values in [[1, 2, 3], [3, 1, 2], [2, 3, 1]] {
        let count = done(&mut client, &multi(3, &values.map(to_scratch)))?;
        ensure!(count == 3, "3 were sent, {count} done");
        let read = client.scratch()?;
        ensure!(read == values[2], "{values:?} were written, {read} is read");
    }
    Ok(())
}

fn write_multi_takes_many(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let writes: Vec<_> = (1..=200).map(to_scratch).collect();
    let count = done(&mut client, &multi(200, &writes))?;
    ensure!(count == 200, "200 were sent, {count} done");
    let read = client.scratch()?;
    ensure!(read == 200, "200 was written last, {read} is read");
    Ok(())
}

fn write_multi_of_no_writes_leaves_the_stream_in_step(target: &Target) -> Verdict {
    let mut client = target.client()?;
    if let Answer::Success(reply) = client.connection.ask(15, &multi(0, &[]), &[])? {
        let is_none = reply.payload == [0; 8];
        ensure!(is_none, "the reply is {:x?}", reply.payload);
    }
    client.is_in_step()
}

fn write_multi_without_a_reply_is_done_before_the_next_reply(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for value in [7, 8, 9] {
        let writes = multi(2, &[to_scratch(0), to_scratch(value)]);
        client.post(Command::RegionWriteMulti, &writes)?;
        let read = client.scratch()?;
        ensure!(read == value, "{value} was written, {read} is read");
    }
    Ok(())
}

/// Sends `good` writes before and after a bad one: an error, or a number without the bad one.
fn is_not_all_done(target: &Target, bad: (u32, u64, u32, [u8; 8])) -> Verdict {
    let mut client = target.client()?;
    let payload = multi(3, &[to_scratch(1), bad, to_scratch(2)]);
    if let Answer::Success(reply) = client.connection.ask(15, &payload, &[])? {
        let count = reply.payload.first_chunk().map(|n| u64::from_ne_bytes(*n));
        let is_less = count.is_some_and(|count| count < 3);
        ensure!(is_less, "{count:?} of 3 were done, one of them impossible");
    }
    client.is_in_step()
}

fn write_multi_of_an_unknown_region_is_not_done(target: &Target) -> Verdict {
    is_not_all_done(target, (u32::MAX, 0, 4, [0; 8]))?;
    is_not_all_done(target, (0x1000, 0, 4, [0; 8]))
}

fn write_multi_past_the_end_is_not_done(target: &Target) -> Verdict {
    let size = target.client()?.region_info(CONFIG)?.info.size;
    for offset in [size, size - 1, u64::MAX - 1] {
        is_not_all_done(target, (CONFIG, offset, 4, [0; 8])).within(&format!("{offset:#x}"))?;
    }
    Ok(())
}

fn refused(target: &Target, payload: &[u8]) -> Verdict {
    let mut client = target.client()?;
    client.refuses(Command::RegionWriteMulti, payload)?;
    client.is_in_step()
}

fn write_multi_of_more_than_8_bytes_is_refused(target: &Target) -> Verdict {
    for count in [9, 24, u32::MAX] {
        refused(target, &multi(1, &[(CONFIG, SCRATCH, count, [0; 8])]))
            .within(&format!("{count} bytes"))?;
    }
    Ok(())
}

fn write_multi_with_another_number_is_refused(target: &Target) -> Verdict {
    refused(target, &multi(2, &[to_scratch(1)])).within("2 of 1")?;
    let cut = multi(1, &[to_scratch(1)]);
    refused(target, &cut[..cut.len() - 1]).within("a byte too few")
}

fn write_multi_of_a_huge_number_is_refused(target: &Target) -> Verdict {
    for count in [1 << 32, 1 << 60, 0x0aaa_aaaa_aaaa_aaab, u64::MAX] {
        refused(target, &multi(count, &[to_scratch(1)])).within(&format!("{count:#x}"))?;
    }
    Ok(())
}

fn write_multi_without_its_number_is_refused(target: &Target) -> Verdict {
    for len in [0, 1, 7] {
        refused(target, &[0; 7][..len]).within(&format!("{len} bytes"))?;
    }
    Ok(())
}

fn write_multi_that_was_not_agreed_on_leaves_the_stream_in_step(target: &Target) -> Verdict {
    let mut client = target.client_offering(r#"{"capabilities":{"write_multiple":false}}"#)?;
    client.write(CONFIG, SCRATCH, &[0])?;
    let payload = multi(2, &[to_scratch(0x71), to_scratch(0x72)]);
    let expected = match client.connection.ask(15, &payload, &[])? {
        Answer::Success(_) => 0x72,
        Answer::Refused(_) => 0,
        Answer::Closed => return target.client().within("the next client").map(drop),
    };
    client.is_in_step()?;
    let read = client.scratch()?;
    ensure!(
        read == expected,
        "{read:#x} is read instead of {expected:#x}"
    );
    Ok(())
}
