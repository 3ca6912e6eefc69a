//! What is made of each command.

use conformance::payload::{self, NO_REPLY, words};
use serde_json::{Value, json};
use vfu::wire::Header;

use super::device::Device;
use super::{End, Fault, Session};

/// What a command brings: a payload, or an error.
type Result<T> = std::result::Result<T, ()>;

const CONFIG: u32 = 7;

impl Session {
    pub(super) fn command(
        &mut self,
        header: &Header,
        payload: &[u8],
        device: &mut Device,
    ) -> std::result::Result<(), End> {
        if header.flags & 0xf == 1 {
            return Ok(());
        }
        if !self.has_version && header.command != 1 && !self.has(Fault::ServesBeforeVersion) {
            return Err(End::Closed);
        }
        let is_posted = header.flags & NO_REPLY != 0;
        if self.has(Fault::PostsWritesLate) && is_posted && header.command == 10 {
            let offset = u64::from_ne_bytes(payload[..8].try_into().unwrap());
            device.late.push((offset, payload[16..].to_vec()));
            return Ok(());
        }
        let outcome = if header.flags & 0xf == 0 {
            self.outcome(header.command, payload, device)
        } else {
            Err(())
        };
        for (offset, data) in std::mem::take(&mut device.late) {
            let _ = device.write(offset, &data);
        }
        let is_new = !self.has_version;
        self.has_version |= header.command == 1 && outcome.is_ok();
        if is_posted && !self.has(Fault::AnswersUnasked) {
            return Ok(());
        }
        self.reply(header, outcome)?;
        if is_new && !self.has_version {
            return Err(End::Closed);
        }
        Ok(())
    }

    fn reply(&mut self, header: &Header, outcome: Result<Vec<u8>>) -> std::result::Result<(), End> {
        let (mut id, mut command) = (header.id, header.command);
        if self.has_version && command != 1 {
            match self.fault {
                Some(Fault::IsSilent) => return Ok(()),
                Some(Fault::AnswersWithAnotherId) => id ^= 0x8000,
                Some(Fault::AnswersWithAnotherCommand) => command += 1,
                Some(Fault::PromisesGigabytes) => {
                    self.send(&payload::header(id, command, 1 << 31, 1), &[])?;
                }
                Some(Fault::ClosesInTheMiddle) => {
                    self.send(&payload::header(id, command, 32, 1), &[])?;
                    return Err(End::Closed);
                }
                Some(Fault::ShowersCommands) => loop {
                    let read = payload::message(1, 11, 0, &[0; 16]);
                    self.send(&read.repeat(100), &[])?;
                },
                _ => {}
            }
        }
        let (flags, data) = match outcome {
            Ok(data) => (1, data),
            Err(()) if self.has(Fault::ClosesAtTheUnknown) => return Err(End::Closed),
            Err(()) if self.has(Fault::ErrsWithAPayload) => (0x21, vec![0; 8]),
            Err(()) => (0x21, vec![]),
        };
        self.send(&payload::message(id, command, flags, &data), &[])
    }

    fn outcome(&mut self, command: u16, payload: &[u8], device: &mut Device) -> Result<Vec<u8>> {
        let is_mapped = matches!(command, 2 | 8);
        if !self.fds.is_empty() && !is_mapped && !self.has(Fault::KeepsDescriptors) {
            return Err(());
        }
        match command {
            1 => self.version(payload),
            2 => (payload.len() == 32 && payload[24..] != [0; 8])
                .then(Vec::new)
                .ok_or(()),
            4 => {
                word(payload, 12)?;
                self.argsz(payload, 16)?;
                let argsz = if self.has(Fault::TellsNoNeed) { 0 } else { 16 };
                Ok(words(&[argsz, 3, 9, 5]))
            }
            5 => self.region_info(payload),
            7 => {
                word(payload, 12)?;
                self.argsz(payload, 16)?;
                let index = word(payload, 8)?;
                (index < 5).then(|| words(&[16, 1, index, 0])).ok_or(())
            }
            9 => {
                let (offset, count) = self.access(payload, 16..=16)?;
                let data = device.read(offset, count).ok_or(())?;
                Ok([payload, &data].concat())
            }
            10 => {
                let (offset, count) = self.access(payload, 16..=usize::MAX)?;
                let data = &payload[16..];
                if data.len() != count as usize {
                    return Err(());
                }
                device.write(offset, data).ok_or(())?;
                Ok(payload[..16].to_vec())
            }
            13 if payload.is_empty() => {
                device.reset();
                Ok(vec![])
            }
            15 => self.multi(payload, device),
            _ => Err(()),
        }
    }

