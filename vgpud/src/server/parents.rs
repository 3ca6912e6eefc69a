//! Parents and types.

use axum::Json;
use axum::extract::State;

use crate::api::{Parent, Type};
use crate::manager::Manager;

use super::extract::Path;
use super::refusal::{Refusal, Refused};

/// Every parent, with its types, pools and children as they are now.
#[utoipa::path(
    get,
    path = "/v1/parents",
    responses(
        (status = 200, body = Vec<Parent>),
        Refused,
    )
)]
pub(super) async fn list(State(manager): State<Manager>) -> Json<Vec<Parent>> {
    Json(manager.parents().await)
}

/// One parent.
#[utoipa::path(
    get,
    path = "/v1/parents/{parent}",
    params(("parent" = String, Path, description = "Its name")),
    responses(
        (status = 200, body = Parent),
        Refused,
    )
)]
pub(super) async fn show(
    State(manager): State<Manager>,
    Path(name): Path<String>,
) -> Result<Json<Parent>, Refusal> {
    Ok(Json(manager.parent(&name).await?))
}

/// Every type of every parent, with how many can be created now.
#[utoipa::path(
    get,
    path = "/v1/types",
    responses(
        (status = 200, body = Vec<Type>),
        Refused,
    )
)]
pub(super) async fn types(State(manager): State<Manager>) -> Json<Vec<Type>> {
    let parents = manager.parents().await.into_iter();
    Json(parents.flat_map(|parent| parent.types).collect())
}
