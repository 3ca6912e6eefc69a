//! Which vGPU is meant, and where the daemon listens.

use std::path::{Path, PathBuf};

use anyhow::Context;
use uuid::Uuid;
use vgpud::api::Attribute;
use vgpud::client::Client;
use worker::control::Control;

/// Where the daemon listens, if nobody says.
const USUAL_API: &str = "/run/vgpud/api.sock";

/// Where the daemon listens.
#[derive(clap::Args)]
pub(crate) struct Api {
    /// The daemon's socket
    #[arg(
        long,
        value_name = "PATH",
        env = "VGPUD_API",
        hide_env_values = true,
        default_value = USUAL_API
    )]
    api: PathBuf,
}

impl Api {
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Client::new(&self.api).context("cannot prepare for the daemon's answers")
    }

    /// The folder of the daemon's socket, where those of its vGPUs are as well; from the root.
    pub(crate) fn folder(&self) -> anyhow::Result<PathBuf> {
        let api = std::path::absolute(&self.api).context("the daemon's socket has no path")?;
        Ok(api.parent().map(Path::to_owned).unwrap_or_default())
    }

    /// The daemon's socket, from the root, where it is not the usual one.
    pub(crate) fn unusual(&self) -> anyhow::Result<Option<PathBuf>> {
        let api = std::path::absolute(&self.api).context("the daemon's socket has no path")?;
        Ok((api != Path::new(USUAL_API)).then_some(api))
    }
}

/// A vGPU of the daemon's.
#[derive(clap::Args)]
#[group(id = "named", required = true, multiple = false)]
pub(crate) struct Named {
    /// Its UUID
    #[arg(value_name = "UUID", value_parser = whole_uuid)]
    name: Option<Uuid>,
    /// Its UUID, as mdevctl takes it
    #[arg(short, long, value_name = "UUID", value_parser = whole_uuid)]
    uuid: Option<Uuid>,
}

impl Named {
    pub(crate) fn uuid(&self) -> anyhow::Result<Uuid> {
        // The parser has seen to it that there is one.
        self.name.or(self.uuid).context("no UUID is given")
    }
}

/// A vGPU that runs: the daemon's, or one of `vgpu run`.
#[derive(clap::Args)]
#[group(id = "target", required = true, multiple = false)]
pub(crate) struct Target {
    /// Its UUID
    #[arg(value_name = "UUID", value_parser = whole_uuid)]
    name: Option<Uuid>,
    /// Its UUID, as mdevctl takes it
    #[arg(short, long, value_name = "UUID", value_parser = whole_uuid)]
    uuid: Option<Uuid>,
    /// For one of `vgpu run` instead: its control socket
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

/// A way to a vGPU that runs.
pub(crate) enum Way {
    Daemon(Client, Uuid),
    Worker(Control),
}

impl Target {
    /// Connects to a worker; the daemon is reached with the first request.
    pub(crate) fn reach(&self, api: &Api) -> anyhow::Result<Way> {
        let Some(path) = &self.control else {
            let (client, uuid) = self.daemon(api)?;
            return Ok(Way::Daemon(client, uuid));
        };
        let control = Control::connect(path)
            .with_context(|| format!("cannot use the control socket {}", path.display()))?;
        Ok(Way::Worker(control))
    }
}

impl Target {
    /// The control socket, if it is one of `vgpu run`.
    pub(crate) fn control(&self) -> Option<&Path> {
        self.control.as_deref()
    }

    /// The daemon, and which of its vGPUs.
    pub(crate) fn daemon(&self, api: &Api) -> anyhow::Result<(Client, Uuid)> {
        let uuid = self.name.or(self.uuid).context("no UUID is given")?;
        Ok((api.client()?, uuid))
    }
}

/// A UUID, written in full. What could be a part of one, or of several, is refused: the wrong vGPU
/// might be stopped.
pub(crate) fn whole_uuid(text: &str) -> Result<Uuid, String> {
    /// 8-4-4-4-12 digits, and no other of the ways to write one.
    const LENGTH: usize = 36;
    match Uuid::try_parse(text) {
        Ok(uuid) if text.len() == LENGTH => Ok(uuid),
        _ => Err("a UUID is written in full: 8-4-4-4-12 hexadecimal digits".to_owned()),
    }
}

/// `NAME=VALUE`.
pub(crate) fn attribute(text: &str) -> Result<Attribute, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Attribute {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
        _ => Err("an attribute is NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_whole_and_in_one_form() {
        let lower = "c2177883-f1bb-47f0-914d-32a22e3a8804";
        assert_eq!(whole_uuid(lower).unwrap().to_string(), lower);
        let upper = whole_uuid(&lower.to_uppercase()).unwrap();
        assert_eq!(upper.to_string(), lower);
        for text in [
            "",
            "c2177883",
            "c2177883-f1bb-47f0-914d-32a22e3a880",
            "c2177883-f1bb-47f0-914d-32a22e3a88044",
            "c2177883f1bb47f0914d32a22e3a8804",
            "{c2177883-f1bb-47f0-914d-32a22e3a8804}",
            "urn:uuid:c2177883-f1bb-47f0-914d-32a22e3a8804",
            "g2177883-f1bb-47f0-914d-32a22e3a8804",
            "../../../../../../../../../../etc/pass",
        ] {
            assert!(whole_uuid(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_attribute_has_a_name() {
        assert_eq!(attribute("a=b=c").unwrap().value, "b=c");
        assert_eq!(attribute("a=").unwrap().value, "");
        assert!(attribute("=a").is_err());
        assert!(attribute("a").is_err());
    }
}
