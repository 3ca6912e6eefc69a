//! The commands as they are when they are well formed.

use vfu::wire::Command;

use crate::input::Input;

/// A field of a command's payload.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    /// Always this.
    Fixed(u32),
    U32,
    U64,
    /// Any bytes; their number comes before them.
    Counted,
    /// Any bytes.
    Data,
    /// Any number of entries of REGION_WRITE_MULTI, and how many before them.
    Writes,
}

use Field::{Counted, Data, Fixed, U32, U64, Writes};

/// Commands as they are when they are well formed; a step names one by its place.
pub(super) const LAYOUTS: [(Command, &[Field]); 17] = [
    (Command::RegionRead, &[U64, U32, U32]),
    (Command::RegionWrite, &[U64, U32, Counted]),
    (Command::DmaMap, &[Fixed(32), U32, U64, U64, U64]),
    (Command::DmaUnmap, &[Fixed(24), U32, U64, U64]),
    (
        Command::DeviceSetIrqs,
        &[Fixed(20), U32, U32, U32, U32, Data],
    ),
    (Command::DeviceGetInfo, &[Fixed(16), U32, U32, U32]),
    (
        Command::DeviceGetRegionInfo,
        &[U32, U32, U32, U32, U64, U64],
    ),
    (Command::DeviceGetIrqInfo, &[Fixed(16), U32, U32, U32]),
    (Command::RegionWriteMulti, &[Writes]),
    (Command::DeviceReset, &[]),
    (Command::DeviceGetRegionIoFds, &[U32, U32, U32, U32]),
    (Command::DeviceFeature, &[U32, U32, Data]),
    (Command::MigDataRead, &[U32, U32]),
    (Command::MigDataWrite, &[U32, U32, Data]),
    (Command::DmaRead, &[U64, U64]),
    (Command::DmaWrite, &[U64, U64, Data]),
    (Command::Version, &[U32, Data]),
];

impl Field {
    /// Reads a value of the input, and appends it.
    pub(super) fn read(self, input: &mut Input<'_>, out: &mut Vec<u8>) {
        match self {
            Fixed(number) => out.extend(number.to_ne_bytes()),
            U32 => out.extend((input.number() as u32).to_ne_bytes()),
            U64 => out.extend(input.number().to_ne_bytes()),
            Counted => {
                let len = input.len();
                let data = input.bytes(len);
                out.extend((data.len() as u32).to_ne_bytes());
                out.extend(data);
            }
            Data => {
                let len = input.len();
                out.extend(input.bytes(len));
            }
            Writes => {
                let count = input.u8() % 64;
                out.extend(u64::from(count).to_ne_bytes());
                for _ in 0..count {
                    let len = input.u8() % 10;
                    U64.read(input, out);
                    U32.read(input, out);
                    out.extend(u32::from(len).to_ne_bytes());
                    let mut data = input.bytes(len.min(8).into()).to_vec();
                    data.resize(8, 0);
                    out.extend(data);
                }
            }
        }
    }
}
