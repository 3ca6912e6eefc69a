//! The common configuration (Virtio 1.2, section 4.1.4.3): features, status, where the queues lie.

use mdev::state::{Fields, StateError};

use crate::feature;
use crate::ring::Ring;
use crate::signals::NO_VECTOR;

/// Bits of the device status (section 2.1).
pub(crate) mod status {
    pub(crate) const DRIVER_OK: u8 = 4;
    pub(crate) const FEATURES_OK: u8 = 8;
    pub(crate) const NEEDS_RESET: u8 = 0x40;
    pub(crate) const FAILED: u8 = 0x80;
    /// What a driver sets.
    pub(crate) const OF_THE_DRIVER: u8 = 1 | 2 | DRIVER_OK | FEATURES_OK | FAILED;
}

/// Registers by their offset.
mod offset {
    pub(super) const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub(super) const DEVICE_FEATURE: u64 = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub(super) const DRIVER_FEATURE: u64 = 0x0c;
    pub(super) const CONFIG_VECTOR: u64 = 0x10;
    pub(super) const NUM_QUEUES: u64 = 0x12;
    pub(super) const STATUS: u64 = 0x14;
    pub(super) const CONFIG_GENERATION: u64 = 0x15;
    pub(super) const QUEUE_SELECT: u64 = 0x16;
    pub(super) const QUEUE_SIZE: u64 = 0x18;
    pub(super) const QUEUE_VECTOR: u64 = 0x1a;
    pub(super) const QUEUE_ENABLE: u64 = 0x1c;
    pub(super) const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    pub(super) const QUEUE_DESC: u64 = 0x20;
    pub(super) const QUEUE_DRIVER: u64 = 0x28;
    pub(super) const QUEUE_DEVICE: u64 = 0x30;
    pub(super) const QUEUE_NOTIFY_DATA: u64 = 0x38;
    pub(super) const QUEUE_RESET: u64 = 0x3a;
    pub(super) const END: u64 = 0x3c;
}

/// What a write asks for beyond a register's change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    /// The queues, or whether they run.
    Setup,
    /// The driver has reset the device.
    Reset,
    /// It has reset this queue.
    QueueReset(u16),
}

/// One queue's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueRegisters {
    pub(crate) ring: Ring,
    pub(crate) vector: u16,
    pub(crate) enabled: bool,
    /// Whether the driver has notified of it: then it is looked at again by whoever goes on.
    pub(crate) notified: bool,
}

impl QueueRegisters {
    /// As after a reset.
    fn new(size: u16) -> Self {
        Self {
            ring: Ring {
                size,
                ..Ring::default()
            },
            vector: NO_VECTOR,
            enabled: false,
            notified: false,
        }
    }
}

/// The registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Common {
    /// What is offered.
    offered: u64,
    device_feature_select: u32,
    driver_feature_select: u32,
    pub(crate) driver_features: u64,
    pub(crate) config_vector: u16,
    pub(crate) vectors: u16,
    /// What the driver set; the transport adds whether the device needs a reset.
    pub(crate) status: u8,
    pub(crate) config_generation: u8,
    queue_select: u16,
    sizes: Vec<u16>,
    pub(crate) queues: Vec<QueueRegisters>,
}

/// The register that an access is for, and which bytes of it: all, or a half of one of 64 bits.
fn locate(at: u64, len: usize) -> Option<(u64, u32)> {
    let is = |register: u64, size: usize| (at == register && len == size).then_some((register, 0));
    match at {
        offset::STATUS | offset::CONFIG_GENERATION => is(at, 1),
        offset::DEVICE_FEATURE_SELECT
        | offset::DEVICE_FEATURE
        | offset::DRIVER_FEATURE_SELECT
        | offset::DRIVER_FEATURE => is(at, 4),
        offset::QUEUE_DESC..offset::QUEUE_NOTIFY_DATA => {
            let register = at & !7;
            match len {
                8 => is(register, 8),
                4 if at.is_multiple_of(4) => Some((register, if at & 4 == 0 { 0 } else { 32 })),
                _ => None,
            }
        }
        offset::CONFIG_VECTOR
        | offset::NUM_QUEUES
        | offset::QUEUE_SELECT..offset::QUEUE_DESC
        | offset::QUEUE_NOTIFY_DATA..offset::END => {
            at.is_multiple_of(2).then(|| is(at, 2)).flatten()
        }
        _ => None,
    }
}

impl Common {
    pub(crate) fn new(features: u64, sizes: &[u16], vectors: u16) -> Self {
        Self {
            offered: features | feature::OF_THE_TRANSPORT,
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            config_vector: NO_VECTOR,
            vectors,
            status: 0,
            config_generation: 0,
            queue_select: 0,
            sizes: sizes.to_vec(),
            queues: sizes
                .iter()
                .map(|size| QueueRegisters::new(*size))
                .collect(),
        }
    }

