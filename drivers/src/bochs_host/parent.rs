//! What the vGPUs of one card have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mdev::device::BuildError;
use mdev::host::{HostError, Seat};
use mdev::{Attributes, MediatedDevice, Parent, Services, TypeSpec};

use super::card::Card;
use super::device::BochsSlice;
use super::model::MODELS;
use super::screen::Screen;
use super::settings::Settings;
use super::slices::Slices;

/// A card that vGPUs share.
#[derive(Debug)]
pub(super) struct BochsParent {
    shared: Shared,
    may_be_direct: bool,
    next_seat: AtomicU64,
}

/// What each of them uses.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) slices: Arc<Slices>,
    pub(super) screen: Arc<Screen>,
}

impl BochsParent {
    /// Takes a card, which then shows nothing.
    pub(super) fn new(card: Arc<dyn Card>, may_be_direct: bool) -> Result<Self, HostError> {
        let screen = Arc::new(Screen::new(Arc::clone(&card))?);
        let slices = Arc::new(Slices::new(card));
        Ok(Self {
            shared: Shared { slices, screen },
            may_be_direct,
            next_seat: AtomicU64::new(0),
        })
    }
}

impl Parent for BochsParent {
    fn build(
        &self,
        spec: &TypeSpec,
        attributes: &Attributes,
        services: Services,
    ) -> Result<Box<dyn MediatedDevice>, BuildError> {
        let model = MODELS
            .into_iter()
            .find(|model| model.name == spec.name)
            .ok_or_else(|| BuildError::UnknownType(spec.name.clone()))?;
        let settings = Settings::parse(attributes, &model, self.may_be_direct)?;
        let seat = Seat(self.next_seat.fetch_add(1, Ordering::Relaxed));
        let shared = self.shared.clone();
        let device =
            BochsSlice::new(model, settings, shared, seat, services).map_err(|source| {
                let what = "have part of the card's video memory";
                BuildError::Os { what, source }
            })?;
        Ok(Box::new(device))
    }
}
