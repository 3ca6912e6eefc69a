//! How a check reaches the server, and what the server offers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::check::Unmet;
use crate::connection::Connection;
use crate::feature::Feature;
use crate::negotiated::{Client, OFFER};
use crate::server::Server;

/// The server under test, for the checks.
#[derive(Debug)]
pub struct Target {
    server: RefCell<Server>,
    patience: Duration,
    features: RefCell<HashMap<Feature, Rc<Result<bool, Unmet>>>>,
    open: Arc<()>,
}

impl Target {
    /// The target that `server` is, on which no wait takes longer than `patience`.
    pub fn new(server: Server, patience: Duration) -> Self {
        Self {
            server: RefCell::new(server),
            patience,
            features: RefCell::default(),
            open: Arc::default(),
        }
    }

    /// The longest that one wait may take.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The server itself.
    pub fn server(&self) -> std::cell::RefMut<'_, Server> {
        self.server.borrow_mut()
    }

    /// A new connection, on which nothing was sent.
    pub fn connect(&self) -> Result<Connection, Unmet> {
        let is_first = Arc::strong_count(&self.open) == 1;
        let socket = self.server.borrow_mut().connect(is_first)?;
        Ok(Connection::new(
            OwnedFd::from(socket),
            self.patience,
            Arc::clone(&self.open),
        ))
    }

    /// A new connection on which the version was agreed on, all that QEMU offers being offered.
    pub fn client(&self) -> Result<Client, Unmet> {
        self.client_offering(OFFER)
    }

    /// A new connection on which the version was agreed on, with this JSON offered.
    pub fn client_offering(&self, json: &str) -> Result<Client, Unmet> {
        Client::negotiate(self.connect()?, 0, json)
    }

    /// Whether the server has `feature`, asked once. Where it cannot be asked the check that
    /// needs it fails: to skip would hide it.
    pub fn offers(&self, feature: Feature) -> Result<bool, Unmet> {
        if let Some(known) = self.features.borrow().get(&feature) {
            return known.as_ref().clone();
        }
        let offered = feature.probe(self);
        // A server that dies of being asked fails the checks of unknown commands. That it lacks
        // the feature is all that matters here.
        self.server.borrow_mut().take_death();
        let known = Rc::new(offered.clone());
        self.features.borrow_mut().insert(feature, known);
        offered
    }
}
