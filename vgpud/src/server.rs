//! The answering end of the API: HTTP, JSON, errors in one form.
//!
//! - [`listen`]: the UNIX socket, and TCP if that is asked for, where each request needs a token,
//! - `passed`: the UNIX socket of whoever started the daemon, if it made one,
//! - `refusal`, `extract`, `strict`: a body is what the document says of it, and every error is
//!   problem+json, also those of HTTP itself,
//! - `parents`, `engines`, `instances`, `state`, `console`, `definitions`, `events`, `host`: one handler for each
//!   operation; it does no more than to call the manager.

mod console;
mod definitions;
mod engines;
mod events;
mod extract;
mod host;
mod instances;
pub mod listen;
mod parents;
pub(crate) mod passed;
mod refusal;
mod state;
mod strict;

use axum::Json;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::manager::Manager;

/// Most bytes of a request's JSON. A client could else fill the daemon's memory.
const MAX_BODY: usize = 64 << 10;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "vgpud",
        description = "Virtual GPUs of this host: parents, types, instances. \
                       Every refusal is application/problem+json with the name of an errno."
    ),
    components(schemas(crate::api::Problem, crate::api::Event)),
    modifiers(&Token),
    security((), ("token" = []))
)]
struct Document;

/// What is asked for over TCP, and not over the UNIX socket.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", scheme);
    }
}

/// Every operation of the API, and the document that describes them.
pub fn router(manager: Manager) -> (Router, utoipa::openapi::OpenApi) {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(parents::list))
        .routes(routes!(parents::show))
        .routes(routes!(parents::types))
        .routes(routes!(engines::list))
        .routes(routes!(engines::show, engines::modify))
        .routes(routes!(engines::slices))
        .routes(routes!(instances::list, instances::create))
        .routes(routes!(
            instances::show,
            instances::put,
            instances::destroy,
            instances::modify
        ))
        .routes(routes!(instances::start))
        .routes(routes!(instances::stop))
        .routes(routes!(instances::upgrade))
        .routes(routes!(instances::status))
        .routes(routes!(state::screenshot))
        .routes(routes!(console::start, console::end))
        .routes(routes!(state::save, state::restore))
        .routes(routes!(definitions::list))
        .routes(routes!(
            definitions::show,
            definitions::put,
            definitions::remove
        ))
        .routes(routes!(events::follow))
        .routes(routes!(host::facts))
        .routes(routes!(host::metrics))
        .routes(routes!(host::usage))
        .split_for_parts();
    let served = document.clone();
    let router = router
        .route("/v1/openapi.json", get(|| async move { Json(served) }))
        .fallback(refusal::no_such_path)
        .method_not_allowed_fallback(refusal::no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(manager);
    (router, document)
}
