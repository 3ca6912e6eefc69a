//! What another server has to be told to take the place of this one: the version, the guest's
//! memory, the eventfds of interrupts.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use vfu::wire::dma::{DmaMap, DmaUnmap};
use vfu::wire::header::MessageType;
use vfu::wire::irq::{IrqAction, IrqData, SetIrqs};
use vfu::wire::{Command, Header};

use super::end::{End, Message};

/// What the VMM has set up.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    version: Vec<u8>,
    maps: Vec<(DmaMap, Option<OwnedFd>)>,
    /// By group and vector.
    eventfds: BTreeMap<(u32, u32), OwnedFd>,
    /// Whether memory of the server was given to the VMM.
    pub(crate) gave_memory: bool,
}

impl Journal {
    /// Notes what the VMM asks.
    pub(crate) fn asked(&mut self, message: &Message) -> io::Result<()> {
        match Command::try_from(message.header.command) {
            Ok(Command::Version) => self.version.clone_from(&message.payload),
            Ok(Command::DmaMap) => {
                if let Ok(map) = DmaMap::parse(&message.payload) {
                    let fd = message.fds.first().map(OwnedFd::try_clone).transpose()?;
                    self.maps.push((map, fd));
                }
            }
            Ok(Command::DmaUnmap) => match DmaUnmap::parse(&message.payload) {
                Ok(DmaUnmap::All) => self.maps.clear(),
                Ok(DmaUnmap::One { iova, size }) => self
                    .maps
                    .retain(|(map, _)| (map.iova, map.size) != (iova, size)),
                Err(_) => {}
            },
            Ok(Command::DeviceSetIrqs) => {
                let fds = message.fds.iter().map(OwnedFd::try_clone);
                self.set_irqs(&message.payload, fds.collect::<io::Result<_>>()?);
            }
            _ => {}
        }
        Ok(())
    }

    fn set_irqs(&mut self, payload: &[u8], fds: Vec<OwnedFd>) {
        let Ok(set) = SetIrqs::parse(payload, fds) else {
            return;
        };
        match set.data {
            IrqData::Eventfd(fds) if set.action == IrqAction::Trigger => {
                for (vector, fd) in (set.start..).zip(fds) {
                    match fd {
                        Some(fd) => _ = self.eventfds.insert((set.index, vector), fd),
                        None => _ = self.eventfds.remove(&(set.index, vector)),
                    }
                }
            }
            IrqData::None if set.count == 0 => {
                self.eventfds.retain(|(index, _), _| *index != set.index);
            }
            _ => {}
        }
    }

    /// Notes what the server answers.
    pub(crate) fn answered(&mut self, message: &Message) {
        let Header { command, .. } = message.header;
        let is_region = command == Command::DeviceGetRegionInfo as u16;
        let is_reply = message.header.message_type() == MessageType::Reply;
        self.gave_memory |= is_region && is_reply && !message.fds.is_empty();
    }

    /// Agrees with another server on what was agreed on here.
    pub(crate) fn greet(&self, server: &mut End) -> anyhow::Result<()> {
        server.call(Command::Version, Vec::new(), self.version.clone())?;
        Ok(())
    }

    /// Gives another server the guest's memory. What the first one refused this one may refuse.
    pub(crate) fn map(&self, server: &mut End) -> anyhow::Result<()> {
        for (map, fd) in &self.maps {
            let fd = fd.as_ref().map(OwnedFd::try_clone).transpose()?;
            let mut payload = Vec::new();
            map.emit(&mut payload);
            let mapped = server.call(Command::DmaMap, fd.into_iter().collect(), payload);
            if let Err(error) = mapped {
                eprintln!("vfu-relay: {map:x?}: {error:#}");
            }
        }
        Ok(())
    }

    /// Gives another server the eventfds.
    pub(crate) fn set_up_interrupts(&self, server: &mut End) -> anyhow::Result<()> {
        for ((index, vector), fd) in &self.eventfds {
            let set = SetIrqs {
                index: *index,
                start: *vector,
                count: 1,
                action: IrqAction::Trigger,
                data: IrqData::Eventfd(vec![Some(fd.try_clone()?)]),
            };
            let mut payload = Vec::new();
            set.emit(&mut payload);
            server.call(Command::DeviceSetIrqs, vec![fd.try_clone()?], payload)?;
        }
        Ok(())
    }
}
