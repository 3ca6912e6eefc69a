//! What the host allows, and what there is on it.

use std::fs;
use std::process::Command;

use vgpud::api::{Definition, Instance, Parent};

use super::{Daemon, names, worker_program};

/// All that a refusal must leave as it was.
#[derive(Debug, PartialEq)]
pub struct Everything {
    parents: Vec<Parent>,
    instances: Vec<Instance>,
    definitions: Vec<Definition>,
    run_files: Vec<String>,
    records: Vec<(String, String)>,
}

impl Daemon {
    /// A daemon that may only do what the modes of files allow it, also where root runs the tests.
    pub fn start_powerless() -> Self {
        Self::start_by(powerless(), "", worker_program())
    }

    /// What there is now.
    pub fn everything(&self) -> Everything {
        let folder = self.path("var/lib/vgpud/instances");
        let records = names(&folder).into_iter().map(|name| {
            let content = fs::read_to_string(folder.join(&name)).unwrap();
            (name, content)
        });
        Everything {
            parents: self.client.parents().unwrap(),
            instances: self.client.instances().unwrap(),
            definitions: self.client.definitions().unwrap(),
            run_files: self.run_files(),
            records: records.collect(),
        }
    }
}

/// What takes the powers of root from a program. Its files stay its own.
pub fn powerless() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() {
        &["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    } else {
        &[]
    }
}

/// A program, started by another if there is one.
pub fn command(starter: &[&str], program: &str) -> Command {
    let mut words = starter.iter().copied().chain([program]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}
