//! What is kept of each instance, so that a daemon that starts knows what there is: one file each.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::{Attribute, CreateRequest, Exit, Recovery};
use crate::files;
use crate::functions::{Function, Name};

/// Ends the name of a record.
const SUFFIX: &str = ".json";

/// The version that is written.
const VERSION: u32 = 1;

/// What is kept of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    pub(crate) uuid: Uuid,
    /// What it was created by: the same request again gets the same answer.
    pub(crate) request: CreateRequest,
    /// Its attributes, as they were set since.
    pub(crate) attributes: Vec<Attribute>,
    /// Whether it is to run.
    pub(crate) is_wanted: bool,
    /// The worker that was started for it last.
    pub(crate) worker: Option<WorkerIdentity>,
    /// Whether that one was seen to end.
    pub(crate) has_ended: bool,
    /// The user that its workers become, if they have one of their own.
    #[serde(default)]
    pub(crate) user: Option<u32>,
    pub(crate) crashes: u64,
    pub(crate) last_exit: Option<Exit>,
    #[serde(default)]
    pub(crate) recoveries: u64,
    #[serde(default)]
    pub(crate) last_recovery: Option<Recovery>,
    #[serde(default)]
    pub(crate) upgrades: u64,
    pub(crate) created_at: u64,
    /// Of which instance it is a function, if it is one: it is no instance of its own then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) part: Option<Part>,
}

/// A function of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// The instance.
    pub(crate) of: Uuid,
    pub(crate) function: Function,
}

/// A process, told from every other that had or will have its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkerIdentity {
    pub(crate) pid: u32,
    /// When it started, in ticks since the boot.
    pub(crate) start_ticks: u64,
    /// Of which boot.
    pub(crate) boot_id: String,
}

impl Record {
    pub(crate) fn new(uuid: Uuid, request: CreateRequest, now: u64) -> Self {
        Self {
            version: VERSION,
            uuid,
            attributes: request.attributes.clone(),
            is_wanted: request.start,
            request,
            worker: None,
            has_ended: false,
            user: None,
            crashes: 0,
            last_exit: None,
            recoveries: 0,
            last_recovery: None,
            upgrades: 0,
            created_at: now,
            part: None,
        }
    }

    /// What its files are called.
    pub(crate) fn name(&self) -> Name {
        match self.part {
            None => self.uuid.into(),
            Some(Part { of, function }) => Name {
                uuid: of,
                function: Some(function),
            },
        }
    }
}

/// The folder of records.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    folder: PathBuf,
}

impl Records {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    fn path(&self, uuid: Uuid) -> PathBuf {
        self.folder.join(format!("{uuid}{SUFFIX}"))
    }

    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        let content = serde_json::to_vec(record)?;
        files::write_whole(&self.path(record.uuid), &content, 0o600)
    }

    pub(crate) fn remove(&self, uuid: Uuid) -> io::Result<()> {
        files::remove_whole(&self.path(uuid))
    }

    /// Every record. What cannot be understood is set aside, and logged: one broken file must not
    /// keep the others from their vGPUs.
    pub(crate) fn read_all(&self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        for name in files::names_with(&self.folder, SUFFIX)? {
            let path = self.folder.join(format!("{name}{SUFFIX}"));
            match read(&path, &name) {
                Ok(record) => records.push(record),
                Err(why) => match files::set_aside(&path) {
                    Ok(aside) => tracing::error!(
                        "{} is no record, and was set aside as {}: {why}",
                        path.display(),
                        aside.display()
                    ),
                    Err(error) => tracing::error!(
                        "{} is no record ({why}), and cannot be set aside: {error}",
                        path.display()
                    ),
                },
            }
        }
        Ok(records)
    }
}

fn read(path: &Path, name: &str) -> Result<Record, String> {
    let content = fs::read(path).map_err(|error| error.to_string())?;
    let record: Record = serde_json::from_slice(&content).map_err(|error| error.to_string())?;
    if record.version != VERSION {
        return Err(format!("version {} is not known", record.version));
    }
    if record.uuid.to_string() != name {
        return Err(format!("it is of {}", record.uuid));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u128) -> Record {
        let request = serde_json::from_str(r#"{"parent":"soft0","type":"edu-1"}"#).unwrap();
        Record::new(Uuid::from_u128(number), request, 7)
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path());
        for number in [1, 2] {
            records.write(&record(number)).unwrap();
        }
        assert_eq!(records.read_all().unwrap(), [record(1), record(2)]);
        records.remove(Uuid::from_u128(1)).unwrap();
        assert_eq!(records.read_all().unwrap(), [record(2)]);
    }

    /// Whatever a power loss leaves of one file, the others are read, and it is kept aside.
    #[test]
    fn a_file_that_was_cut_off_anywhere_is_set_aside() {
        let whole = serde_json::to_vec(&record(1)).unwrap();
        for length in 0..whole.len() {
            let dir = tempfile::tempdir().unwrap();
            let records = Records::new(dir.path());
            records.write(&record(2)).unwrap();
            let path = records.path(Uuid::from_u128(1));
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(records.read_all().unwrap(), [record(2)], "{length}");
            assert!(!path.exists());
            let aside = format!("{}.broken", path.display());
            assert_eq!(fs::read(aside).unwrap(), whole[..length]);
        }
    }

    #[test]
    fn what_is_no_record_of_its_name_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path());
        let mut future = record(3);
        future.version = 2;
        for (name, content) in [
            ("a.json", serde_json::to_vec(&record(1)).unwrap()),
            ("b.json", b"\0\0\0\0".to_vec()),
            ("c.json", serde_json::to_vec(&future).unwrap()),
        ] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        // A write that the power cut off, before its rename.
        fs::write(dir.path().join("d.json.part"), "{").unwrap();
        assert_eq!(records.read_all().unwrap(), []);
    }
}
