//! Pictures and saved states.

use std::fs::File;
use std::io::{self, SeekFrom};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::api::View;
use crate::error::Error;
use crate::manager::Manager;

use super::extract::{Id, Path, Query};
use super::refusal::{Refusal, RefusedOrFailed};

/// Largest state that is taken: several times what any device saves. It lies in memory.
const MAX_STATE: u64 = 1 << 30;

/// Bytes that are read and sent at a time.
const CHUNK: usize = 256 << 10;

/// What it shows, as a PNG file.
#[utoipa::path(
    get,
    path = "/v1/instances/{uuid}/screenshot",
    params(("uuid" = Uuid, Path), View),
    responses(
        (status = 200, content_type = "image/png", body = Vec<u8>),
        RefusedOrFailed,
    )
)]
pub(super) async fn screenshot(
    State(manager): State<Manager>,
    Path(Id(uuid)): Path<Id>,
    Query(view): Query<View>,
) -> Result<Response, Refusal> {
    let png = manager.screenshot(uuid, view).await?;
    Ok(([(header::CONTENT_TYPE, "image/png")], png).into_response())
}

/// The state of its device.
#[utoipa::path(
    get,
    path = "/v1/instances/{uuid}/state",
    params(("uuid" = Uuid, Path)),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        RefusedOrFailed,
    )
)]
pub(super) async fn save(
    State(manager): State<Manager>,
    Path(Id(uuid)): Path<Id>,
) -> Result<Response, Refusal> {
    let state = manager.save_state(uuid).await?;
    let length = state
        .metadata()
        .map_err(Error::os("look at the state"))?
        .len();
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    Ok((headers, Body::from_stream(chunks(state))).into_response())
}

/// The file's content, piece by piece.
fn chunks(file: File) -> impl Stream<Item = io::Result<Bytes>> {
    let file = tokio::fs::File::from_std(file);
    stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK];
        let read = file.read(&mut chunk).await?;
        chunk.truncate(read);
        Ok((read > 0).then(|| (Bytes::from(chunk), file)))
    })
}

/// Puts a saved state into its device.
#[utoipa::path(
    put,
    path = "/v1/instances/{uuid}/state",
    params(("uuid" = Uuid, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 204),
        RefusedOrFailed,
    )
)]
pub(super) async fn restore(
    State(manager): State<Manager>,
    Path(Id(uuid)): Path<Id>,
    request: Request,
) -> Result<StatusCode, Refusal> {
    // Before the body is taken in: it may be long.
    manager.instance(uuid).await?;
    let state = take_in(request.into_body()).await?;
    manager.restore_state(uuid, state).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A request's body in a memory file.
async fn take_in(body: Body) -> Result<File, Refusal> {
    let file = worker::state_file::create().map_err(Error::os("make a memory file"))?;
    let mut file = tokio::fs::File::from_std(file);
    let mut body = body.into_data_stream();
    let mut length = 0;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| {
            let words = format!("the state did not come whole: {error}");
            Refusal::new(StatusCode::BAD_REQUEST, "EINVAL", words)
        })?;
        length += chunk.len() as u64;
        if length > MAX_STATE {
            let words = format!("a state has at most {MAX_STATE} bytes");
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "EMSGSIZE",
                words,
            ));
        }
        file.write_all(&chunk)
            .await
            .map_err(Error::os("keep the state"))?;
    }
    file.flush().await.map_err(Error::os("keep the state"))?;
    file.seek(SeekFrom::Start(0))
        .await
        .map_err(Error::os("keep the state"))?;
    Ok(file.into_std().await)
}
