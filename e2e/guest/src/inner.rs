//! A client of a vGPU inside the guest: it reads a register of an `edu` for as long as it can.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::Failure;

/// How long an answer may take: what QEMU waits for one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Messages and their lengths, of the vfio-user protocol 0.9.
const VERSION: u16 = 1;
const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;
const HEADER_LEN: usize = 16;
const ACCESS_LEN: usize = 16;

/// `edu`'s liveness register, which answers with the complement of what was written.
const BAR0: u32 = 0;
const LIVENESS: u64 = 4;
const WRITTEN: u32 = 0x1234_abcd;

/// After so many reads the file is written anew.
const ROUND: u64 = 64;

/// Writes to the register once, and reads it from then on: what it was told must stay there. Ends
/// only by a failure.
pub(crate) fn run(socket: &Path, file: &Path) -> Result<(), Failure> {
    let mut client = Client {
        stream: UnixStream::connect(socket)?,
        next_id: 0,
    };
    client.stream.set_read_timeout(Some(PATIENCE))?;
    // Version 0.0, and what is offered: nothing.
    client.ask(VERSION, b"\0\0\0\0{}\0")?;
    client.write(WRITTEN)?;
    for count in 1.. {
        let value = client.read()?;
        if value != !WRITTEN {
            return Err(format!("read {count} gave {value:#x}").into());
        }
        if count % ROUND == 0 {
            // Moved into place, so that nobody reads half a number.
            let new = file.with_extension("new");
            fs::write(&new, count.to_string())?;
            fs::rename(&new, file)?;
        }
    }
    Ok(())
}

struct Client {
    stream: UnixStream,
    next_id: u16,
}

impl Client {
    fn write(&mut self, value: u32) -> Result<(), Failure> {
        let mut access = access();
        access.extend(value.to_le_bytes());
        self.ask(REGION_WRITE, &access).map(drop)
    }

    fn read(&mut self) -> Result<u32, Failure> {
        let payload = self.ask(REGION_READ, &access())?;
        let bytes = payload.get(ACCESS_LEN..).ok_or("a short reply")?;
        Ok(u32::from_le_bytes(bytes.try_into()?))
    }

    /// Sends a request; returns what follows the header of its reply, which must tell no error.
    fn ask(&mut self, command: u16, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let mut message = id.to_le_bytes().to_vec();
        message.extend(command.to_le_bytes());
        message.extend(u32::try_from(HEADER_LEN + payload.len())?.to_le_bytes());
        message.extend([0; 8]); // flags: a command; no error
        message.extend(payload);
        self.stream.write_all(&message)?;
        let mut header = [0; HEADER_LEN];
        self.stream.read_exact(&mut header)?;
        let [id_0, id_1, command_0, command_1, rest @ ..] = header;
        let is_its = [id_0, id_1] == id.to_le_bytes()
            && [command_0, command_1] == command.to_le_bytes()
            // flags: a reply, no error
            && rest[4..8] == [1, 0, 0, 0];
        if !is_its {
            return Err(format!("{command} was answered with {header:x?}").into());
        }
        let len = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]);
        let mut payload = vec![0; (len as usize).saturating_sub(HEADER_LEN)];
        self.stream.read_exact(&mut payload)?;
        Ok(payload)
    }
}

/// Four bytes of the register: offset, region, count.
fn access() -> Vec<u8> {
    let mut access = LIVENESS.to_le_bytes().to_vec();
    access.extend(BAR0.to_le_bytes());
    access.extend(4_u32.to_le_bytes());
    access
}
