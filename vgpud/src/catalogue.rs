//! The parents of this host and the types that each offers, as drivers and configuration say.
//!
//! - here: those that need no hardware, and what the configuration makes of any,
//! - [`physical`]: PCI devices that `vfio-pci` has.

pub mod physical;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use mdev::TypeSpec;
use mdev::sched::Nanos;

use crate::api::{Attribute, Policy};
use crate::config::{Bytes, Config, ConfigError, ParentConfig, TypeConfig};
use crate::drm;
use crate::functions;
use crate::paths::Paths;
use crate::pool::{Limits, Share};

pub use physical::HostParent;

/// The parent that needs no hardware.
pub const SOFTWARE: &str = "soft0";

/// Most vGPUs on a parent, unless the configuration says so. Each costs a process.
const MAX_INSTANCES: u64 = 1024;

/// Longest name of a parent or type: it becomes a file's.
pub const MAX_NAME: usize = 64;

/// A parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentSpec {
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// What its vGPUs share.
    pub limits: Limits,
    /// The engine that its vGPUs share, if they do.
    pub engine: Option<EngineSpec>,
    /// What it offers.
    pub types: Vec<OfferedType>,
    /// The physical device, if its vGPUs stand on one that `vfio-pci` has.
    pub host: Option<HostParent>,
}

/// An engine that vGPUs share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSpec {
    /// How many jobs run on it at once.
    pub places: u32,
    /// How it is shared, until that is set while the daemon runs.
    pub policy: Policy,
    /// A job that takes longer than so many milliseconds is ended.
    pub job_limit_ms: u64,
}

impl EngineSpec {
    /// As it is unless the configuration says otherwise: one job at a time, as on the ring of a GPU.
    pub const USUAL: Self = Self {
        places: 1,
        policy: Policy::BestEffort,
        job_limit_ms: 10_000,
    };

    pub(crate) fn job_limit(&self) -> Nanos {
        Nanos::from_millis(self.job_limit_ms)
    }
}

/// A type that a parent offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedType {
    /// Its name.
    pub name: String,
    /// The driver's type behind it.
    pub base: String,
    /// A few words.
    pub title: String,
    /// A sentence.
    pub description: String,
    /// Attributes that every instance starts with.
    pub attributes: Vec<Attribute>,
    /// What one takes of the parent.
    pub share: Share,
    /// Whether one asks for the engine that the parent's vGPUs share.
    pub uses_engine: bool,
}

impl ParentSpec {
    /// One that offers nothing.
    fn barren(name: String, description: String) -> Self {
        Self {
            name,
            description,
            limits: Limits {
                instances: 0,
                video_memory: 0,
            },
            engine: None,
            types: Vec::new(),
            host: None,
        }
    }

    /// The type of that name.
    pub fn find_type(&self, name: &str) -> Option<&OfferedType> {
        self.types.iter().find(|offered| offered.name == name)
    }
}

/// Whether a name may be a parent's or type's.
pub fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    (1..=MAX_NAME).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with('.')
}

/// Finds the parents of this host.
pub fn find_parents(config: &Config, paths: &Paths) -> Result<Vec<ParentSpec>, ConfigError> {
    let types = software_types(&config.types)?;
    let mut parents = vec![ParentSpec {
        name: SOFTWARE.to_owned(),
        description: "devices in software, on this host's CPUs and memory".to_owned(),
        limits: Limits {
            instances: MAX_INSTANCES,
            video_memory: total_memory() / 2,
        },
        engine: Some(EngineSpec::USUAL),
        types,
        host: None,
    }];
    for node in drm::render_nodes(paths) {
        parents.push(ParentSpec::barren(node.name.clone(), node.description()));
    }
    for found in physical::find(config, &paths.bus(), drivers::parent_driver) {
        parents.push(found.sound()?);
    }
    for (name, settings) in &config.parents {
        if physical::is_said(name, settings)? {
            continue;
        }
        if let Some(device) = &settings.device {
            if parents.iter().any(|parent| parent.name == *name) {
                return Err(senseless(format!(
                    "parents.{name}.device: it is found without"
                )));
            }
            let is_there = paths.host(&device.display().to_string()).exists();
            parents.push(named_parent(name, device, is_there)?);
        }
        let parent = parents.iter_mut().find(|parent| parent.name == *name);
        let parent = parent
            .ok_or_else(|| senseless(format!("parents.{name}: this host has no such parent")))?;
        apply(parent, settings)?;
    }
    Ok(parents)
}

/// A parent that the configuration alone knows.
fn named_parent(name: &str, device: &Path, is_there: bool) -> Result<ParentSpec, ConfigError> {
    if !is_name(name) {
        return Err(senseless(format!(
            "parents.{name}: a device cannot be called so"
        )));
    }
    let shown = device.display();
    let why = if is_there {
        "no driver here shares it yet"
    } else {
        "there is nothing at that path"
    };
    let description = format!("device at {shown}; it offers no types: {why}");
    Ok(ParentSpec::barren(name.to_owned(), description))
}

