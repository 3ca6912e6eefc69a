//! Persistent definitions.

use uuid::Uuid;

use crate::api::{Definition, DefinitionRequest, EventKind};
use crate::blocking::{blocking, detached};
use crate::error::Error;

use super::Manager;
use super::create::check_attributes;

impl Manager {
    /// Every definition on a parent of this host.
    pub async fn definitions(&self) -> Result<Vec<Definition>, Error> {
        let manager = self.clone();
        blocking(move || {
            let mut all = Vec::new();
            for parent in manager.specs() {
                let found = manager.0.definitions.list(&parent.name)?.into_iter();
                all.extend(found.map(|(uuid, kept)| manager.defined(&parent.name, uuid, kept)));
            }
            Ok(all)
        })
        .await
    }

    /// One definition.
    pub async fn definition(&self, parent: &str, uuid: Uuid) -> Result<Definition, Error> {
        let parent = self.parent_spec(parent)?.name.clone();
        let manager = self.clone();
        blocking(move || {
            let kept = manager.0.definitions.read(&parent, uuid)?;
            let kept = kept.ok_or_else(|| Error::NoDefinition(parent.clone(), uuid))?;
            Ok(manager.defined(&parent, uuid, kept))
        })
        .await
    }

    /// Keeps a definition, in the place of one that is there. Whether one was.
    pub async fn define(
        &self,
        parent: &str,
        uuid: Uuid,
        request: DefinitionRequest,
    ) -> Result<(Definition, bool), Error> {
        self.offered(parent, &request.type_name)?;
        check_attributes(&request.attributes)?;
        let (manager, parent) = (self.clone(), parent.to_owned());
        detached(async move {
            let _turn = manager.0.turns.wait(uuid).await;
            let (writer, on, kept) = (manager.clone(), parent.clone(), request.clone());
            let was_there = blocking(move || {
                let definitions = &writer.0.definitions;
                let was_there = definitions.contains(&on, uuid);
                definitions.write(&on, uuid, &kept).map(|()| was_there)
            })
            .await?;
            let words = format!("{} defined", request.type_name);
            manager
                .0
                .events
                .tell(EventKind::Defined, uuid, &parent, words);
            Ok((manager.defined(&parent, uuid, request), was_there))
        })
        .await
    }

    /// Removes a definition. The instance, if there is one, lives on.
    pub async fn undefine(&self, parent: &str, uuid: Uuid) -> Result<(), Error> {
        let parent = self.parent_spec(parent)?.name.clone();
        let manager = self.clone();
        detached(async move {
            let _turn = manager.0.turns.wait(uuid).await;
            let (remover, on) = (manager.clone(), parent.clone());
            let was_there = blocking(move || remover.0.definitions.remove(&on, uuid)).await?;
            if !was_there {
                return Err(Error::NoDefinition(parent, uuid));
            }
            let words = "no longer defined".to_owned();
            manager
                .0
                .events
                .tell(EventKind::Undefined, uuid, &parent, words);
            Ok(())
        })
        .await
    }

    /// The definition of a UUID on any parent, the first in their order. Blocks.
    pub(super) fn find_definition(
        &self,
        uuid: Uuid,
    ) -> Result<Option<(String, DefinitionRequest)>, Error> {
        for parent in self.specs() {
            if let Some(kept) = self.0.definitions.read(&parent.name, uuid)? {
                return Ok(Some((parent.name.clone(), kept)));
            }
        }
        Ok(None)
    }

    fn defined(&self, parent: &str, uuid: Uuid, kept: DefinitionRequest) -> Definition {
        let table = self.table();
        let instance = table.entry(uuid);
        Definition {
            parent: parent.to_owned(),
            uuid,
            type_name: kept.type_name,
            start: kept.start,
            attributes: kept.attributes,
            active: instance.is_some_and(|entry| entry.record.request.parent == parent),
        }
    }
}
