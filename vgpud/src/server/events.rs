//! Events, as a stream.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::{Stream, stream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::api::{Event, EventKind};
use crate::events::missed;
use crate::manager::Manager;

use super::refusal::Refused;

/// What happens from now on, as server-sent events: `id`, `event` (the kind) and `data`, an `Event`
/// as JSON. With the header Last-Event-ID, what came after that first.
#[utoipa::path(
    get,
    path = "/v1/events",
    params(("last-event-id" = Option<u64>, Header, description = "The last one that was seen")),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        Refused,
    )
)]
pub(super) async fn follow(
    State(manager): State<Manager>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let last = headers.get("last-event-id");
    // One that is no number was not ours: as if none was given.
    let last = last.and_then(|last| last.to_str().ok()?.parse().ok());
    let (past, coming) = manager.listen(last);
    let events = stream::unfold((VecDeque::from(past), coming), next);
    Sse::new(events).keep_alive(KeepAlive::default())
}

type Source = (VecDeque<Event>, Receiver<Event>);

async fn next((mut past, mut coming): Source) -> Option<(Result<sse::Event, Infallible>, Source)> {
    let event = match past.pop_front() {
        Some(event) => event,
        None => match coming.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(count)) => missed(count),
            Err(RecvError::Closed) => return None,
        },
    };
    Some((Ok(emit(&event)), (past, coming)))
}

fn emit(event: &Event) -> sse::Event {
    // Text and numbers: writing them cannot fail.
    let data = serde_json::to_string(event).unwrap_or_default();
    let kind = serde_json::to_value(event.kind).unwrap_or_default();
    let emitted = sse::Event::default()
        .event(kind.as_str().unwrap_or_default())
        .data(data);
    match event.kind {
        // It has no place among the others.
        EventKind::Missed => emitted,
        _ => emitted.id(event.id.to_string()),
    }
}
