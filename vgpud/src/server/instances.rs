//! Instances and their life.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use uuid::Uuid;

use crate::api::{AttributeChanges, CreateRequest, Instance, Upgrade, WorkerStatus};
use crate::error::Error;
use crate::manager::{Created, Manager};

use super::extract::{Body, Exclusive, Force, Id, Path, Query};
use super::refusal::{Refusal, Refused, RefusedOrFailed};

/// Every instance.
#[utoipa::path(
    get,
    path = "/v1/instances",
    responses(
        (status = 200, body = Vec<Instance>),
        Refused,
    )
)]
pub(super) async fn list(State(manager): State<Manager>) -> Json<Vec<Instance>> {
    Json(manager.instances().await)
}

/// Creates an instance under a UUID of the daemon's choice.
#[utoipa::path(
    post,
    path = "/v1/instances",
    request_body = CreateRequest,
    responses(
        (status = 201, body = Instance),
        RefusedOrFailed,
    )
)]
pub(super) async fn create(
    State(manager): State<Manager>,
    Body(request): Body<CreateRequest>,
) -> Result<(StatusCode, Json<Instance>), Refusal> {
    let (instance, _) = manager.create(Uuid::new_v4(), request).await?;
    Ok((StatusCode::CREATED, Json(instance)))
}

/// One instance.
#[utoipa::path(
    get,
    path = "/v1/instances/{uuid}",
    params(("uuid" = Uuid, Path)),
    responses(
        (status = 200, body = Instance),
        Refused,
    )
)]
pub(super) async fn show(
    State(manager): State<Manager>,
    Path(Id(uuid)): Path<Id>,
) -> Result<Json<Instance>, Refusal> {
    Ok(Json(manager.instance(uuid).await?))
}

/// Creates an instance under this UUID. The same request again gets the instance as it is; another
/// one is refused with EEXIST, and so is any with `exclusive=true`.
#[utoipa::path(
    put,
    path = "/v1/instances/{uuid}",
    params(("uuid" = Uuid, Path), Exclusive),
    request_body = CreateRequest,
    responses(
        (status = 201, description = "it was created", body = Instance),
        (status = 200, description = "it was there", body = Instance),
        RefusedOrFailed,
    )
)]
pub(super) async fn put(
    State(manager): State<Manager>,
    Path(Id(uuid)): Path<Id>,
    Query(Exclusive { exclusive }): Query<Exclusive>,
    Body(request): Body<CreateRequest>,
) -> Result<(StatusCode, Json<Instance>), Refusal> {
    let (instance, created) = manager.create(uuid, request).await?;
    let status = match created {
        Created::Now => StatusCode::CREATED,
        Created::Before if exclusive => {
            return Err(Error::Exists(uuid, "a new one is".to_owned()).into());
        }
        Created::Before => StatusCode::OK,
    };
    Ok((status, Json(instance)))
}

/// Stops an instance and removes it. Its place is free when this is answered.
#[utoipa::path(
    delete,
    path = "/v1/instances/{uuid}",
    params(("uuid" = Uuid, Path), Force),
    responses(
        (status = 204),
        RefusedOrFailed,
    )
)]
pub(super) async fn destroy(
    State(manager): State<Manager>,
    Path(Id(uuid)): Path<Id>,
    Query(Force { force }): Query<Force>,
) -> Result<StatusCode, Refusal> {
    manager.destroy(uuid, force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes attributes, all or none.
#[utoipa::path(
    patch,
    path = "/v1/instances/{uuid}",
    params(("uuid" = Uuid, Path)),
    request_body = AttributeChanges,
    responses(
        (status = 200, body = Instance),
        RefusedOrFailed,
    )
)]
pub(super) async fn modify(
    State(manager): State<Manager>,
    Path(Id(uuid)): Path<Id>,
    Body(changes): Body<AttributeChanges>,
) -> Result<Json<Instance>, Refusal> {
    Ok(Json(
        manager.set_attributes(uuid, changes.attributes).await?,
    ))
}

/// Starts an instance; creates it first, if it is only defined. One that runs stays as it is.
#[utoipa::path(
    post,
    path = "/v1/instances/{uuid}/start",
    params(("uuid" = Uuid, Path)),
    responses(
        (status = 200, body = Instance),
        RefusedOrFailed,
    )
)]
pub(super) async fn start(
    State(manager): State<Manager>,
    Path(Id(uuid)): Path<Id>,
) -> Result<Json<Instance>, Refusal> {
    Ok(Json(manager.start(uuid).await?))
}

/// Stops an instance. It keeps its place.
#[utoipa::path(
    post,
    path = "/v1/instances/{uuid}/stop",
    params(("uuid" = Uuid, Path), Force),
    responses(
        (status = 200, body = Instance),
        RefusedOrFailed,
    )
)]
pub(super) async fn stop(
    State(manager): State<Manager>,
    Path(Id(uuid)): Path<Id>,
    Query(Force { force }): Query<Force>,
) -> Result<Json<Instance>, Refusal> {
    Ok(Json(manager.stop(uuid, force).await?))
}

/// Has a worker of the installed program take over from the one that serves. If it cannot, that one
/// goes on.
#[utoipa::path(
    post,
    path = "/v1/instances/{uuid}/upgrade",
    params(("uuid" = Uuid, Path)),
    responses(
        (status = 200, body = Upgrade),
        RefusedOrFailed,
    )
)]
pub(super) async fn upgrade(
    State(manager): State<Manager>,
    Path(Id(uuid)): Path<Id>,
) -> Result<Json<Upgrade>, Refusal> {
    Ok(Json(manager.upgrade(uuid).await?))
}

/// What its worker says of itself.
#[utoipa::path(
    get,
    path = "/v1/instances/{uuid}/status",
    params(("uuid" = Uuid, Path)),
    responses(
        (status = 200, body = WorkerStatus),
        RefusedOrFailed,
    )
)]
pub(super) async fn status(
    State(manager): State<Manager>,
    Path(Id(uuid)): Path<Id>,
) -> Result<Json<WorkerStatus>, Refusal> {
    Ok(Json(manager.status(uuid).await?))
}
