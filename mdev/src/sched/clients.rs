//! The clients of a parent: names that are not used again, and settings.

use super::error::SchedError;
use super::settings::Settings;

/// Most clients that a parent has. Without a bound, whoever may create vGPUs picks the size of the
/// tables here, of which each engine has one.
pub(super) const MAX_CLIENTS: usize = 4096;

/// A client that has joined. When it has left, the name means nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId {
    slot: u32,
    generation: u32,
}

impl ClientId {
    /// Which place in the tables is the client's, as long as it is there.
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    settings: Option<Settings>,
}

/// Who is there, by slot.
#[derive(Debug, Default)]
pub(super) struct Clients {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Clients {
    pub(super) fn insert(&mut self, settings: Settings) -> Result<ClientId, SchedError> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() == MAX_CLIENTS => return Err(SchedError::TooManyClients),
            None => {
                self.slots.push(Slot::default());
                self.slots.len() as u32 - 1
            }
        };
        let entry = &mut self.slots[slot as usize];
        entry.settings = Some(settings);
        Ok(ClientId {
            slot,
            generation: entry.generation,
        })
    }

    /// The slot of a client that is there.
    pub(super) fn find(&self, client: ClientId) -> Result<usize, SchedError> {
        let slot = self.slots.get(client.slot());
        let is_there = slot
            .is_some_and(|slot| slot.generation == client.generation && slot.settings.is_some());
        is_there
            .then(|| client.slot())
            .ok_or(SchedError::UnknownClient)
    }

    pub(super) fn settings(&self, client: ClientId) -> Result<Settings, SchedError> {
        let slot = self.find(client)?;
        self.slots[slot].settings.ok_or(SchedError::UnknownClient)
    }

    pub(super) fn set(&mut self, client: ClientId, settings: Settings) -> Result<(), SchedError> {
        let slot = self.find(client)?;
        self.slots[slot].settings = Some(settings);
        Ok(())
    }

    pub(super) fn remove(&mut self, client: ClientId) -> Result<usize, SchedError> {
        let slot = self.find(client)?;
        let entry = &mut self.slots[slot];
        entry.settings = None;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(client.slot);
        Ok(slot)
    }

    /// The name of whoever is at `slot`.
    pub(super) fn name(&self, slot: usize) -> ClientId {
        ClientId {
            slot: slot as u32,
            generation: self.slots[slot].generation,
        }
    }

    /// Everybody, in the order of their slots.
    pub(super) fn all(&self) -> impl Iterator<Item = (ClientId, &Settings)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, entry)| Some((self.name(slot), entry.settings.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_client_that_left_means_nobody() {
        let mut clients = Clients::default();
        let first = clients.insert(Settings::default()).unwrap();
        clients.remove(first).unwrap();
        let second = clients.insert(Settings::default()).unwrap();
        assert_eq!(first.slot(), second.slot());
        assert_eq!(clients.find(first), Err(SchedError::UnknownClient));
        assert_eq!(clients.remove(first), Err(SchedError::UnknownClient));
        assert_eq!(clients.find(second), Ok(second.slot()));
    }

    #[test]
    fn there_is_an_end_to_how_many_there_are() {
        let mut clients = Clients::default();
        for _ in 0..MAX_CLIENTS {
            clients.insert(Settings::default()).unwrap();
        }
        let one_more = clients.insert(Settings::default());
        assert_eq!(one_more, Err(SchedError::TooManyClients));
    }
}
