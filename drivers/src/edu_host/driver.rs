//! Which devices are known, the type that they have, and how one is opened.

use std::sync::Arc;
use std::time::Duration;

use mdev::device::{AttributeError, BuildError};
use mdev::host::{HostDevice, HostError, HostIdentity};
use mdev::{Attributes, Parent, ParentDriver, TypeSpec};

use super::hardware::Physical;
use super::parent::EduParent;
use crate::edu::model::Model;

/// Shares educational devices.
#[derive(Clone, Copy, Debug)]
pub struct EduHostDriver;

/// Vendor and device of QEMU's device ("PCI specs" in `docs/specs/edu.rst`).
const IDENTITY: (u16, u16) = (0x1234, 0x11e8);

/// As many as QEMU's device has unless it is told otherwise (`dma_mask`). It drops the bits of an address
/// beyond its own, which nobody can ask it for; and 256 MiB are plenty for what is pinned at a time,
/// wherever guests have it.
const ADDRESS_BITS: u32 = 28;

/// How long the device may take for a transfer of a guest's. One job of QEMU's takes 100 ms, and a
/// transfer is three jobs at most. Whoever unmaps memory waits for a transfer, and the client for him,
/// 4 s at most.
const LIMIT: Duration = Duration::from_secs(3);

/// The only type.
pub(super) fn spec() -> TypeSpec {
    TypeSpec {
        name: Model::Shared.name().to_owned(),
        title: "educational device".to_owned(),
        description: Model::Shared.description().to_owned(),
        video_memory: 0,
    }
}

impl ParentDriver for EduHostDriver {
    fn name(&self) -> &'static str {
        "edu"
    }

    fn drives(&self, identity: &HostIdentity) -> bool {
        (identity.vendor, identity.device) == IDENTITY
    }

    fn types(&self, _: &HostIdentity) -> Vec<TypeSpec> {
        vec![spec()]
    }

    fn address_bits(&self, _: &HostIdentity) -> u32 {
        ADDRESS_BITS
    }

    fn uses_engine(&self, _: &TypeSpec) -> bool {
        true
    }

    fn open(
        &self,
        device: HostDevice,
        settings: &Attributes,
    ) -> Result<Arc<dyn Parent>, BuildError> {
        if let Some((name, _)) = settings.0.first() {
            return Err(AttributeError::Unknown(name.clone()).into());
        }
        let hardware = Physical::new(device).map_err(refused)?;
        let iommu = Arc::clone(hardware.device().dma()) as _;
        Ok(Arc::new(EduParent::new(Box::new(hardware), iommu, LIMIT)))
    }
}

fn refused(error: HostError) -> BuildError {
    BuildError::Os {
        what: "take the educational device",
        source: error.into(),
    }
}
