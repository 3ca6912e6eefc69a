//! Persistent definitions, in mdevctl's own folder. They are read anew each time: mdevctl and the
//! administrator's editor write them too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::api::DefinitionRequest;
use crate::error::Error;
use crate::{files, mdevctl_file};

/// Largest file that is read. Whoever may write there could else fill the daemon's memory.
const MAX_FILE: u64 = 64 << 10;

/// The folder of definitions.
#[derive(Clone, Debug)]
pub(crate) struct Definitions {
    folder: PathBuf,
}

impl Definitions {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    fn path(&self, parent: &str, uuid: Uuid) -> PathBuf {
        self.folder.join(parent).join(uuid.to_string())
    }

    /// Whether a UUID is defined.
    pub(crate) fn contains(&self, parent: &str, uuid: Uuid) -> bool {
        self.path(parent, uuid).is_file()
    }

    /// A definition, if there is one.
    pub(crate) fn read(
        &self,
        parent: &str,
        uuid: Uuid,
    ) -> Result<Option<DefinitionRequest>, Error> {
        let path = self.path(parent, uuid);
        let what = || format!("read {}", path.display());
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::os(what())(error)),
            Ok(file) if file.len() > MAX_FILE => {
                return Err(Error::Invalid(format!("{} is too long", path.display())));
            }
            Ok(_) => {}
        }
        let content = fs::read(&path).map_err(Error::os::<io::Error>(what()))?;
        let definition = mdevctl_file::parse(&content).map_err(|error| {
            Error::Invalid(format!("{} is no definition: {error}", path.display()))
        })?;
        Ok(Some(definition))
    }

    /// Every definition on a parent. What cannot be read is left out, and logged.
    pub(crate) fn list(&self, parent: &str) -> Result<Vec<(Uuid, DefinitionRequest)>, Error> {
        let folder = self.folder.join(parent);
        let what = format!("look into {}", folder.display());
        let names = files::names_with(&folder, "").map_err(Error::os(what))?;
        let mut all = Vec::new();
        for uuid in names.iter().filter_map(|name| Uuid::try_parse(name).ok()) {
            match self.read(parent, uuid) {
                Ok(definition) => all.extend(definition.map(|definition| (uuid, definition))),
                Err(error) => tracing::warn!("a definition is left out: {error}"),
            }
        }
        Ok(all)
    }

    /// Writes a definition.
    pub(crate) fn write(
        &self,
        parent: &str,
        uuid: Uuid,
        definition: &DefinitionRequest,
    ) -> Result<(), Error> {
        let path = self.path(parent, uuid);
        files::make_folder(&self.folder.join(parent), 0o755)
            .and_then(|()| files::write_whole(&path, &mdevctl_file::emit(definition), 0o644))
            .map_err(Error::os(format!("write {}", path.display())))
    }

    /// Removes a definition. Whether it was there.
    pub(crate) fn remove(&self, parent: &str, uuid: Uuid) -> Result<bool, Error> {
        let path = self.path(parent, uuid);
        let was_there = path.exists();
        files::remove_whole(&path).map_err(Error::os(format!("remove {}", path.display())))?;
        Ok(was_there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::StartMode;

    #[test]
    fn a_broken_file_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let definitions = Definitions::new(dir.path());
        let uuid = Uuid::from_u128(1);
        let request = DefinitionRequest {
            type_name: "edu-1".to_owned(),
            start: StartMode::Auto,
            attributes: Vec::new(),
        };
        assert_eq!(definitions.read("soft0", uuid).unwrap(), None);
        definitions.write("soft0", uuid, &request).unwrap();
        let folder = dir.path().join("soft0");
        fs::write(folder.join(Uuid::from_u128(2).to_string()), "{").unwrap();
        fs::write(folder.join("notes.txt"), "x").unwrap();
        assert_eq!(definitions.list("soft0").unwrap(), [(uuid, request)]);
        assert!(definitions.read("soft0", Uuid::from_u128(2)).is_err());
        assert!(definitions.remove("soft0", uuid).unwrap());
        assert!(!definitions.remove("soft0", uuid).unwrap());
    }
}
