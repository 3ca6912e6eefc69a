//! What a request says, or a refusal in the usual form.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;
use uuid::Uuid;

use super::refusal::Refusal;
use super::strict::Strict;

/// The body, as JSON, and to the letter.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match axum::Json::<Strict<T>>::from_request(request, state).await {
            Ok(axum::Json(Strict(value))) => Ok(Self(value)),
            Err(rejection) => Err(refuse_body(&rejection)),
        }
    }
}

fn refuse_body(rejection: &JsonRejection) -> Refusal {
    let status = rejection.status();
    let errno = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "EMSGSIZE",
        _ => "EINVAL",
    };
    let refusal = Refusal::new(status, errno, rejection.body_text());
    match status {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            refusal.with_remedy("send it with content-type: application/json")
        }
        _ => refusal,
    }
}

/// Parts of the path.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        axum::extract::Path::<T>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(value)| Self(value))
            .map_err(|rejection: PathRejection| {
                Refusal::new(rejection.status(), "EINVAL", rejection.body_text())
            })
    }
}

/// A UUID in the path, as the document and mdev have it: with its dashes, and nothing around it.
#[derive(Deserialize)]
pub(crate) struct Id(#[serde(with = "uuid::serde::hyphenated")] pub(crate) Uuid);

/// What follows the question mark.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        axum::extract::Query::<T>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|rejection: QueryRejection| {
                Refusal::new(rejection.status(), "EINVAL", rejection.body_text())
            })
    }
}

/// Whether an instance that is there already will do.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Exclusive {
    /// Refuse with EEXIST if there is an instance of this UUID, also if it is what is asked for: as
    /// `O_EXCL` does, and the kernel's mdev.
    #[serde(default)]
    pub(crate) exclusive: bool,
}

/// Which head of a display is meant.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Head {
    /// Only this head, from 0; all of them without it.
    #[param(maximum = 15)]
    pub(crate) head: Option<u32>,
}

/// After which decision.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct After {
    /// The last one that was seen; 0 for all that are kept.
    #[serde(default)]
    pub(crate) after: u64,
}

/// Whether a VMM that is connected is to be cut off.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Force {
    /// Go on though a VMM is connected: it reads all-ones from the device from then on.
    #[serde(default)]
    pub(crate) force: bool,
}
