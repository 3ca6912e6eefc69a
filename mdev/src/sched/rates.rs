//! The rates that settings and a policy mean for a client of an engine.

use super::account::Sharing;
use super::meter::Rate;
use super::settings::{Policy, Settings};
use super::units::PerMille;

/// The rates that settings mean on an engine.
pub(super) struct Rates {
    pub(super) cap: Option<Rate>,
    pub(super) share: Option<Rate>,
    pub(super) reservation: Option<Rate>,
    pub(super) display: Rate,
}

impl Rates {
    /// Most of an engine that one client's display class gets before others, in thousandths, and
    /// most for those of all clients together. Without it a guest calls all it does display.
    const DISPLAY: u32 = 100;
    const DISPLAYS: u32 = 500;

    pub(super) fn new(settings: &Settings, sharing: Sharing) -> Self {
        let rate = |share: PerMille| Rate::of(share, sharing.depth);
        let thousandths = |n| PerMille::new(n).map_or(rate(PerMille::ALL), rate);
        let cap = settings.cap().map(rate);
        let reserved = settings.reservation().map(rate);
        let (share, reservation) = match sharing.policy {
            Policy::BestEffort => (None, reserved),
            Policy::EqualShare => (Some(rate(PerMille::ALL).each(sharing.clients)), None),
            Policy::FixedShare => (reserved, None),
        };
        let display =
            thousandths(Self::DISPLAY).min(thousandths(Self::DISPLAYS).each(sharing.clients));
        let ceilings = [cap, share].into_iter().flatten();
        Self {
            cap,
            share,
            reservation,
            display: ceilings.fold(display, Rate::min),
        }
    }
}
