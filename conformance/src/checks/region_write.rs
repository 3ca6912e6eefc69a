//! REGION_WRITE.

use vfu::wire::Command;
use vfu::wire::region::RegionFlags;

use crate::check::{Unmet, Verdict, Within};
use crate::connection::Answer;
use crate::negotiated::{CONFIG, Client, SCRATCH};
use crate::payload::access;
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "VFIO_USER_REGION_WRITE" {
        write_repeats_the_access, needs Pci:
            "The reply has the offset, the region and the count, and no data.";
        write_is_read_back, needs Pci:
            "What was written to a register that holds it is read from it.";
        write_leaves_its_neighbours_alone, needs Pci:
            "A write of one byte changes that byte only.";
        write_past_the_end_is_refused:
            "A write outside of its region is refused.";
        write_across_the_end_is_refused:
            "A write that begins inside of its region and ends outside is refused.";
        write_that_wraps_is_refused:
            "The end of an access is not past the end of all numbers.";
        write_to_an_unknown_region_is_refused:
            "A region past those that DEVICE_GET_INFO counts cannot be written.";
        write_to_an_absent_region_is_refused, needs AbsentRegion:
            "A region of no bytes has none to write.";
        write_that_is_refused_changes_nothing, needs Pci:
            "A write that is refused has no effect on the part that lies inside.";
        write_of_nothing_leaves_the_stream_in_step, needs Pci:
            "A write of no bytes succeeds with none, or is refused.";
        write_without_all_fields_is_refused:
            "A request shorter than its 16 bytes has no meaning.";
        write_with_less_data_than_it_says_is_refused, needs Pci:
            "A write has as much data as its count says: of less nothing comes.";
        write_with_more_data_than_it_says_leaves_the_stream_in_step, needs Pci:
            "A write has as much data as its count says; more is part of the message.";
    }
    "Read and Write Operations" {
        write_of_more_than_was_agreed_on_is_refused:
            "The count of a write is at most the server's max_data_xfer_size.";
        write_of_gigabytes_is_refused:
            "The count of a write is a client's number, and does not size a buffer unchecked.";
    }
}

fn write_repeats_the_access(target: &Target) -> Verdict {
    let mut client = target.client()?;
    // `write` fails where the reply has another access, or data.
    client.write(CONFIG, SCRATCH, &[0])?;
    client.write(CONFIG, SCRATCH, &[1, 0])?;
    client.is_in_step()
}

fn write_is_read_back(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for value in [0x55, 0xaa, 0x01, 0xfe, 0] {
        client.write(CONFIG, SCRATCH, &[value])?;
        let read = client.scratch()?;
        ensure!(read == value, "{value:#x} was written, {read:#x} is read");
    }
    Ok(())
}

fn write_leaves_its_neighbours_alone(target: &Target) -> Verdict {
    let mut client = target.client()?;
    client.write(CONFIG, SCRATCH, &[0])?;
    let mut expected = client.read(CONFIG, 0, 64)?;
    client.write(CONFIG, SCRATCH, &[0x7e])?;
    let after = client.read(CONFIG, 0, 64)?;
    expected[usize::try_from(SCRATCH).unwrap_or(0)] = 0x7e;
    ensure!(after == expected, "it was {expected:x?}, and is {after:x?}");
    Ok(())
}

/// The regions that can be written: index and size.
fn writable(client: &mut Client) -> Result<Vec<(u32, u64)>, Unmet> {
    let mut regions = client.regions()?;
    regions.retain(|region| region.info.flags.contains(RegionFlags::WRITE));
    let regions = regions.iter().map(|region| &region.info);
    Ok(regions.map(|info| (info.index, info.size)).collect())
}

fn refused(client: &mut Client, region: u32, offset: u64, len: u32) -> Verdict {
    let place = format!("{len} bytes at {offset:#x} of region {region}");
    let data = vec![0; usize::try_from(len).unwrap_or(0)];
    client
        .refuses(Command::RegionWrite, &access(region, offset, len, &data))
        .within(&place)?;
    client.is_in_step().within(&place)
}

fn write_past_the_end_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for (region, size) in writable(&mut client)? {
        for offset in [size, size + 0x1000, 1 << 40, 1 << 63] {
            refused(&mut client, region, offset, 4)?;
        }
    }
    Ok(())
}

fn write_across_the_end_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for (region, size) in writable(&mut client)? {
        for (back, len) in [(1, 2), (2, 4), (4, 8)] {
            refused(&mut client, region, size - back, len)?;
        }
    }
    Ok(())
}

