//! Engines that vGPUs share.

use axum::Json;
use axum::extract::State;

use crate::api::{Engine, EngineChanges, EngineSlice};
use crate::manager::Manager;

use super::extract::{After, Body, Path, Query};
use super::refusal::{Refusal, Refused, RefusedOrFailed};

/// Every engine that is shared: how, and who has used how much.
#[utoipa::path(
    get,
    path = "/v1/engines",
    responses(
        (status = 200, body = Vec<Engine>),
        Refused,
    )
)]
pub(super) async fn list(State(manager): State<Manager>) -> Json<Vec<Engine>> {
    Json(manager.engines().await)
}

/// The engine of a parent.
#[utoipa::path(
    get,
    path = "/v1/parents/{parent}/engine",
    params(("parent" = String, Path, description = "Its name")),
    responses(
        (status = 200, body = Engine),
        Refused,
    )
)]
pub(super) async fn show(
    State(manager): State<Manager>,
    Path(parent): Path<String>,
) -> Result<Json<Engine>, Refusal> {
    Ok(Json(manager.engine(&parent).await?))
}

/// Shares the engine of a parent in another way, from the next decision on. Refused if a vGPU's
/// settings do not fit.
#[utoipa::path(
    patch,
    path = "/v1/parents/{parent}/engine",
    params(("parent" = String, Path, description = "Its name")),
    request_body = EngineChanges,
    responses(
        (status = 200, body = Engine),
        RefusedOrFailed,
    )
)]
pub(super) async fn modify(
    State(manager): State<Manager>,
    Path(parent): Path<String>,
    Body(changes): Body<EngineChanges>,
) -> Result<Json<Engine>, Refusal> {
    Ok(Json(manager.set_policy(&parent, changes.policy).await?))
}

/// Who had the engine of a parent when: the last few thousand decisions, the oldest first.
#[utoipa::path(
    get,
    path = "/v1/parents/{parent}/engine/slices",
    params(("parent" = String, Path, description = "Its name"), After),
    responses(
        (status = 200, body = Vec<EngineSlice>),
        Refused,
    )
)]
pub(super) async fn slices(
    State(manager): State<Manager>,
    Path(parent): Path<String>,
    Query(asked): Query<After>,
) -> Result<Json<Vec<EngineSlice>>, Refusal> {
    Ok(Json(manager.engine_slices(&parent, asked.after).await?))
}