    fn argsz(&self, payload: &[u8], least: u32) -> Result<()> {
        (word(payload, 0)? >= least).then_some(()).ok_or(())
    }

    fn version(&mut self, payload: &[u8]) -> Result<Vec<u8>> {
        let numbers = word(payload, 0)?.to_ne_bytes();
        let [a, b, c, d] = numbers;
        let is_zero = u16::from_ne_bytes([a, b]) == 0;
        if self.has_version || !(is_zero || self.has(Fault::AgreesOnAnyMajor)) {
            return Err(());
        }
        let mut offered = match &payload[4..] {
            [] => json!({}),
            [text @ .., 0] => serde_json::from_slice(text).map_err(|_| ())?,
            _ => return Err(()),
        };
        let mut agreed = serde_json::Map::new();
        match offered.as_object_mut().ok_or(())?.remove("capabilities") {
            None => {}
            Some(Value::Object(offered)) => {
                for key in ["max_msg_fds", "max_data_xfer_size"] {
                    if let Some(value) = offered.get(key) {
                        value.as_u64().ok_or(())?;
                        agreed.insert(key.to_owned(), json!(0x10_0000));
                    }
                }
                if offered.get("write_multiple") == Some(&json!(true)) {
                    agreed.insert("write_multiple".to_owned(), json!(true));
                }
            }
            Some(_) => return Err(()),
        }
        if self.has(Fault::OffersWhatWasNotOffered) {
            agreed.insert("pgsizes".to_owned(), json!(4096));
        }
        let minor = u16::from_ne_bytes([c, d]);
        let minor = minor.min(1) + u16::from(self.has(Fault::AnswersAHigherMinor));
        let text = json!({ "capabilities": agreed }).to_string() + "\0";
        Ok(payload::version(
            u16::from_ne_bytes([a, b]),
            minor,
            text.as_bytes(),
        ))
    }

    fn region_info(&self, payload: &[u8]) -> Result<Vec<u8>> {
        word(payload, 28)?;
        self.argsz(payload, 32)?;
        let index = word(payload, 8)?;
        let (mut flags, size) = if index == CONFIG { (3, 256) } else { (0, 0) };
        if self.has(Fault::HasNoFile) && index == CONFIG {
            flags |= 4;
        }
        (index < 9)
            .then(|| words(&[32, flags, index, 0, size, 0, 0, 0]))
            .ok_or(())
    }

    /// The offset and the count of an access to config space, in a payload of these lengths.
    fn access(&self, payload: &[u8], lens: std::ops::RangeInclusive<usize>) -> Result<(u64, u32)> {
        let head = payload.first_chunk::<16>().ok_or(())?;
        let is_config = word(head, 8)? == CONFIG && lens.contains(&payload.len());
        let offset = u64::from_ne_bytes(head[..8].try_into().map_err(|_| ())?);
        let count = word(head, 12)?;
        is_config.then_some((offset, count)).ok_or(())
    }

    fn multi(&self, payload: &[u8], device: &mut Device) -> Result<Vec<u8>> {
        let (count, rest) = payload.split_first_chunk::<8>().ok_or(())?;
        let entries: Vec<_> = rest.chunks(24).collect();
        if u64::from_ne_bytes(*count) != entries.len() as u64 {
            return Err(());
        }
        let mut writes = Vec::new();
        for entry in entries {
            let (offset, count) = self.access(entry, 24..=24)?;
            let data = entry[16..].get(..count as usize).ok_or(())?;
            device.read(offset, count).ok_or(())?;
            writes.push((offset, data));
        }
        if self.has(Fault::WritesBackwards) {
            writes.reverse();
        }
        for (offset, data) in writes {
            device.write(offset, data).ok_or(())?;
        }
        Ok(count.to_vec())
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(())?;
    Ok(u32::from_ne_bytes(*word))
}
