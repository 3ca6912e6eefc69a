//! DEVICE_RESET.

use vfu::wire::Command;

use crate::check::{Verdict, Within};
use crate::negotiated::{CONFIG, SCRATCH};
use crate::payload::access;
use crate::target::Target;
use crate::{checks, ensure};

/// The command register of PCI config space, and the bits that let a device act.
const COMMAND: u64 = 4;
const MEMORY_AND_BUS_MASTER: u8 = 6;

checks! {
    "VFIO_USER_DEVICE_RESET" {
        reset_succeeds, needs Reset:
            "A device that says that it can be reset can be.";
        reset_has_a_reply_without_payload, needs Reset:
            "The reply to DEVICE_RESET has no payload.";
        reset_with_a_payload_leaves_the_stream_in_step, needs Reset:
            "DEVICE_RESET has no payload; one that comes all the same is part of the message.";
        reset_works_again_and_again, needs Reset:
            "A device can be reset any number of times.";
        reset_stops_the_device_from_acting, needs Reset Pci:
            "After its reset a PCI device answers no memory access and masters no bus.";
        reset_keeps_what_the_device_is, needs Reset:
            "A reset changes neither regions nor interrupt types.";
        reset_without_a_reply_is_done_before_the_next_reply, needs Reset Pci:
            "A DEVICE_RESET that wants no reply is done before the command behind it.";
    }
}

fn reset_succeeds(target: &Target) -> Verdict {
    let mut client = target.client()?;
    client.reset()?;
    client.is_in_step()
}

fn reset_has_a_reply_without_payload(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let reply = client.accepts(Command::DeviceReset, &[])?;
    let len = reply.payload.len();
    ensure!(len == 0, "the payload has {len} bytes");
    ensure!(reply.fds.is_empty(), "descriptors came with it");
    Ok(())
}

fn reset_with_a_payload_leaves_the_stream_in_step(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for len in [1, 4, 16, 100] {
        client.connection.ask(13, &vec![0; len], &[])?;
        client.is_in_step().within(&format!("{len} bytes"))?;
    }
    Ok(())
}

fn reset_works_again_and_again(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for _ in 0..20 {
        client.reset()?;
    }
    client.is_in_step()
}

fn reset_stops_the_device_from_acting(target: &Target) -> Verdict {
    let mut client = target.client()?;
    client.write(CONFIG, COMMAND, &[MEMORY_AND_BUS_MASTER, 0])?;
    client.reset()?;
    let command = client.read(CONFIG, COMMAND, 2)?;
    ensure!(
        command[0] & MEMORY_AND_BUS_MASTER == 0,
        "its command register is {:#x} afterwards",
        command[0]
    );
    Ok(())
}

fn reset_keeps_what_the_device_is(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let before = (client.device_info()?, client.regions()?);
    client.reset()?;
    let after = (client.device_info()?, client.regions()?);
    ensure!(before.0 == after.0, "{:?}, then {:?}", before.0, after.0);
    let infos = |regions: &[crate::negotiated::RegionAnswer]| {
        let infos = regions.iter().map(|region| region.payload.clone());
        infos.collect::<Vec<_>>()
    };
    let is_same = infos(&before.1) == infos(&after.1);
    ensure!(is_same, "the regions are others afterwards");
    Ok(())
}

fn reset_without_a_reply_is_done_before_the_next_reply(target: &Target) -> Verdict {
    let mut client = target.client()?;
    client.write(CONFIG, COMMAND, &[MEMORY_AND_BUS_MASTER, 0])?;
    client.post(Command::DeviceReset, &[])?;
    let command = client.read(CONFIG, COMMAND, 2)?;
    ensure!(
        command[0] & MEMORY_AND_BUS_MASTER == 0,
        "it was not reset when the reply behind it came"
    );
    client.post(Command::RegionWrite, &access(CONFIG, SCRATCH, 1, &[0]))?;
    client.is_in_step()
}
