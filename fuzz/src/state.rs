//! Saved states: a good one with any changes, put into a device. It is taken or refused; what was
//! refused has changed nothing, and what was taken can be saved and taken again.

pub mod edit;

use std::io::{self, Read};

use mdev::device::Reset;
use mdev::migration::Migration;
use mdev::migration::snapshot::{self, SnapshotError};
use mdev::state::{Decoder, Fields, StateError};
use mdev::{MediatedDevice, Services};

use crate::descriptors::OpenDescriptors;
use crate::device::{DeviceKind, look, poke, saved};
use crate::input::Input;

/// Puts a state into a device.
///
/// # Panics
///
/// If the device is another after it was refused, if a state that was taken is not the one that is
/// saved then, or if the device does not work with it.
pub fn state(data: &[u8]) {
    let mut input = Input::new(data);
    let descriptors = OpenDescriptors::count();
    let kind = DeviceKind::choose(input.u8(), input.u8());
    let piece_len = input.len() + 1;
    let stream = edit::stream(kind.saved(), input);
    let is_taken = put_in_all(kind, &stream, piece_len);
    let registers = put_in_registers(kind, &stream, piece_len);
    assert!(registers.is_ok() || !is_taken, "taken, and {registers:?}");
    descriptors.check();
}

/// The way of the operator. Whether the state was taken.
fn put_in_all(kind: DeviceKind, stream: &[u8], piece_len: usize) -> bool {
    let mut device = kind.build(Services::default());
    poke(&mut *device);
    let before = saved(&mut *device);
    let mut pieces = Pieces {
        rest: stream,
        len: piece_len,
    };
    match restore(&mut *device, &mut pieces) {
        Ok(()) => {
            check_taken(kind, &mut *device);
            true
        }
        Err(SnapshotError::State(error)) => {
            assert!(saved(&mut *device) == before, "changed, though {error}");
            false
        }
        Err(error) => panic!("neither taken nor refused: {error}"),
    }
}

/// Restores a device and lets it go on, as a session does.
fn restore(device: &mut dyn MediatedDevice, from: &mut dyn Read) -> Result<(), SnapshotError> {
    let restored = snapshot::restore(device, from);
    migration(device).resume();
    restored
}

/// The device has taken a state, and goes on with it.
fn check_taken(kind: DeviceKind, device: &mut dyn MediatedDevice) {
    let stream = saved(device);
    let mut other = kind.build(Services::default());
    restore(&mut *other, &mut &stream[..]).expect("what was saved is taken");
    // A transfer goes on meanwhile, and ends in an error: there is no guest.
    assert!(
        kind.is_edu() || saved(&mut *other) == stream,
        "saved, taken, saved"
    );
    poke(device);
    device.reset(Reset::Close);
    assert!(look(device).is_but_for_monitor(kind.as_new()), "as new");
}

/// The way of a client, as far as the registers: the device stays stopped, so what is saved is
/// what was taken.
fn put_in_registers(kind: DeviceKind, stream: &[u8], piece_len: usize) -> Result<(), String> {
    let mut device = kind.build(Services::default());
    let in_pieces = put_in(&mut *device, stream, piece_len);
    let mut device = kind.build(Services::default());
    let at_once = put_in(&mut *device, stream, stream.len().max(1));
    let words = |error: StateError| error.to_string();
    let (in_pieces, at_once) = (in_pieces.map_err(words), at_once.map_err(words));
    assert_eq!(in_pieces, at_once, "in pieces it is the same");
    let registers = at_once?;
    let mut other = kind.build(Services::default());
    let migration = migration(&mut *other);
    migration.stop();
    let taken = migration.restore(migration.version(), Fields::of_registers(&registers));
    taken.expect("what was saved is taken");
    assert_eq!(saved_registers(migration), registers, "saved, taken, saved");
    migration.resume();
    poke(&mut *other);
    Ok(())
}

fn put_in(
    device: &mut dyn MediatedDevice,
    stream: &[u8],
    piece_len: usize,
) -> Result<Vec<u8>, StateError> {
    let migration = migration(device);
    migration.stop();
    let lens: Vec<_> = migration.memories().iter().map(|it| it.len()).collect();
    let mut decoder = Decoder::new(migration.kind(), migration.version(), lens)?;
    for piece in stream.chunks(piece_len) {
        decoder.feed(piece)?;
    }
    let decoded = decoder.finish()?;
    let (version, fields) = decoded.registers();
    let before = saved_registers(migration);
    match migration.restore(version, fields) {
        Ok(()) => Ok(saved_registers(migration)),
        Err(error) => {
            assert_eq!(
                saved_registers(migration),
                before,
                "changed, though {error}"
            );
            Err(error)
        }
    }
}

fn migration(device: &mut dyn MediatedDevice) -> &mut dyn Migration {
    device.migration().expect("every type can be saved")
}

fn saved_registers(migration: &mut dyn Migration) -> Vec<u8> {
    let mut registers = Vec::new();
    migration.save(&mut registers);
    registers
}

/// A file that is read in pieces.
struct Pieces<'a> {
    rest: &'a [u8],
    len: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.len.min(out.len());
        self.rest.read(&mut out[..len])
    }
}
