//! The configuration: `/etc/vgpud/vgpud.toml`.
//!
//! Everything may be left out. What is not known is refused, with its line.

mod lasting;
mod workers;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::api::{Policy, SocketAccess};

pub use lasting::{DaemonConfig, OnStop, Restart};
pub use workers::{UserRange, Users, WorkersConfig};

/// The configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where things lie.
    #[serde(default)]
    pub paths: PathsConfig,
    /// The daemon itself.
    #[serde(default)]
    pub daemon: DaemonConfig,
    /// How the API is reached.
    #[serde(default)]
    pub api: ApiConfig,
    /// Who may connect to a vGPU, unless its creator says so.
    #[serde(default)]
    pub sockets: SocketAccess,
    /// How workers are confined.
    #[serde(default)]
    pub workers: WorkersConfig,
    /// Parents by name. What is not named here is as the daemon finds it.
    #[serde(default)]
    pub parents: BTreeMap<String, ParentConfig>,
    /// Further types.
    #[serde(default)]
    pub types: Vec<TypeConfig>,
}

/// Where things lie, under the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PathsConfig {
    /// Sockets and logs: `/run/vgpud`.
    pub run: Option<PathBuf>,
    /// What is kept: `/var/lib/vgpud`.
    pub state: Option<PathBuf>,
    /// Persistent definitions: `/etc/mdevctl.d`.
    pub definitions: Option<PathBuf>,
    /// The program `vgpu-worker`, which is not under the root: the one beside `vgpud`.
    pub worker: Option<PathBuf>,
}

/// How the API is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ApiConfig {
    /// Owner of the API's socket.
    pub owner: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// Its mode, in octal; 0600 unless given.
    pub mode: Option<String>,
    /// Whether it listens on TCP as well.
    pub tcp: Option<TcpConfig>,
}

/// The API on TCP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TcpConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// A file with the token that each request must bear. Nobody else may read it.
    pub token_file: PathBuf,
}

/// What is particular of a parent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ParentConfig {
    /// What it stands for, if the daemon does not find it by itself: a path.
    pub device: Option<PathBuf>,
    /// Most vGPUs on it.
    pub instances: Option<u64>,
    /// Video memory that its vGPUs share.
    pub video_memory: Option<Bytes>,
    /// The types that it offers; all unless given.
    pub offer: Option<Vec<String>>,
    /// How the engine that its vGPUs share is divided, until that is set while the daemon runs.
    pub policy: Option<Policy>,
    /// How many jobs run on that engine at once; 1 unless given.
    pub engine_places: Option<u32>,
    /// A job on that engine that takes longer than so many milliseconds is ended; 10000 unless given.
    pub job_limit_ms: Option<u64>,
    /// Most vGPUs of a type.
    #[serde(default)]
    pub limits: BTreeMap<String, u64>,
    /// Whether VMMs may be handed the physical device's own memory: whoever breaks into one has the
    /// whole device then. Not unless it is said.
    pub direct: Option<bool>,
    /// Most of guests' memory that may be locked for a physical device: as the daemon itself may,
    /// unless it is said.
    pub lock_limit: Option<Bytes>,
}

/// A type that is made of another.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TypeConfig {
    /// Its name.
    pub name: String,
    /// The driver's type that it is made of.
    pub base: String,
    /// A few words for a list.
    pub title: Option<String>,
    /// What one gets, in a sentence.
    pub description: Option<String>,
    /// Attributes that every instance starts with.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Video memory that one takes of its parent's.
    pub video_memory: Option<Bytes>,
    /// Whether it stands in the place of its base, which is offered no more.
    #[serde(default)]
    pub replaces_base: bool,
}

/// A number of bytes: a number, or text such as "512M" or "2G".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BytesText")]
pub struct Bytes(pub u64);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a number of bytes, or text such as \"512M\"")]
enum BytesText {
    Number(u64),
    Text(String),
}

impl TryFrom<BytesText> for Bytes {
    type Error = String;

    fn try_from(value: BytesText) -> Result<Self, String> {
        match value {
            BytesText::Number(bytes) => Ok(Self(bytes)),
            BytesText::Text(text) => parse_bytes(&text)
                .map(Self)
                .ok_or_else(|| format!("'{text}' is no size: write 512M or 2G, say")),
        }
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text.get(digits.len()..)? {
        "" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not TOML, or says what is not known.
    #[error("{}: {message}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Why, with the line.
        message: String,
    },
    /// It makes no sense.
    #[error("{0}")]
    Senseless(String),
}

impl Config {
    /// Reads the file at `path`. If none is there and none was asked for, all is as usual.
    pub fn read(path: &Path, must_exist: bool) -> Result<Self, ConfigError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|message| ConfigError::Parse {
                path: path.to_owned(),
                message,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Takes the text of a configuration.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_configuration_is_taken() {
        let config = Config::parse(
            r#"
            [paths]
            run = "/run/vgpud"
            [daemon]
            on-stop = "end"
            [api]
            group = "kvm"
            mode = "0660"
            tcp = { listen = "127.0.0.1:8006", token-file = "/etc/vgpud/token" }
            [sockets]
            group = "kvm"
            [workers]
            users = { first = 600000, count = 1000 }
            cgroup = "/sys/fs/cgroup/vgpud"
            memory-limit = "64M"
            restart = "never"
            most-crashes = 5
            [parents.soft0]
            instances = 8
            video-memory = "2G"
            offer = ["serial-1", "desktop"]
            limits = { desktop = 2 }
            [[types]]
            name = "desktop"
            base = "bochs-16m"
            attributes = { mode = "1280x720" }
            video-memory = 1024
            replaces-base = true
            "#,
        )
        .unwrap();
        assert_eq!(config.daemon.on_stop, OnStop::End);
        assert_eq!(config.workers.restart, Restart::Never);
        assert_eq!(config.workers.most_crashes.0.get(), 5);
        let soft = &config.parents["soft0"];
        assert_eq!(soft.video_memory, Some(Bytes(2 << 30)));
        assert_eq!(soft.limits["desktop"], 2);
        assert_eq!(config.types[0].video_memory, Some(Bytes(1024)));
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, words) in [
            ("[api]\ncolour = 1", 2, "colour"),
            ("\n\n[parent.soft0]", 3, "parent"),
            ("[parents.soft0]\ninstances = -1", 2, "instances"),
            ("[parents.soft0]\nvideo-memory = \"2X\"", 2, "is no size"),
            ("[api.tcp]\nlisten = \"here\"", 2, "listen"),
            ("[[types]]\nname = \"a\"", 1, "base"),
            ("[api", 1, "expected"),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.contains(&format!("line {line}")), "{text}: {error}");
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("1K", Some(1024)),
            ("16MiB", Some(16 << 20)),
            ("2T", Some(2 << 40)),
            ("", None),
            ("M", None),
            ("-1", None),
            ("1.5G", None),
            ("18446744073709551615G", None),
            ("1 G", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "'{text}'");
        }
    }

    #[test]
    fn what_the_pages_show_is_taken() {
        let pages = [
            include_str!("../../docs/daemon.md"),
            include_str!("../../docs/sharing.md"),
        ];
        for page in pages {
            let shown = page.split_once("```toml\n");
            let shown = shown.or_else(|| page.split_once("vgpud.toml <<'END'\n"));
            let (_, shown) = shown.unwrap();
            let end = shown.find("```").into_iter().chain(shown.find("\nEND"));
            let shown = &shown[..end.min().unwrap()];
            assert_ne!(Config::parse(shown).unwrap(), Config::default(), "{shown}");
        }
    }
}
