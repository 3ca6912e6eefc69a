//! DEVICE_GET_INFO.

use vfu::wire::Command;
use vfu::wire::device::DeviceFlags;

use crate::check::{Verdict, Within};
use crate::connection::Answer;
use crate::payload::words;
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "VFIO_USER_DEVICE_GET_INFO" {
        device_info_has_16_bytes:
            "The reply to DEVICE_GET_INFO has 16 bytes, and its argsz says so.";
        device_info_is_of_a_pci_device:
            "The only kind of device there is for now is PCI, so its flag is set.";
        device_info_counts_the_regions_of_pci:
            "A PCI device has at least the nine regions that VFIO gives it an index for.";
        device_info_counts_interrupts:
            "The number of interrupt types is that of types which can be asked about: at least one.";
        device_info_with_a_larger_argsz_is_the_same:
            "argsz is what the client has room for; the reply is as long as it needs to be.";
        device_info_without_all_fields_is_refused:
            "A request shorter than its 16 bytes has no meaning.";
        device_info_with_a_small_argsz_tells_the_need:
            "Where the reply does not fit argsz, the server refuses or tells what is needed.";
        device_info_is_the_same_when_asked_again:
            "What a device is does not change while it is asked about.";
    }
}

fn device_info_has_16_bytes(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let reply = client.accepts(Command::DeviceGetInfo, &words(&[16, 0, 0, 0]))?;
    let len = reply.payload.len();
    ensure!(len == 16, "the payload has {len} bytes");
    let argsz = reply.payload.starts_with(&16_u32.to_ne_bytes());
    ensure!(argsz, "argsz is not 16");
    ensure!(reply.fds.is_empty(), "descriptors came with it");
    Ok(())
}

fn device_info_is_of_a_pci_device(target: &Target) -> Verdict {
    let flags = target.client()?.device_info()?.flags;
    ensure!(flags.contains(DeviceFlags::PCI), "the flags are {flags:?}");
    Ok(())
}

fn device_info_counts_the_regions_of_pci(target: &Target) -> Verdict {
    let count = target.client()?.device_info()?.num_regions;
    ensure!(count >= 9, "it has {count} regions");
    Ok(())
}

fn device_info_counts_interrupts(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let count = client.device_info()?.num_irqs;
    ensure!(count >= 1, "it has no interrupt types");
    client.irq_info(count - 1).within("the last type").map(drop)
}

fn device_info_with_a_larger_argsz_is_the_same(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let exact = client.accepts(Command::DeviceGetInfo, &words(&[16, 0, 0, 0]))?;
    for argsz in [17, 32, 4096, u32::MAX] {
        let more = client.accepts(Command::DeviceGetInfo, &words(&[argsz, 0, 0, 0]))?;
        let is_same = more.payload == exact.payload;
        ensure!(is_same, "argsz {argsz} changes the reply");
    }
    Ok(())
}

fn device_info_without_all_fields_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for len in [0, 1, 4, 8, 15] {
        let request = &words(&[16, 0, 0, 0])[..len];
        client
            .refuses(Command::DeviceGetInfo, request)
            .within(&format!("{len} bytes"))?;
    }
    client.is_in_step()
}

fn device_info_with_a_small_argsz_tells_the_need(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for argsz in [0, 1, 15] {
        let request = words(&[argsz, 0, 0, 0]);
        let command = Command::DeviceGetInfo as u16;
        match client.connection.ask(command, &request, &[])? {
            Answer::Refused(_) => {}
            Answer::Success(reply) => {
                let needed = reply.payload.starts_with(&16_u32.to_ne_bytes());
                ensure!(needed, "argsz {argsz} is answered with another than 16");
            }
            Answer::Closed => ensure!(false, "argsz {argsz} closes the connection"),
        }
    }
    client.is_in_step()
}

fn device_info_is_the_same_when_asked_again(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let first = client.device_info()?;
    let second = client.device_info()?;
    ensure!(first == second, "{first:?}, then {second:?}");
    drop(client);
    let third = target.client()?.device_info()?;
    ensure!(first == third, "{first:?}, and to another client {third:?}");
    Ok(())
}
