//! Every refusal in one form.

use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use crate::api::Problem;
use crate::api::problem::PROBLEM_JSON;
use crate::error::{Error, title_of};

/// A refused request.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Problem);

/// It was refused.
// These words, and those below, stand in the document.
#[derive(utoipa::IntoResponses)]
#[response(status = "4XX", content_type = "application/problem+json")]
#[expect(dead_code, reason = "it is there for the document alone")]
pub(super) struct Refused(Problem);

/// What the document says of an operation that can fail as well.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "it is there for the document alone")]
pub(super) enum RefusedOrFailed {
    /// It was refused.
    #[response(status = "4XX", content_type = "application/problem+json")]
    Refused(Problem),
    /// It failed, for a reason that lies with the host.
    #[response(status = "5XX", content_type = "application/problem+json")]
    Failed(Problem),
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, errno: &str, detail: String) -> Self {
        Self(Problem {
            kind: "about:blank".to_owned(),
            title: title_of(status.as_u16()),
            status: status.as_u16(),
            detail,
            errno: errno.to_owned(),
            remedy: None,
        })
    }

    pub(crate) fn with_remedy(mut self, words: &str) -> Self {
        self.0.remedy = Some(words.to_owned());
        self
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let problem = error.problem();
        if problem.status >= 500 {
            tracing::error!("{error}");
        }
        Self(problem)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Text and numbers: writing them cannot fail.
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response()
    }
}

pub(super) async fn no_such_path(uri: Uri) -> Refusal {
    let words = format!("there is nothing at {}", uri.path());
    let refusal = Refusal::new(StatusCode::NOT_FOUND, "ENOENT", words);
    refusal.with_remedy("GET /v1/openapi.json lists what there is")
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    let words = format!("{method} is not for {}", uri.path());
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "EOPNOTSUPP", words);
    refusal.with_remedy("GET /v1/openapi.json lists what there is")
}
