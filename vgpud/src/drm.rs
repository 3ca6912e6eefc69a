//! The render nodes of this host's GPUs.

use std::fs::{self, File};
use std::path::Path;

use crate::files;
use crate::paths::Paths;

/// A render node that can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RenderNode {
    /// The card's name, `card0`; the node's own if the card is not known.
    pub(crate) name: String,
    /// `renderD128`.
    node: String,
    /// Which kernel driver, if that is known.
    driver: Option<String>,
}

impl RenderNode {
    pub(crate) fn description(&self) -> String {
        let driver = self.driver.as_deref().unwrap_or("unknown");
        let node = &self.node;
        format!(
            "GPU at /dev/dri/{node} (kernel driver {driver}); it offers no types: \
             no driver here shares it yet"
        )
    }
}

/// The render nodes that this process can open.
pub(crate) fn render_nodes(paths: &Paths) -> Vec<RenderNode> {
    let folder = paths.host("/dev/dri");
    let names = files::names_with(&folder, "").unwrap_or_else(|error| {
        tracing::warn!("cannot look into {}: {error}", folder.display());
        Vec::new()
    });
    let nodes = names.into_iter().filter(|name| name.starts_with("renderD"));
    nodes
        .filter(|node| is_usable(&folder.join(node)))
        .map(|node| {
            let device = paths.host("/sys/class/drm").join(&node).join("device");
            RenderNode {
                name: card_of(&device).unwrap_or_else(|| node.clone()),
                driver: driver_of(&device),
                node,
            }
        })
        .collect()
}

fn is_usable(path: &Path) -> bool {
    match File::options().read(true).write(true).open(path) {
        Ok(_) => true,
        Err(error) => {
            tracing::info!("{} is left out: {error}", path.display());
            false
        }
    }
}

fn card_of(device: &Path) -> Option<String> {
    let names = files::names_with(&device.join("drm"), "").ok()?;
    names.into_iter().find(|name| name.starts_with("card"))
}

fn driver_of(device: &Path) -> Option<String> {
    let driver = fs::read_link(device.join("driver")).ok()?;
    Some(driver.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_render_node_is_named_after_its_card() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in [
            "dev/dri",
            "sys/class/drm/renderD128/device/drm/card0",
            "sys/drivers/i915",
        ] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["renderD128", "renderD129", "card0"] {
            fs::write(at("dev/dri").join(file), "").unwrap();
        }
        let driver = at("sys/class/drm/renderD128/device/driver");
        std::os::unix::fs::symlink(at("sys/drivers/i915"), driver).unwrap();
        let nodes = render_nodes(&Paths::new(root.path()));
        let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["card0", "renderD129"]);
        assert!(nodes[0].description().contains("i915"));
        assert!(nodes[1].description().contains("unknown"));
    }
}
