//! An instance comes to be, or nothing does.

use uuid::Uuid;

use crate::accounts::Access;
use crate::api::{Attribute, CreateRequest, EventKind, Instance, SocketAccess};
use crate::blocking::detached;
use crate::clock;
use crate::error::Error;
use crate::functions;
use crate::records::Record;

use super::Manager;

/// Most attributes of an instance. Each becomes an argument of its worker.
pub(super) const MAX_ATTRIBUTES: usize = 64;

/// Longest name of an attribute.
const MAX_ATTRIBUTE_NAME: usize = 64;

/// Longest value of one, in characters.
const MAX_ATTRIBUTE_VALUE: usize = 256;

/// Whether a creation made something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It did.
    Now,
    /// The same request had made it before.
    Before,
}

impl Manager {
    /// Creates an instance, and starts it if that is asked for.
    ///
    /// The same request again gets the instance as it is now. On error there is nothing of it.
    pub async fn create(
        &self,
        uuid: Uuid,
        request: CreateRequest,
    ) -> Result<(Instance, Created), Error> {
        let manager = self.clone();
        detached(async move {
            let created = {
                let _turns = manager.turns(uuid).await;
                manager.create_in_turn(uuid, request).await?
            };
            manager.turn_off_others(uuid).await;
            Ok((manager.instance(uuid).await?, created))
        })
        .await
    }

    pub(super) async fn create_in_turn(
        &self,
        uuid: Uuid,
        request: CreateRequest,
    ) -> Result<Created, Error> {
        let existing = self
            .table()
            .entry(uuid)
            .map(|entry| entry.record.request.clone());
        if let Some(existing) = existing {
            return match difference(&existing, &request, &self.0.config.sockets) {
                None => Ok(Created::Before),
                Some(what) => Err(Error::Exists(uuid, what)),
            };
        }
        self.look_for(&request.parent).await;
        self.check(&request)?;
        let parent = request.parent.clone();
        let is_started = request.start;
        let type_name = request.type_name.clone();
        let offered = self.offered(&parent, &type_name)?;
        let record = Record::new(uuid, request, clock::now());
        {
            let mut table = self.table();
            let of = (parent.as_str(), type_name.as_str());
            self.check_given(&table, uuid, of, &record.attributes)?;
            table.insert(record, &offered)?;
        }
        let made = match self.save(uuid).await {
            Ok(()) if is_started => self.launch_all(uuid).await,
            saved => saved,
        };
        if let Err(error) = made {
            if let Err(left) = self.erase(uuid).await {
                // What was first is told; this is for who runs the host.
                tracing::error!("{uuid} was not made, and is there: {left}");
            }
            return Err(error);
        }
        let events = &self.0.events;
        events.tell(
            EventKind::Created,
            uuid,
            &parent,
            format!("{type_name} created"),
        );
        if is_started {
            self.tell_started(uuid, &parent);
        }
        Ok(Created::Now)
    }

    /// Looks at what can be seen before anything is taken.
    fn check(&self, request: &CreateRequest) -> Result<(), Error> {
        let offered = self.offered(&request.parent, &request.type_name)?;
        check_attributes(&request.attributes)?;
        let attributes = [&offered.attributes[..], &request.attributes].concat();
        functions::of(&offered.base, &attributes).map_err(Error::Invalid)?;
        Access::resolve(&request.socket, &self.0.config.sockets).map(drop)
    }
}

/// What a request asks for that an instance is not. Whether it is to be started does not count:
/// it may have been stopped since.
fn difference(
    existing: &CreateRequest,
    asked: &CreateRequest,
    usual: &SocketAccess,
) -> Option<String> {
    if existing.parent != asked.parent {
        Some(format!("its parent is {}", existing.parent))
    } else if existing.type_name != asked.type_name {
        Some(format!("its type is {}", existing.type_name))
    } else if existing.attributes != asked.attributes {
        Some("it was created with other attributes".to_owned())
    } else if existing.socket.or(usual) != asked.socket.or(usual) {
        Some("its socket is another's".to_owned())
    } else {
        None
    }
}

/// Bounds what a client may have kept and passed on.
pub(super) fn check_attributes(attributes: &[Attribute]) -> Result<(), Error> {
    if attributes.len() > MAX_ATTRIBUTES {
        let words = format!("at most {MAX_ATTRIBUTES} attributes can be given");
        return Err(Error::Invalid(words));
    }
    for Attribute { name, value } in attributes {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > MAX_ATTRIBUTE_NAME || !name.chars().all(is_word) {
            return Err(Error::Invalid(format!(
                "'{}' is no name of an attribute",
                name.escape_debug()
            )));
        }
        if value.chars().count() > MAX_ATTRIBUTE_VALUE || value.chars().any(char::is_control) {
            return Err(Error::Invalid(format!(
                "attribute '{name}' is too long, or holds control characters"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str, value: &str) -> Attribute {
        Attribute {
            name: name.to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn attributes_are_bounded() {
        let long = "x".repeat(257);
        for (attributes, good) in [
            (vec![], true),
            (vec![attribute("mode", "1280x720")], true),
            (vec![attribute("mode", "")], true),
            (vec![attribute("", "1")], false),
            (vec![attribute("a=b", "1")], false),
            (vec![attribute("../a", "1")], false),
            (vec![attribute(&long, "1")], false),
            (vec![attribute("a", &long)], false),
            (vec![attribute("a", "1\n2")], false),
            (vec![attribute("a", "\0")], false),
            (vec![attribute("a", "1"); 64], true),
            (vec![attribute("a", "1"); 65], false),
        ] {
            assert_eq!(
                check_attributes(&attributes).is_ok(),
                good,
                "{attributes:?}"
            );
        }
    }

    #[test]
    fn the_same_request_is_told_from_another() {
        let request: CreateRequest =
            serde_json::from_str(r#"{"parent":"soft0","type":"edu-1"}"#).unwrap();
        let usual = SocketAccess {
            mode: Some("0600".to_owned()),
            ..SocketAccess::default()
        };
        let mut stopped = request.clone();
        stopped.start = false;
        assert_eq!(difference(&request, &stopped, &usual), None);
        let mut other = request.clone();
        other.attributes.push(attribute("dma", "copy"));
        assert!(difference(&request, &other, &usual).is_some());
        let mut other = request.clone();
        other.type_name = "edu-2".to_owned();
        assert!(difference(&request, &other, &usual).is_some());
        let mut usual_said = request.clone();
        usual_said.socket.mode = usual.mode.clone();
        assert_eq!(difference(&request, &usual_said, &usual), None);
        let mut other = request.clone();
        other.socket.mode = Some("0660".to_owned());
        assert!(difference(&request, &other, &usual).is_some());
    }
}
