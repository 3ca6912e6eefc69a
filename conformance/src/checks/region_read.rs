//! REGION_READ.

use vfu::wire::Command;
use vfu::wire::region::RegionFlags;

use crate::check::{Verdict, Within};
use crate::connection::Answer;
use crate::negotiated::{CONFIG, Client};
use crate::payload::access;
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "VFIO_USER_REGION_READ" {
        read_repeats_the_access, needs Pci:
            "The reply has the offset, the region and the count, and the data behind them.";
        read_of_config_space_whole, needs Pci:
            "The whole of a config space can be read by one message.";
        read_in_parts_is_read_whole, needs Pci:
            "What is read byte by byte is what is read in one.";
        read_of_every_size, needs Pci:
            "A read may have 1, 2, 4 or 8 bytes, and the same bytes come.";
        read_of_a_device_that_is_there, needs Pci:
            "A PCI device has a vendor ID other than all ones.";
        read_of_the_first_and_the_last_byte:
            "Every readable region can be read from its first byte to its last.";
        read_past_the_end_is_refused:
            "A read outside of its region is refused.";
        read_across_the_end_is_refused:
            "A read that begins inside of its region and ends outside is refused.";
        read_that_wraps_is_refused:
            "The end of an access is not past the end of all numbers.";
        read_of_an_unknown_region_is_refused:
            "A region past those that DEVICE_GET_INFO counts cannot be read.";
        read_of_an_absent_region_is_refused, needs AbsentRegion:
            "A region of no bytes has none to read.";
        read_of_nothing_leaves_the_stream_in_step, needs Pci:
            "A read of no bytes succeeds with none, or is refused.";
        read_without_all_fields_is_refused:
            "A request shorter than its 16 bytes has no meaning.";
        read_with_data_leaves_the_stream_in_step, needs Pci:
            "What follows the fields of a read is part of the message.";
    }
    "Read and Write Operations" {
        read_of_all_that_may_be_read:
            "As much as max_data_xfer_size can be read by one message.";
        read_of_more_than_was_agreed_on_is_refused:
            "The count of a read is at most the server's max_data_xfer_size.";
        read_of_gigabytes_is_refused:
            "The count of a read is a client's number, and does not size a buffer unchecked.";
    }
}

fn read_repeats_the_access(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for (offset, count) in [(0, 4), (2, 2), (8, 4), (0x3c, 1)] {
        // `read` fails where the reply has another access.
        client
            .read(CONFIG, offset, count)
            .within(&format!("{count} bytes at {offset:#x}"))?;
    }
    client.is_in_step()
}

fn config_size(client: &mut Client) -> Result<u32, crate::check::Unmet> {
    let size = client.region_info(CONFIG)?.info.size;
    ensure!(
        (256..=4096).contains(&size),
        "config space has {size} bytes"
    );
    Ok(u32::try_from(size).unwrap_or(256))
}

fn read_of_config_space_whole(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let size = config_size(&mut client)?;
    client.read(CONFIG, 0, size)?;
    client.is_in_step()
}

fn read_in_parts_is_read_whole(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let whole = client.read(CONFIG, 0, 64)?;
    for len in [1, 2, 4] {
        let mut parts = Vec::new();
        for offset in (0..64).step_by(len) {
            let count = u32::try_from(len).unwrap_or(1);
            parts.extend(client.read(CONFIG, offset, count)?);
        }
        ensure!(parts == whole, "in parts of {len}: {parts:x?}");
    }
    Ok(())
}

fn read_of_every_size(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let whole = client.read(CONFIG, 0, 16)?;
    for (count, len) in [(1, 1), (2, 2), (4, 4), (8, 8)] {
        let read = client.read(CONFIG, 0, count)?;
        ensure!(read == whole[..len], "{count} bytes are {read:x?}");
    }
    Ok(())
}

fn read_of_a_device_that_is_there(target: &Target) -> Verdict {
    let vendor = target.client()?.read(CONFIG, 0, 2)?;
    ensure!(vendor != [0xff; 2], "the vendor ID is {vendor:x?}");
    Ok(())
}

