//! The eventfds by which a client tells of writes to registers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use vfu::Errno;
use vfu::wire::io_fds::{IoEvent, IoEventFlags, RegionIoFds};

use crate::region::{Doorbell, RegionIndex, Regions};

/// A register, and the eventfd that stands for writes to it.
#[derive(Debug)]
pub(super) struct Bell {
    pub(super) region: RegionIndex,
    pub(super) doorbell: Doorbell,
    eventfd: OwnedFd,
}

impl Bell {
    /// The bytes of a write.
    pub(super) fn data(&self) -> Vec<u8> {
        let value = self.doorbell.datamatch.unwrap_or(0).to_le_bytes();
        value.into_iter().take(self.doorbell.size.into()).collect()
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

/// The eventfds of one session, made when they are first asked for: no other client has them.
#[derive(Debug, Default)]
pub(super) struct Doorbells {
    bells: Vec<Bell>,
}

impl Doorbells {
    /// Those that another process has made, in that order. One that was rung may ring once more.
    pub(super) fn restore(regions: &Regions, left: Vec<(u32, OwnedFd)>) -> Self {
        let mut restored = Self::default();
        for (region, eventfd) in left {
            let Some(region) = RegionIndex::from_u32(region) else {
                break;
            };
            let number = restored.of(region).count();
            let Some(doorbell) = regions.region(region).doorbells.get(number) else {
                break;
            };
            restored.bells.push(Bell {
                region,
                doorbell: *doorbell,
                eventfd,
            });
        }
        restored
    }

    /// The bell with this number.
    pub(super) fn get(&self, number: usize) -> Option<&Bell> {
        self.bells.get(number)
    }

    /// All bells from a number on.
    pub(super) fn from(&self, first: usize) -> impl Iterator<Item = (usize, &Bell)> {
        self.bells.iter().enumerate().skip(first)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.bells.len()
    }

    /// Makes those of a region, unless they are there.
    pub(super) fn make(&mut self, regions: &Regions, region: RegionIndex) -> Result<(), Errno> {
        if self.of(region).next().is_some() {
            return Ok(());
        }
        let make = |doorbell: &Doorbell| {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            Ok(Bell {
                region,
                doorbell: *doorbell,
                eventfd: eventfd(0, flags)?,
            })
        };
        let doorbells = regions.region(region).doorbells.iter();
        let made = doorbells.map(make).collect::<Result<Vec<_>, Errno>>()?;
        self.bells.extend(made);
        Ok(())
    }

    /// Those of a region.
    pub(super) fn of(&self, region: RegionIndex) -> impl Iterator<Item = &Bell> {
        self.bells.iter().filter(move |bell| bell.region == region)
    }

    /// What a client is told of those of a region.
    pub(super) fn describe(&self, region: RegionIndex) -> RegionIoFds {
        let events = (0..).zip(self.of(region)).map(|(fd_index, bell)| {
            let doorbell = bell.doorbell;
            let mut flags = IoEventFlags::empty();
            flags.set(IoEventFlags::DATAMATCH, doorbell.datamatch.is_some());
            IoEvent {
                offset: doorbell.offset,
                size: doorbell.size.into(),
                fd_index,
                flags,
                datamatch: doorbell.datamatch.unwrap_or(0),
            }
        });
        RegionIoFds {
            index: region as u32,
            events: events.collect(),
        }
    }
}
