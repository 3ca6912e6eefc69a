//! DEVICE_GET_IRQ_INFO.

use vfu::wire::Command;
use vfu::wire::irq::IrqFlags;

use crate::check::{Verdict, Within};
use crate::connection::Answer;
use crate::payload::words;
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "VFIO_USER_DEVICE_GET_IRQ_INFO" {
        irq_info_has_16_bytes:
            "The reply to DEVICE_GET_IRQ_INFO has 16 bytes, and its argsz says so.";
        irq_info_is_there_for_every_type:
            "Each type that DEVICE_GET_INFO counts can be asked about, and says which it is.";
        irq_info_counts_are_those_of_pci, needs Pci:
            "PCI has at most one INTx, 32 MSI and 2048 MSI-X vectors.";
        irq_info_of_an_unknown_type_is_refused:
            "A type past those that DEVICE_GET_INFO counts does not exist.";
        irq_info_without_all_fields_is_refused:
            "A request shorter than its 16 bytes has no meaning.";
        irq_info_with_a_small_argsz_tells_the_need:
            "Where the reply does not fit argsz, the server refuses or tells what is needed.";
        irq_info_with_a_larger_argsz_is_the_same:
            "argsz is what the client has room for; the reply is as long as it needs to be.";
        irq_info_of_an_automasked_type_is_maskable:
            "What masks itself is unmasked by the client, so it can be.";
    }
}

fn irq_info_has_16_bytes(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let reply = client.accepts(Command::DeviceGetIrqInfo, &words(&[16, 0, 0, 0]))?;
    let len = reply.payload.len();
    ensure!(len == 16, "the payload has {len} bytes");
    let argsz = reply.payload.starts_with(&16_u32.to_ne_bytes());
    ensure!(argsz, "argsz is not 16");
    ensure!(reply.fds.is_empty(), "descriptors came with it");
    Ok(())
}

fn irq_info_is_there_for_every_type(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for index in 0..client.device_info()?.num_irqs.min(256) {
        let info = client.irq_info(index).within(&format!("type {index}"))?;
        ensure!(info.index == index, "{index} was asked, {info:?} answered");
    }
    Ok(())
}

fn irq_info_counts_are_those_of_pci(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let types = client.device_info()?.num_irqs;
    for (index, most) in (0..types).zip([1, 32, 2048, 1, 1]) {
        let count = client.irq_info(index)?.count;
        ensure!(count <= most, "type {index} has {count} interrupts");
    }
    Ok(())
}

fn irq_info_of_an_unknown_type_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let count = client.device_info()?.num_irqs;
    for index in [count, count.saturating_add(1), 1 << 31, u32::MAX] {
        client
            .refuses(Command::DeviceGetIrqInfo, &words(&[16, 0, index, 0]))
            .within(&format!("type {index}"))?;
        client.is_in_step()?;
    }
    Ok(())
}

fn irq_info_without_all_fields_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for len in [0, 1, 8, 12, 15] {
        let request = &words(&[16, 0, 0, 0])[..len];
        client
            .refuses(Command::DeviceGetIrqInfo, request)
            .within(&format!("{len} bytes"))?;
    }
    client.is_in_step()
}

fn irq_info_with_a_small_argsz_tells_the_need(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for argsz in [0, 1, 15] {
        let request = words(&[argsz, 0, 0, 0]);
        match client.connection.ask(7, &request, &[])? {
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

fn irq_info_with_a_larger_argsz_is_the_same(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let exact = client.accepts(Command::DeviceGetIrqInfo, &words(&[16, 0, 0, 0]))?;
    for argsz in [17, 32, 4096, u32::MAX] {
        let more = client.accepts(Command::DeviceGetIrqInfo, &words(&[argsz, 0, 0, 0]))?;
        let is_same = more.payload == exact.payload;
        ensure!(is_same, "argsz {argsz} changes the reply");
    }
    Ok(())
}

fn irq_info_of_an_automasked_type_is_maskable(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for index in 0..client.device_info()?.num_irqs.min(256) {
        let flags = client.irq_info(index)?.flags;
        let is_right = !flags.contains(IrqFlags::AUTOMASKED) || flags.contains(IrqFlags::MASKABLE);
        ensure!(is_right, "the flags of type {index} are {flags:?}");
    }
    Ok(())
}
