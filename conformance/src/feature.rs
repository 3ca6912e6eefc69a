//! What a server may offer or leave out, and how to see it from outside.

use vfu::wire::Command;
use vfu::wire::device::DeviceFlags;
use vfu::wire::region::RegionFlags;

use crate::check::Unmet;
use crate::connection::Answer;
use crate::devices::edu;
use crate::migration;
use crate::negotiated::{CONFIG, Client, OFFER, SCRATCH};
use crate::payload;
use crate::target::Target;

/// A part of the protocol that a server may do without, or a device that a check knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// The device is a PCI device whose config space can be read and written.
    Pci,
    /// DEVICE_RESET does something.
    Reset,
    /// Some region can be mapped.
    MappableRegion,
    /// Some region can be mapped in parts.
    SparseRegion,
    /// Some region has no bytes.
    AbsentRegion,
    /// DEVICE_GET_REGION_IO_FDS succeeds for some region.
    RegionIoFds,
    /// The server opens a socket for its own commands if asked to.
    TwinSocket,
    /// The server does REGION_WRITE_MULTI, whether it agrees on it with everybody or not: one
    /// may have reasons to want none from a client that would be slower for it.
    WriteMultiple,
    /// The device can be saved and restored.
    Migration,
    /// The device can be saved while it runs.
    PreCopy,
    /// The server can tell which memory the device has written.
    DmaLogging,
    /// The device is QEMU's `edu`, which does DMA and interrupts when told to.
    Edu,
    /// The device is ours of that kind with the doorbell that DEVICE_GET_REGION_IO_FDS tells of.
    EduDoorbell,
}

impl Feature {
    /// The feature in words, for a check that is skipped without it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Pci => "a PCI device with config space",
            Self::Reset => "device reset",
            Self::MappableRegion => "a region that can be mapped",
            Self::SparseRegion => "a region that can be mapped in parts",
            Self::AbsentRegion => "a region of no bytes",
            Self::RegionIoFds => "region I/O descriptors",
            Self::TwinSocket => "the twin socket",
            Self::WriteMultiple => "REGION_WRITE_MULTI",
            Self::Migration => "migration",
            Self::PreCopy => "migration with PRE_COPY",
            Self::DmaLogging => "the log of DMA writes",
            Self::Edu => "an edu device",
            Self::EduDoorbell => "an edu device with an ioeventfd doorbell",
        }
    }

    /// Whether the server has it. An error means that it could not be asked.
    pub fn probe(self, target: &Target) -> Result<bool, Unmet> {
        let mut client = target.client()?;
        Ok(match self {
            Self::Pci => {
                let info = client.device_info()?;
                info.flags.contains(DeviceFlags::PCI) && info.num_regions > 7
            }
            Self::Reset => client.device_info()?.flags.contains(DeviceFlags::RESET),
            Self::MappableRegion => {
                has_region(&mut client, |flags, _| flags.contains(RegionFlags::MMAP))?
            }
            Self::SparseRegion => has_region(&mut client, |flags, areas| {
                flags.contains(RegionFlags::MMAP) && areas > 0
            })?,
            Self::AbsentRegion => {
                let count = client.device_info()?.num_regions.min(256);
                usize::try_from(count) != Ok(client.regions()?.len())
            }
            Self::RegionIoFds => {
                let count = client.device_info()?.num_regions.min(256);
                drop(client);
                any_io_fds(target, count)?
            }
            Self::TwinSocket => {
                drop(client);
                has_twin_socket(&twin_client(target)?)
            }
            Self::WriteMultiple => writes_multiple(&mut client)?,
            Self::Migration => {
                migration::probes(&mut client, migration::GET | migration::MIGRATION)?
            }
            Self::PreCopy => {
                migration::probes(&mut client, migration::GET | migration::MIGRATION)?
                    && migration::flags(&mut client)? & migration::HAS_PRE_COPY != 0
            }
            Self::DmaLogging => {
                migration::probes(&mut client, migration::SET | migration::LOGGING_START)?
            }
            Self::Edu => edu::is_edu(&mut client)?,
            Self::EduDoorbell => {
                edu::is_edu(&mut client)? && io_fd_regions(&mut client)?.contains(&edu::BAR)
            }
        })
    }
}

fn has_region(
    client: &mut Client,
    is_it: impl Fn(RegionFlags, usize) -> bool,
) -> Result<bool, Unmet> {
    let mut regions = client.regions()?.into_iter();
    Ok(regions.any(|region| is_it(region.info.flags, region.info.sparse.len())))
}

fn writes_multiple(client: &mut Client) -> Result<bool, Unmet> {
    if client.capabilities()["write_multiple"] == true {
        return Ok(true);
    }
    let one = payload::multi(1, &[(CONFIG, SCRATCH, 1, [0; 8])]);
    let command = Command::RegionWriteMulti as u16;
    let answer = client.connection.ask(command, &one, &[])?;
    Ok(matches!(answer, Answer::Success(_)))
}

/// Whether some region has descriptors for its I/O. Each is asked on a connection of its own: a
/// server that does not know the command may be out of step afterwards, which other checks tell.
fn any_io_fds(target: &Target, regions: u32) -> Result<bool, Unmet> {
    for index in 0..regions {
        if has_io_fds(&mut target.client()?, index)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The regions for which DEVICE_GET_REGION_IO_FDS succeeds with at least one sub-region.
pub fn io_fd_regions(client: &mut Client) -> Result<Vec<u32>, Unmet> {
    let mut regions = Vec::new();
    for index in 0..client.device_info()?.num_regions.min(256) {
        if has_io_fds(client, index)? {
            regions.push(index);
        }
    }
    Ok(regions)
}

fn has_io_fds(client: &mut Client, index: u32) -> Result<bool, Unmet> {
    let request = payload::words(&[4096, 0, index, 0]);
    let command = Command::DeviceGetRegionIoFds as u16;
    Ok(match client.connection.ask(command, &request, &[])? {
        Answer::Success(message) => message
            .payload
            .get(12..16)
            .is_some_and(|count| count != [0; 4]),
        Answer::Refused(_) | Answer::Closed => false,
    })
}

/// A client that has offered a twin socket, with what came of it.
pub fn twin_client(target: &Target) -> Result<Client, Unmet> {
    let offer = OFFER.replacen(
        r#""pgsizes""#,
        r#""twin_socket":{"supported":true},"pgsizes""#,
        1,
    );
    Client::negotiate(target.connect()?, 0, &offer)
}

/// Whether the server says that it has opened a twin socket.
pub fn has_twin_socket(client: &Client) -> bool {
    client.capabilities()["twin_socket"]["supported"] == true
}