    /// As after a reset. What counts changes of the configuration counts on.
    pub(crate) fn reset(&mut self) {
        let generation = self.config_generation;
        *self = Self::new(self.offered, &self.sizes, self.vectors);
        self.config_generation = generation;
    }

    /// One queue becomes as after a reset.
    pub(crate) fn reset_queue(&mut self, queue: u16) {
        let number = usize::from(queue);
        if let Some((queue, size)) = self.queues.get_mut(number).zip(self.sizes.get(number)) {
            *queue = QueueRegisters::new(*size);
        }
    }

    /// Whether the driver is up.
    pub(crate) fn is_running(&self) -> bool {
        self.status & (status::DRIVER_OK | status::FAILED) == status::DRIVER_OK
    }

    fn queue(&self) -> Option<&QueueRegisters> {
        self.queues.get(usize::from(self.queue_select))
    }

    /// Fills in what a register holds. `false` if no register takes such an access.
    pub(crate) fn read(&self, at: u64, data: &mut [u8]) -> bool {
        let Some((register, shift)) = locate(at, data.len()) else {
            return false;
        };
        let value = self.register(register) >> shift;
        for (byte, value) in data.iter_mut().zip(value.to_le_bytes()) {
            *byte = value;
        }
        true
    }

    fn register(&self, register: u64) -> u64 {
        let queue = self.queue();
        let of_queue = |value: fn(&QueueRegisters) -> u64| queue.map_or(0, value);
        match register {
            offset::DEVICE_FEATURE_SELECT => self.device_feature_select.into(),
            offset::DEVICE_FEATURE => word(self.offered, self.device_feature_select),
            offset::DRIVER_FEATURE_SELECT => self.driver_feature_select.into(),
            offset::DRIVER_FEATURE => word(self.driver_features, self.driver_feature_select),
            offset::CONFIG_VECTOR => self.config_vector.into(),
            offset::NUM_QUEUES => self.queues.len() as u64,
            offset::STATUS => self.status.into(),
            offset::CONFIG_GENERATION => self.config_generation.into(),
            offset::QUEUE_SELECT => self.queue_select.into(),
            offset::QUEUE_SIZE => of_queue(|queue| queue.ring.size.into()),
            offset::QUEUE_VECTOR => queue.map_or(NO_VECTOR, |queue| queue.vector).into(),
            offset::QUEUE_ENABLE => of_queue(|queue| queue.enabled.into()),
            offset::QUEUE_NOTIFY_OFF => match queue {
                Some(_) => self.queue_select.into(),
                None => 0,
            },
            offset::QUEUE_DESC => of_queue(|queue| queue.ring.descriptors),
            offset::QUEUE_DRIVER => of_queue(|queue| queue.ring.available),
            offset::QUEUE_DEVICE => of_queue(|queue| queue.ring.used),
            // Data for notifications, a feature that is not offered; and whether a queue is being
            // reset, which it never is when someone asks.
            _ => 0,
        }
    }

    /// Writes a register; `None` if none takes such an access. What is read-only stays.
    pub(crate) fn write(&mut self, at: u64, data: &[u8]) -> Option<Effect> {
        let (register, shift) = locate(at, data.len())?;
        let mut bytes = [0; 8];
        for (byte, data) in bytes.iter_mut().zip(data) {
            *byte = *data;
        }
        let value = u64::from_le_bytes(bytes);
        match register {
            offset::DEVICE_FEATURE_SELECT => self.device_feature_select = value as u32,
            offset::DRIVER_FEATURE_SELECT => self.driver_feature_select = value as u32,
            offset::DRIVER_FEATURE => self.set_features(value as u32),
            offset::CONFIG_VECTOR => {
                self.config_vector = self.vector(value as u16);
                return Some(Effect::Setup);
            }
            offset::STATUS => return Some(self.set_status(value as u8)),
            offset::QUEUE_SELECT => self.queue_select = value as u16,
            _ => {
                let mask = u64::MAX >> (64 - 8 * data.len());
                return Some(self.write_queue(register, mask << shift, value << shift));
            }
        }
        Some(Effect::None)
    }

    /// A vector that there is; what reads back else tells the driver that there is none.
    fn vector(&self, vector: u16) -> u16 {
        match vector < self.vectors {
            true => vector,
            false => NO_VECTOR,
        }
    }

    fn set_features(&mut self, value: u32) {
        if self.status & status::FEATURES_OK != 0 || self.driver_feature_select > 1 {
            return;
        }
        let shift = 32 * self.driver_feature_select;
        let mask = u64::from(u32::MAX) << shift;
        self.driver_features = (self.driver_features & !mask) | u64::from(value) << shift;
    }

