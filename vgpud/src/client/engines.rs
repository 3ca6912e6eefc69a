//! Engines that vGPUs share.

use hyper::Method;

use crate::api::{Engine, EngineChanges, EngineSlice, Policy};

use super::{Client, Result};

impl Client {
    /// Every engine that is shared: how, and who has used how much.
    pub fn engines(&self) -> Result<Vec<Engine>> {
        self.get("/v1/engines")
    }

    /// The engine of a parent.
    pub fn engine(&self, parent: &str) -> Result<Engine> {
        self.get(&format!("/v1/parents/{parent}/engine"))
    }

    /// Shares the engine of a parent in another way.
    pub fn set_policy(&self, parent: &str, policy: Policy) -> Result<Engine> {
        let changes = EngineChanges { policy };
        let path = format!("/v1/parents/{parent}/engine");
        self.ask(Method::PATCH, &path, Some(&changes))
    }

    /// Who had the engine of a parent when, after that decision; 0 for all that are kept.
    pub fn engine_slices(&self, parent: &str, after: u64) -> Result<Vec<EngineSlice>> {
        self.get(&format!("/v1/parents/{parent}/engine/slices?after={after}"))
    }
}
