//! Displays for viewers.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use crate::api::{Console, ConsoleRequest};
use crate::manager::Manager;

use super::extract::{Body, Head, Id, Path, Query};
use super::refusal::{Refusal, RefusedOrFailed};

/// The console of a head of an instance that runs: started, unless one runs already. One that runs stays as
/// it is, its password too; if it is to be reached by TCP, and is not there, that is refused.
#[utoipa::path(
    post,
    path = "/v1/instances/{uuid}/console",
    params(("uuid" = Uuid, Path)),
    request_body = ConsoleRequest,
    responses(
        (status = 200, body = Console),
        RefusedOrFailed,
    )
)]
pub(super) async fn start(
    State(manager): State<Manager>,
    Path(Id(uuid)): Path<Id>,
    Body(request): Body<ConsoleRequest>,
) -> Result<Json<Console>, Refusal> {
    Ok(Json(manager.console(uuid, request).await?))
}

/// Ends the consoles of an instance that run. Their viewers lose them; the instance goes on.
#[utoipa::path(
    delete,
    path = "/v1/instances/{uuid}/console",
    params(("uuid" = Uuid, Path), Head),
    responses(
        (status = 204),
        RefusedOrFailed,
    )
)]
pub(super) async fn end(
    State(manager): State<Manager>,
    Path(Id(uuid)): Path<Id>,
    Query(Head { head }): Query<Head>,
) -> Result<StatusCode, Refusal> {
    manager.end_console(uuid, head).await?;
    Ok(StatusCode::NO_CONTENT)
}
