//! What is asked, and how long the answer is.

use vfu::wire::Command;

use super::{Parts, each, parts, word};
use crate::check::{Verdict, Within};
use crate::connection::Answer;
use crate::negotiated::{CONFIG, Client};
use crate::payload::words;
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "VFIO_USER_DEVICE_GET_REGION_IO_FDS" {
        io_fds_of_an_unknown_region_are_refused:
            "A region past those that DEVICE_GET_INFO counts does not exist.";
        io_fds_without_all_fields_are_refused:
            "A request shorter than its 16 bytes has no meaning.";
        io_fds_of_a_region_without_them_leave_the_stream_in_step, needs Pci:
            "A region that has none is refused, or answered with none.";
        io_fds_with_flags_are_refused, needs RegionIoFds:
            "The flags of a request are zero.";
        io_fds_with_a_count_are_refused, needs RegionIoFds:
            "The count of a request is zero.";
        io_fds_with_a_small_argsz_tell_the_need, needs RegionIoFds:
            "Where not even the fixed part fits argsz, the server refuses or tells the need.";
        io_fds_with_a_larger_argsz_are_the_same, needs RegionIoFds:
            "argsz is what the client has room for; the reply is as long as it needs to be.";
        io_fds_that_do_not_fit_are_the_fixed_part, needs RegionIoFds:
            "Where the sub-regions do not fit the reply is its fixed part, without descriptors.";
        io_fds_that_do_not_fit_tell_the_need, needs RegionIoFds:
            "A reply that was cut has the argsz that the whole one needs.";
        io_fds_have_the_length_of_their_argsz, needs RegionIoFds:
            "With room for all of it the reply is as long as its argsz says.";
        io_fds_repeat_the_region, needs RegionIoFds:
            "The reply has the index that was asked, and no flags.";
    }
}

fn refused(client: &mut Client, request: &[u8]) -> Verdict {
    client.refuses(Command::DeviceGetRegionIoFds, request)?;
    client.is_in_step()
}

fn io_fds_of_an_unknown_region_are_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let count = client.device_info()?.num_regions;
    for index in [count, 1 << 31, u32::MAX] {
        refused(&mut client, &words(&[4096, 0, index, 0])).within(&format!("region {index}"))?;
    }
    Ok(())
}

fn io_fds_without_all_fields_are_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for len in [0, 4, 8, 15] {
        let request = &words(&[4096, 0, 0, 0])[..len];
        refused(&mut client, request).within(&format!("{len} bytes"))?;
    }
    Ok(())
}

fn io_fds_of_a_region_without_them_leave_the_stream_in_step(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let request = words(&[4096, 0, CONFIG, 0]);
    if let Answer::Success(reply) = client.connection.ask(6, &request, &[])?
        && word(&reply.payload, 12)? == 0
    {
        let argsz = word(&reply.payload, 0)?;
        ensure!(argsz == 16, "none need argsz {argsz}");
        ensure!(reply.fds.is_empty(), "none come with descriptors");
    }
    client.is_in_step()
}

fn io_fds_with_flags_are_refused(target: &Target) -> Verdict {
    each(target, |client, index, _| {
        for flags in [1, 1 << 31, u32::MAX] {
            refused(client, &words(&[4096, flags, index, 0])).within(&format!("{flags:#x}"))?;
        }
        Ok(())
    })
}

fn io_fds_with_a_count_are_refused(target: &Target) -> Verdict {
    each(target, |client, index, _| {
        for count in [1, u32::MAX] {
            refused(client, &words(&[4096, 0, index, count])).within(&format!("{count}"))?;
        }
        Ok(())
    })
}

fn io_fds_with_a_small_argsz_tell_the_need(target: &Target) -> Verdict {
    each(target, |client, index, whole| {
        let needed = word(&whole.payload, 0)?;
        for argsz in [0, 1, 15] {
            match client
                .connection
                .ask(6, &words(&[argsz, 0, index, 0]), &[])?
            {
                Answer::Refused(_) => {}
                Answer::Success(reply) => {
                    let told = word(&reply.payload, 0)?;
                    ensure!(told == needed, "argsz {argsz} is answered with {told}");
                }
                Answer::Closed => ensure!(false, "argsz {argsz} closes the connection"),
            }
        }
        Ok(())
    })
}

fn io_fds_with_a_larger_argsz_are_the_same(target: &Target) -> Verdict {
    each(target, |client, index, whole| {
        let needed = word(&whole.payload, 0)?;
        for argsz in [needed, needed + 1, u32::MAX] {
            let more = parts(client, index, argsz)?;
            let is_same = more.payload == whole.payload && more.fds.len() == whole.fds.len();
            ensure!(is_same, "argsz {argsz} changes the reply");
        }
        Ok(())
    })
}

/// Asks with too little room for the sub-regions.
fn each_cut(target: &Target, look: impl Fn(&Parts, &Parts) -> Verdict) -> Verdict {
    each(target, |client, index, whole| {
        for argsz in [16, 17, word(&whole.payload, 0)? - 1] {
            let cut = parts(client, index, argsz)?;
            look(whole, &cut).within(&format!("argsz {argsz}"))?;
        }
        Ok(())
    })
}

fn io_fds_that_do_not_fit_are_the_fixed_part(target: &Target) -> Verdict {
    each_cut(target, |_, cut| {
        let (len, fds) = (cut.payload.len(), cut.fds.len());
        ensure!(len == 16, "{len} bytes came");
        ensure!(fds == 0, "{fds} descriptors came");
        Ok(())
    })
}

fn io_fds_that_do_not_fit_tell_the_need(target: &Target) -> Verdict {
    each_cut(target, |whole, cut| {
        let (needed, told) = (word(&whole.payload, 0)?, word(&cut.payload, 0)?);
        ensure!(told == needed, "{needed} are needed, {told} told");
        Ok(())
    })
}

fn io_fds_have_the_length_of_their_argsz(target: &Target) -> Verdict {
    each(target, |_, _, whole| {
        let (argsz, len) = (word(&whole.payload, 0)?, whole.payload.len());
        ensure!(
            usize::try_from(argsz) == Ok(len),
            "argsz is {argsz}, and {len} bytes came"
        );
        Ok(())
    })
}

fn io_fds_repeat_the_region(target: &Target) -> Verdict {
    each(target, |_, index, whole| {
        let (flags, told) = (word(&whole.payload, 4)?, word(&whole.payload, 8)?);
        ensure!(told == index, "the reply is of region {told}");
        ensure!(flags == 0, "the flags are {flags:#x}");
        Ok(())
    })
}
