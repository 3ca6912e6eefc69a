//! What a server gives a client: doorbells, memory to map, and the state of the device.

use std::os::fd::OwnedFd;

use vfu::wire::Command;
use vfu::wire::migration::MigDataRead;

/// Most bytes of a state that are kept, and most descriptors of a kind.
const MAX_STREAM: usize = 256 << 10;
const MAX_FDS: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Gained {
    bells: Vec<OwnedFd>,
    mapped: Vec<OwnedFd>,
    pub(super) stream: Vec<u8>,
}

impl Gained {
    /// Takes what came with an answer. What is left is none of this.
    pub(super) fn take(&mut self, command: u16, payload: &[u8], fds: Vec<OwnedFd>) -> Vec<OwnedFd> {
        let kept = match Command::try_from(command) {
            Ok(Command::DeviceGetRegionIoFds) => &mut self.bells,
            Ok(Command::DeviceGetRegionInfo) => &mut self.mapped,
            Ok(Command::MigDataRead) => {
                let data = MigDataRead::parse_reply(payload).unwrap_or_default();
                let room = MAX_STREAM - self.stream.len();
                self.stream.extend(&data[..data.len().min(room)]);
                return fds;
            }
            _ => return fds,
        };
        kept.extend(fds);
        kept.truncate(MAX_FDS);
        Vec::new()
    }

    /// Writes a number to a doorbell.
    pub(super) fn ring(&self, choice: u8, number: u64) {
        if let Some(bell) = choose(&self.bells, choice) {
            // A full one is full.
            let _ = rustix::io::write(bell, &number.to_ne_bytes());
        }
    }

    /// Writes a byte to memory that could be mapped.
    pub(super) fn poke(&self, choice: u8, at: u64, byte: u8) {
        if let Some(memory) = choose(&self.mapped, choice) {
            // Past the end there is none.
            let _ = rustix::io::pwrite(memory, &[byte], at);
        }
    }
}

fn choose(from: &[OwnedFd], choice: u8) -> Option<&OwnedFd> {
    from.get(usize::from(choice) % from.len().max(1))
}
