//! What is counted, for Prometheus.

use crate::manager::Manager;

/// Everything that is counted, in the text format of Prometheus.
pub async fn scrape(_manager: &Manager) -> String {
    String::new()
}