fn write_that_wraps_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for (region, _) in writable(&mut client)? {
        for (offset, len) in [(u64::MAX, 1), (u64::MAX, 2), (u64::MAX - 3, 8)] {
            refused(&mut client, region, offset, len)?;
        }
    }
    Ok(())
}

fn write_to_an_unknown_region_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let count = client.device_info()?.num_regions;
    for region in [count, count.saturating_add(1), 1 << 31, u32::MAX] {
        refused(&mut client, region, 0, 4)?;
    }
    Ok(())
}

fn write_to_an_absent_region_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for region in 0..client.device_info()?.num_regions.min(256) {
        if client.region_info(region)?.info.size == 0 {
            refused(&mut client, region, 0, 1)?;
        }
    }
    Ok(())
}

fn write_that_is_refused_changes_nothing(target: &Target) -> Verdict {
    let mut client = target.client()?;
    client.write(CONFIG, SCRATCH, &[0x21])?;
    let size = client.region_info(CONFIG)?.info.size;
    // From that byte to past the end.
    let len = u32::try_from(size).unwrap_or(256);
    refused(&mut client, CONFIG, SCRATCH, len)?;
    let read = client.scratch()?;
    ensure!(read == 0x21, "it was 0x21, and is {read:#x}");
    Ok(())
}

fn write_of_nothing_leaves_the_stream_in_step(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let request = access(CONFIG, SCRATCH, 0, &[]);
    match client.connection.ask(10, &request, &[])? {
        Answer::Success(reply) => {
            let is_same = reply.payload == request;
            ensure!(is_same, "the access is not repeated");
        }
        Answer::Refused(_) => {}
        Answer::Closed => ensure!(false, "the connection was closed"),
    }
    client.is_in_step()
}

fn write_without_all_fields_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for len in [0, 4, 8, 12, 15] {
        let request = &access(CONFIG, SCRATCH, 4, &[])[..len];
        client
            .refuses(Command::RegionWrite, request)
            .within(&format!("{len} bytes"))?;
        client.is_in_step()?;
    }
    Ok(())
}

fn write_with_less_data_than_it_says_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    client.write(CONFIG, SCRATCH, &[0x42])?;
    for (count, len) in [(1, 0), (2, 1), (4, 3), (4096, 4)] {
        client
            .refuses(
                Command::RegionWrite,
                &access(CONFIG, SCRATCH, count, &vec![0x99; len]),
            )
            .within(&format!("{len} bytes of {count}"))?;
        let read = client.scratch()?;
        ensure!(read == 0x42, "it was 0x42, and is {read:#x}");
    }
    Ok(())
}

fn write_with_more_data_than_it_says_leaves_the_stream_in_step(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for extra in [1, 3, 16, 100] {
        client.write(CONFIG, SCRATCH, &[0x42])?;
        let request = access(CONFIG, SCRATCH, 1, &vec![0x43; 1 + extra]);
        let answer = client.connection.ask(10, &request, &[])?;
        let place = format!("{extra} bytes more");
        client.is_in_step().within(&place)?;
        let expected = match answer {
            Answer::Success(_) => 0x43,
            Answer::Refused(_) | Answer::Closed => 0x42,
        };
        let read = client.scratch().within(&place)?;
        ensure!(read == expected, "{place}: {read:#x} is read");
    }
    Ok(())
}

fn write_of_more_than_was_agreed_on_is_refused(target: &Target) -> Verdict {
    let most = target.client()?.max_data_xfer_size();
    // To send more than 16 MiB would show nothing more.
    let Some(count) = u32::try_from(most).ok().filter(|most| *most <= 16 << 20) else {
        return write_of_gigabytes_is_refused(target);
    };
    for region in [0, CONFIG] {
        let mut client = target.client()?;
        let data = vec![0; usize::try_from(count).unwrap_or(0) + 1];
        let request = access(region, 0, count + 1, &data);
        // Longer than any message, so that it may end the connection.
        if let Answer::Success(_) = client.connection.ask(10, &request, &[])? {
            return Err(Unmet::fail(format!("{} bytes were written", count + 1)));
        }
    }
    target.client().within("the next client")?.is_in_step()
}

fn write_of_gigabytes_is_refused(target: &Target) -> Verdict {
    for count in [0x8000_0000, 0xf000_0000, u32::MAX] {
        let mut client = target.client()?;
        client
            .refuses(
                Command::RegionWrite,
                &access(CONFIG, SCRATCH, count, &[0; 8]),
            )
            .within(&format!("{count:#x} bytes"))?;
        client.is_in_step()?;
    }
    Ok(())
}
