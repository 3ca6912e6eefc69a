//! The host itself.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::api::{HostFacts, InstanceUsage};
use crate::manager::Manager;
use crate::{host, metrics, usage};

use super::refusal::Refused;

/// What this host can do, and what to do about what it cannot.
#[utoipa::path(
    get,
    path = "/v1/host",
    responses(
        (status = 200, body = HostFacts),
        Refused,
    )
)]
pub(super) async fn facts(State(manager): State<Manager>) -> Json<HostFacts> {
    Json(host::look(&manager).await)
}

/// What the worker of each vGPU that runs takes of this host.
#[utoipa::path(
    get,
    path = "/v1/usage",
    responses(
        (status = 200, body = Vec<InstanceUsage>),
        Refused,
    )
)]
pub(super) async fn usage(State(manager): State<Manager>) -> Json<Vec<InstanceUsage>> {
    Json(usage::look(&manager).await)
}

/// What is counted, in the text format of Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    responses(
        (status = 200, content_type = "text/plain; version=0.0.4", body = String),
        Refused,
    )
)]
pub(super) async fn metrics(State(manager): State<Manager>) -> impl IntoResponse {
    let text = metrics::scrape(&manager).await;
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
}
