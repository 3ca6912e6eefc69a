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
    /// A number of bytes that the reply may have, with 8 more before it.
    Room,
    /// Any bytes; their number comes before them, and before it 8 more.
    Piece,
}

use Field::{Counted, Data, Fixed, Piece, Room, U32, U64, Writes};

/// DEVICE_FEATURE's second word: what is done with which feature.
mod feature {
    pub(super) const SET_STATE: u32 = 0x2_0002;
    pub(super) const START_LOGGING: u32 = 0x2_0006;
    pub(super) const STOP_LOGGING: u32 = 0x2_0007;
    pub(super) const REPORT_LOGGING: u32 = 0x1_0008;
}

/// Commands as they are when they are well formed; a step names one by its place.
pub(super) const LAYOUTS: [(Command, &[Field]); 19] = [
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
    (
        Command::DeviceGetRegionIoFds,
        &[U32, Fixed(0), U32, Fixed(0)],
    ),
    (Command::DeviceFeature, &[U32, U32, Data]),
    (Command::MigDataRead, &[Room]),
    (Command::MigDataWrite, &[Piece]),
    (
        Command::DeviceFeature,
        &[Fixed(16), Fixed(feature::SET_STATE), U32, Fixed(0)],
    ),
    (
        Command::DeviceFeature,
        &[U32, Fixed(feature::START_LOGGING), U64, U32, Fixed(0), Data],
    ),
    (
        Command::DeviceFeature,
        &[U32, Fixed(feature::REPORT_LOGGING), U64, U64, U64],
    ),
    (
        Command::DeviceFeature,
        &[Fixed(8), Fixed(feature::STOP_LOGGING)],
    ),
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
            Room => {
                let size = input.number() as u32;
                out.extend(size.saturating_add(8).to_ne_bytes());
                out.extend(size.to_ne_bytes());
            }
            Piece => {
                let len = input.len();
                write_piece(input.bytes(len), out);
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

/// Appends the payload of MIG_DATA_WRITE.
pub(in crate::session) fn write_piece(data: &[u8], out: &mut Vec<u8>) {
    let len = data.len() as u32;
    out.extend(len.saturating_add(8).to_ne_bytes());
    out.extend(len.to_ne_bytes());
    out.extend(data);
}
