//! A client of one seat: what a VMM and its guest would do.

use std::path::Path;

use guest::pattern;
use vfu::client::{Client, ClientError};
use vfu::wire::region::RegionFlags;

use crate::mapping::Mapping;
use crate::{Failure, asked};

/// Regions.
const MEMORY: u32 = 0;
pub(crate) const REGISTERS: u32 = 2;

/// Most bytes of a message's.
const PIECE: usize = 64 << 10;

const XRES: u64 = 0x502;
const YRES: u64 = 0x504;
const BPP: u64 = 0x506;
const ENABLE: u64 = 0x508;
const VIRT_WIDTH: u64 = 0x50c;
const X_OFFSET: u64 = 0x510;
const Y_OFFSET: u64 = 0x512;

/// A display, as its client has it.
pub(crate) struct Display {
    /// `None` once it has hung up; what it maps it still has.
    client: Option<Client>,
    size: u64,
    mapping: Option<Mapping>,
}

pub(crate) fn run(seat: &str, name: &str) -> Result<(), Failure> {
    let path = match seat.starts_with('/') {
        true => seat.to_owned(),
        false => format!("/tmp/seat-{seat}"),
    };
    let mut display = Display::connect(Path::new(&path))?;
    asked::serve(&format!("/tmp/client-{name}"), |words| {
        display.answer(words)
    })
}

impl Display {
    pub(crate) fn connect(path: &Path) -> Result<Self, Failure> {
        Self::new(Client::connect(path)?)
    }

    pub(crate) fn new(mut client: Client) -> Result<Self, Failure> {
        let (info, fds) = client.region_info(MEMORY)?;
        let is_mapped = info.flags.contains(RegionFlags::MMAP);
        let mapping = match (is_mapped, fds.first()) {
            (true, Some(file)) => Some(Mapping::new(file, info.offset, info.size)?),
            (false, None) => None,
            _ => return Err("a file without leave to map it, or the other way round".into()),
        };
        Ok(Self {
            client: Some(client),
            size: info.size,
            mapping,
        })
    }

    fn answer(&mut self, words: &[&str]) -> Result<Option<String>, Failure> {
        Ok(Some(match *words {
            ["draw", width, height, seed, top] => {
                let (width, height) = (width.parse()?, height.parse()?);
                self.draw(width, height, seed.parse()?, top.parse()?)?;
                "drawn".to_owned()
            }
            ["pan", top] => {
                self.set(Y_OFFSET, top.parse()?)?;
                "panned".to_owned()
            }
            ["fill", byte] => {
                let line = vec![byte.parse()?; PIECE];
                for at in (0..self.size).step_by(PIECE) {
                    self.write(at, &line)?;
                }
                "filled".to_owned()
            }
            ["check", byte] => {
                let expected = vec![byte.parse()?; PIECE];
                let mut found = expected.clone();
                for at in (0..self.size).step_by(PIECE) {
                    self.read(at, &mut found)?;
                    if found != expected {
                        return Err(format!("something else at {at:#x}").into());
                    }
                }
                format!("{} MiB right", self.size >> 20)
            }
            ["bounds"] => self.bounds()?,
            ["hang-up"] => {
                self.client = None;
                "hung up".to_owned()
            }
            ["end"] => return Ok(None),
            _ => return Err("no such request".into()),
        }))
    }

    /// Draws a test picture whose first line is line `top` of video memory, and shows it.
    fn draw(&mut self, width: u16, height: u16, seed: u32, top: u16) -> Result<(), Failure> {
        let mut row = vec![0; usize::from(width) * 4];
        for y in 0..height {
            pattern::fill_row(seed, y.into(), &mut row);
            let at = (u64::from(top) + u64::from(y)) * row.len() as u64;
            self.write(at, &row)?;
        }
        self.set_mode(width, height, top)
    }

    /// Shows what is in video memory from line `top` on.
    pub(crate) fn set_mode(&mut self, width: u16, height: u16, top: u16) -> Result<(), Failure> {
        mode(width, height, top)
            .into_iter()
            .try_for_each(|(register, value)| self.set(register, value))
    }

    pub(crate) fn write(&mut self, at: u64, data: &[u8]) -> Result<(), Failure> {
        match &self.mapping {
            Some(mapping) => mapping.write(usize::try_from(at)?, data),
            None => Ok(self.client()?.region_write(MEMORY, at, data)?),
        }
    }

    fn read(&mut self, at: u64, data: &mut [u8]) -> Result<(), Failure> {
        match &self.mapping {
            Some(mapping) => mapping.read(usize::try_from(at)?, data),
            None => Ok(self.client()?.region_read(MEMORY, at, data)?),
        }
    }

    fn set(&mut self, register: u64, value: u16) -> Result<(), Failure> {
        let value = value.to_le_bytes();
        Ok(self.client()?.region_write(REGISTERS, register, &value)?)
    }

    fn client(&mut self) -> Result<&mut Client, Failure> {
        Ok(self.client.as_mut().ok_or("it has hung up")?)
    }

    /// Accesses by message at both ends of the memory: those that are not all inside are refused, and the
    /// connection goes on.
    fn bounds(&mut self) -> Result<String, Failure> {
        let size = self.size;
        let mut refused = 0;
        for (at, len, is_in) in [
            (0, 4, true),
            (size - 4, 4, true),
            (size - 3, 4, false),
            (size - 1, 2, false),
            (size, 1, false),
            (size, 4096, false),
            (2 * size, 4, false),
            (u64::MAX - 3, 4, false),
            (u64::MAX - 3, 8, false),
            (size.wrapping_neg(), 4, false),
        ] {
            let mut data = vec![0; len];
            let client = self.client()?;
            let read = client.region_read(MEMORY, at, &mut data);
            let written = client.region_write(MEMORY, at, &data);
            for done in [read, written] {
                match done {
                    Ok(()) if is_in => {}
                    Err(ClientError::Refused(_)) if !is_in => refused += 1,
                    other => return Err(format!("{at:#x}+{len}: {other:?}").into()),
                }
            }
        }
        Ok(format!("{refused} refused"))
    }
}

/// The registers that set a mode, and what shows video memory from line `top` on; in this order.
pub(crate) fn mode(width: u16, height: u16, top: u16) -> [(u64, u16); 8] {
    [
        (ENABLE, 0),
        (BPP, 32),
        (XRES, width),
        (YRES, height),
        (VIRT_WIDTH, width),
        (X_OFFSET, 0),
        (Y_OFFSET, top),
        // With what is there: a VGA card would clear it.
        (ENABLE, 0xc1),
    ]
}