/// The regions that can be read: index and size.
fn readable(client: &mut Client) -> Result<Vec<(u32, u64)>, crate::check::Unmet> {
    let mut regions = client.regions()?;
    regions.retain(|region| region.info.flags.contains(RegionFlags::READ));
    let regions = regions.iter().map(|region| &region.info);
    Ok(regions.map(|info| (info.index, info.size)).collect())
}

fn read_of_the_first_and_the_last_byte(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for (region, size) in readable(&mut client)? {
        for offset in [0, size - 1] {
            client
                .read(region, offset, 1)
                .within(&format!("{offset:#x} of region {region}"))?;
        }
    }
    Ok(())
}

fn refused(client: &mut Client, region: u32, offset: u64, count: u32) -> Verdict {
    let place = format!("{count} bytes at {offset:#x} of region {region}");
    client
        .refuses(Command::RegionRead, &access(region, offset, count, &[]))
        .within(&place)?;
    client.is_in_step().within(&place)
}

fn read_past_the_end_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for (region, size) in readable(&mut client)? {
        for offset in [size, size + 0x1000, 1 << 40, 1 << 63] {
            refused(&mut client, region, offset, 4)?;
        }
    }
    Ok(())
}

fn read_across_the_end_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for (region, size) in readable(&mut client)? {
        for (back, count) in [(1, 2), (2, 4), (4, 8), (1, 0x1000)] {
            refused(&mut client, region, size - back, count)?;
        }
    }
    Ok(())
}

fn read_that_wraps_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for (region, _) in readable(&mut client)? {
        for (offset, count) in [(u64::MAX, 1), (u64::MAX, 2), (u64::MAX - 3, 8)] {
            refused(&mut client, region, offset, count)?;
        }
    }
    Ok(())
}

fn read_of_an_unknown_region_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let count = client.device_info()?.num_regions;
    for region in [count, count.saturating_add(1), 1 << 31, u32::MAX] {
        refused(&mut client, region, 0, 4)?;
    }
    Ok(())
}

fn read_of_an_absent_region_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for region in 0..client.device_info()?.num_regions.min(256) {
        if client.region_info(region)?.info.size == 0 {
            refused(&mut client, region, 0, 1)?;
        }
    }
    Ok(())
}

fn read_of_nothing_leaves_the_stream_in_step(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let request = access(CONFIG, 0, 0, &[]);
    match client.connection.ask(9, &request, &[])? {
        Answer::Success(reply) => {
            let is_empty = reply.payload == request;
            ensure!(is_empty, "{} bytes came", reply.payload.len());
        }
        Answer::Refused(_) => {}
        Answer::Closed => ensure!(false, "the connection was closed"),
    }
    client.is_in_step()
}

fn read_without_all_fields_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for len in [0, 4, 8, 12, 15] {
        let request = &access(CONFIG, 0, 4, &[])[..len];
        client
            .refuses(Command::RegionRead, request)
            .within(&format!("{len} bytes"))?;
        client.is_in_step()?;
    }
    Ok(())
}

fn read_with_data_leaves_the_stream_in_step(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for len in [1, 4, 16, 100] {
        let request = access(CONFIG, 0, 4, &vec![0; len]);
        client.connection.ask(9, &request, &[])?;
        client.is_in_step().within(&format!("{len} bytes"))?;
    }
    Ok(())
}

fn read_of_all_that_may_be_read(target: &Target) -> Verdict {
    let mut client = target.client()?;
    // More than 16 MiB would show nothing more.
    let most = client.max_data_xfer_size().min(16 << 20);
    let regions = readable(&mut client)?;
    let largest = regions.into_iter().max_by_key(|(_, size)| *size);
    if let Some((region, size)) = largest {
        let count = u32::try_from(size.min(most)).unwrap_or(4);
        client
            .read(region, 0, count)
            .within(&format!("{count:#x} bytes of region {region}"))?;
    }
    client.is_in_step()
}

fn read_of_more_than_was_agreed_on_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let most = u32::try_from(client.max_data_xfer_size()).unwrap_or(u32::MAX - 1);
    for (region, _) in readable(&mut client)? {
        refused(&mut client, region, 0, most + 1)?;
    }
    Ok(())
}

fn read_of_gigabytes_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for count in [0x8000_0000, 0xf000_0000, u32::MAX] {
        refused(&mut client, CONFIG, 0, count)?;
    }
    Ok(())
}