    fn set_status(&mut self, value: u8) -> Effect {
        if value == 0 {
            return Effect::Reset;
        }
        let mut value = value & status::OF_THE_DRIVER;
        let had = self.status & status::FEATURES_OK;
        let is_sound = self.driver_features & !self.offered == 0
            && self.driver_features & feature::VERSION_1 != 0;
        if had == 0 && !is_sound {
            // The driver reads that they were not accepted (section 3.1.1).
            value &= !status::FEATURES_OK;
        }
        // Only a reset takes bits away.
        self.status |= value;
        Effect::Setup
    }

    /// Writes those bits of a register that are in `mask`.
    fn write_queue(&mut self, register: u64, mask: u64, value: u64) -> Effect {
        let most = self.sizes.get(usize::from(self.queue_select)).copied();
        let vector = self.vector(value as u16);
        let features = self.driver_features;
        let queue = self.queues.get_mut(usize::from(self.queue_select));
        let Some((queue, most)) = queue.zip(most) else {
            return Effect::None;
        };
        if register == offset::QUEUE_VECTOR {
            queue.vector = vector;
            return Effect::Setup;
        }
        if register == offset::QUEUE_RESET {
            let is_allowed = features & feature::RING_RESET != 0;
            return match is_allowed && self.status & status::FEATURES_OK != 0 && value == 1 {
                true => Effect::QueueReset(self.queue_select),
                false => Effect::None,
            };
        }
        if queue.enabled {
            return Effect::None;
        }
        let address = |address: &mut u64| *address = (*address & !mask) | value;
        match register {
            offset::QUEUE_SIZE => {
                let size = value as u16;
                if size.is_power_of_two() && size <= most {
                    queue.ring.size = size;
                }
            }
            offset::QUEUE_DESC => address(&mut queue.ring.descriptors),
            offset::QUEUE_DRIVER => address(&mut queue.ring.available),
            offset::QUEUE_DEVICE => address(&mut queue.ring.used),
            offset::QUEUE_ENABLE if value == 1 => {
                queue.ring.features = features;
                queue.enabled = queue.ring.is_sound();
                return Effect::Setup;
            }
            _ => {}
        }
        Effect::None
    }

    /// Appends all of it.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        out.extend(self.device_feature_select.to_le_bytes());
        out.extend(self.driver_feature_select.to_le_bytes());
        out.extend(self.driver_features.to_le_bytes());
        out.extend(self.config_vector.to_le_bytes());
        out.extend([self.status, self.config_generation]);
        out.extend(self.queue_select.to_le_bytes());
        for queue in &self.queues {
            let ring = &queue.ring;
            out.extend(ring.size.to_le_bytes());
            for address in [ring.descriptors, ring.available, ring.used, ring.features] {
                out.extend(address.to_le_bytes());
            }
            out.extend(queue.vector.to_le_bytes());
            out.extend([u8::from(queue.enabled), u8::from(queue.notified)]);
        }
    }

    /// What was saved of registers like these.
    pub(crate) fn restored(&self, saved: &mut Fields<'_>) -> Result<Self, StateError> {
        let mut common = Self {
            device_feature_select: saved.u32()?,
            driver_feature_select: saved.u32()?,
            driver_features: saved.u64()?,
            config_vector: saved.u16()?,
            status: saved.u8()?,
            config_generation: saved.u8()?,
            queue_select: saved.u16()?,
            ..self.clone()
        };
        for (queue, most) in common.queues.iter_mut().zip(&self.sizes) {
            let size = saved.u16()?;
            let [descriptors, available, used, features] =
                [saved.u64()?, saved.u64()?, saved.u64()?, saved.u64()?];
            *queue = QueueRegisters {
                ring: Ring {
                    size,
                    descriptors,
                    available,
                    used,
                    features,
                },
                vector: saved.u16()?,
                enabled: saved.bool()?,
                notified: saved.bool()?,
            };
            let is_sound = size.is_power_of_two() && size <= *most;
            if !is_sound || (queue.enabled && !queue.ring.is_sound()) {
                return Err(StateError::registers("a queue cannot be like that"));
            }
        }
        let vectors = common.queues.iter().map(|queue| queue.vector);
        let mut vectors = vectors.chain([common.config_vector]);
        if vectors.any(|vector| vector != common.vector(vector)) {
            return Err(StateError::registers("there is no such vector"));
        }
        if common.status & !status::OF_THE_DRIVER != 0 {
            return Err(StateError::registers("no status is like that"));
        }
        Ok(common)
    }
}

/// Half of some features: the low one, the high one, or nothing.
fn word(features: u64, select: u32) -> u64 {
    match select {
        0 => features & u64::from(u32::MAX),
        1 => features >> 32,
        _ => 0,
    }
}