/// What the drivers offer, and what the configuration makes of it.
fn software_types(further: &[TypeConfig]) -> Result<Vec<OfferedType>, ConfigError> {
    let specs = drivers::DRIVERS.iter().flat_map(|driver| driver.types());
    let bases: Vec<_> = specs
        .filter(|spec| !functions::is_function(&spec.name))
        .map(|spec| {
            let uses_engine = drivers::uses_engine(&spec.name);
            OfferedType::of(spec, uses_engine)
        })
        .collect();
    let mut types = bases.clone();
    let mut names: BTreeSet<_> = bases.iter().map(|base| base.name.clone()).collect();
    for settings in further {
        let name = &settings.name;
        if !is_name(name) {
            return Err(senseless(format!(
                "types: '{name}' is no name: letters, digits, '-', '_', '.' and ':', \
                 at most {MAX_NAME}"
            )));
        }
        if !names.insert(name.clone()) {
            return Err(senseless(format!("types: there are two of '{name}'")));
        }
        let base = bases.iter().find(|base| base.name == settings.base);
        let base = base.ok_or_else(|| {
            let wanted = &settings.base;
            senseless(format!(
                "types: '{name}' is made of '{wanted}', which no driver of devices in software has"
            ))
        })?;
        if settings.replaces_base {
            types.retain(|offered| offered.name != base.name);
        }
        types.push(derive(base, settings));
    }
    Ok(types)
}

fn derive(base: &OfferedType, settings: &TypeConfig) -> OfferedType {
    let attributes = settings.attributes.iter();
    let memory = settings.video_memory.map(|Bytes(bytes)| bytes);
    OfferedType {
        name: settings.name.clone(),
        base: base.name.clone(),
        title: settings.title.clone().unwrap_or_else(|| base.title.clone()),
        description: settings
            .description
            .clone()
            .unwrap_or_else(|| base.description.clone()),
        attributes: attributes
            .map(|(name, value)| Attribute {
                name: name.clone(),
                value: value.clone(),
            })
            .collect(),
        share: Share {
            video_memory: memory.unwrap_or(base.share.video_memory),
            limit: None,
        },
        uses_engine: base.uses_engine,
    }
}

impl OfferedType {
    /// A driver's type, as it is.
    fn of(spec: TypeSpec, uses_engine: bool) -> Self {
        Self {
            base: spec.name.clone(),
            name: spec.name,
            title: spec.title,
            description: spec.description,
            attributes: Vec::new(),
            share: Share {
                video_memory: spec.video_memory,
                limit: None,
            },
            uses_engine,
        }
    }
}

/// Limits a parent as the configuration says.
fn apply(parent: &mut ParentSpec, settings: &ParentConfig) -> Result<(), ConfigError> {
    let name = parent.name.clone();
    let is_said = settings.direct.is_some() || settings.lock_limit.is_some();
    if is_said && parent.host.is_none() {
        return Err(senseless(format!(
            "parents.{name}: direct and lock-limit are of devices that vfio-pci has"
        )));
    }
    let unknown = |what: &str, type_name: &str| {
        senseless(format!(
            "parents.{name}.{what}: it has no type '{type_name}'"
        ))
    };
    apply_engine(parent, settings)?;
    if let Some(instances) = settings.instances {
        parent.limits.instances = instances;
    }
    if let Some(Bytes(bytes)) = settings.video_memory {
        parent.limits.video_memory = bytes;
    }
    for (type_name, limit) in &settings.limits {
        let mut types = parent.types.iter_mut();
        let offered = types.find(|offered| offered.name == *type_name);
        let offered = offered.ok_or_else(|| unknown("limits", type_name))?;
        offered.share.limit = Some(*limit);
    }
    if let Some(offer) = &settings.offer {
        if let Some(missing) = offer.iter().find(|name| parent.find_type(name).is_none()) {
            return Err(unknown("offer", missing));
        }
        parent.types.retain(|offered| offer.contains(&offered.name));
    }
    Ok(())
}

/// How the engine of a parent is shared, as the configuration says.
fn apply_engine(parent: &mut ParentSpec, settings: &ParentConfig) -> Result<(), ConfigError> {
    /// What a scheduler takes, and what nobody waits longer for.
    const MOST_PLACES: u32 = 1024;
    const LIMITS_MS: RangeInclusive<u64> = 10..=3_600_000;
    let name = &parent.name;
    let is_said = settings.policy.is_some()
        || settings.engine_places.is_some()
        || settings.job_limit_ms.is_some();
    let Some(engine) = &mut parent.engine else {
        return match is_said {
            false => Ok(()),
            true => Err(senseless(format!(
                "parents.{name}: its vGPUs share no engine"
            ))),
        };
    };
    if let Some(places) = settings.engine_places {
        if !(1..=MOST_PLACES).contains(&places) {
            return Err(senseless(format!(
                "parents.{name}.engine-places: 1 to {MOST_PLACES}"
            )));
        }
        engine.places = places;
    }
    if let Some(limit) = settings.job_limit_ms {
        if !LIMITS_MS.contains(&limit) {
            return Err(senseless(format!(
                "parents.{name}.job-limit-ms: 10 to 3600000"
            )));
        }
        engine.job_limit_ms = limit;
    }
    engine.policy = settings.policy.unwrap_or(engine.policy);
    Ok(())
}

/// Bytes of memory that this host has.
pub(crate) fn total_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}

fn senseless(words: String) -> ConfigError {
    ConfigError::Senseless(words)
}

#[cfg(test)]
mod tests;
