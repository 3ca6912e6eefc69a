//! Persistent definitions.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use uuid::Uuid;

use crate::api::{Definition, DefinitionRequest};
use crate::manager::Manager;

use super::extract::{Body, Path};
use super::refusal::{Refusal, RefusedOrFailed};

/// Where a definition is kept.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct Place {
    /// The parent that it is for.
    parent: String,
    /// The UUID that it is of.
    #[serde(with = "uuid::serde::hyphenated")]
    uuid: Uuid,
}

/// Every definition.
#[utoipa::path(
    get,
    path = "/v1/definitions",
    responses(
        (status = 200, body = Vec<Definition>),
        RefusedOrFailed,
    )
)]
pub(super) async fn list(State(manager): State<Manager>) -> Result<Json<Vec<Definition>>, Refusal> {
    Ok(Json(manager.definitions().await?))
}

/// One definition.
#[utoipa::path(
    get,
    path = "/v1/definitions/{parent}/{uuid}",
    params(Place),
    responses(
        (status = 200, body = Definition),
        RefusedOrFailed,
    )
)]
pub(super) async fn show(
    State(manager): State<Manager>,
    Path(Place { parent, uuid }): Path<Place>,
) -> Result<Json<Definition>, Refusal> {
    Ok(Json(manager.definition(&parent, uuid).await?))
}

/// Keeps a definition, in the place of one that is there.
#[utoipa::path(
    put,
    path = "/v1/definitions/{parent}/{uuid}",
    params(Place),
    request_body = DefinitionRequest,
    responses(
        (status = 201, description = "it is new", body = Definition),
        (status = 200, description = "it replaces one", body = Definition),
        RefusedOrFailed,
    )
)]
pub(super) async fn put(
    State(manager): State<Manager>,
    Path(Place { parent, uuid }): Path<Place>,
    Body(request): Body<DefinitionRequest>,
) -> Result<(StatusCode, Json<Definition>), Refusal> {
    let (definition, was_there) = manager.define(&parent, uuid, request).await?;
    let status = if was_there {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    Ok((status, Json(definition)))
}

/// Removes a definition. An instance of it lives on.
#[utoipa::path(
    delete,
    path = "/v1/definitions/{parent}/{uuid}",
    params(Place),
    responses(
        (status = 204),
        RefusedOrFailed,
    )
)]
pub(super) async fn remove(
    State(manager): State<Manager>,
    Path(Place { parent, uuid }): Path<Place>,
) -> Result<StatusCode, Refusal> {
    manager.undefine(&parent, uuid).await?;
    Ok(StatusCode::NO_CONTENT)
}
