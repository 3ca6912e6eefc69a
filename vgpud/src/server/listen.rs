//! Where the API is reached: a UNIX socket, and TCP if that is asked for.

use std::fs;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use crate::accounts::Access;
use crate::api::SocketAccess;
use crate::config::ApiConfig;
use crate::error::Error;
use crate::paths::Paths;
use crate::worker_process::socket::{self, SocketFile};

use super::refusal::Refusal;

/// Shortest token that is taken: one that is guessed opens the host's vGPUs to the network.
const MIN_TOKEN: usize = 16;

/// The API's UNIX socket. Its file goes with it, if it was made here.
#[derive(Debug)]
pub struct UnixSocket {
    listener: tokio::net::UnixListener,
    path: Option<PathBuf>,
    _file: Option<SocketFile>,
}

impl UnixSocket {
    /// Listens, for whom the configuration says. Within a tokio runtime.
    pub fn bind(paths: &Paths, config: &ApiConfig) -> Result<Self, Error> {
        let access = SocketAccess {
            owner: config.owner.clone(),
            group: config.group.clone(),
            mode: config.mode.clone(),
        };
        let access = Access::resolve(&access, &SocketAccess::default())?;
        let path = paths.api();
        let (listener, file) = socket::bind_at(paths, &path, access)?;
        Self::new(listener, Some(path), Some(file))
    }

    /// Listens on a socket that somebody else made. Its file is theirs. Within a tokio runtime.
    pub fn passed(listener: UnixListener) -> Result<Self, Error> {
        let address = listener.local_addr().ok();
        let path = address.and_then(|address| address.as_pathname().map(Path::to_owned));
        Self::new(listener, path, None)
    }

    fn new(
        listener: UnixListener,
        path: Option<PathBuf>,
        file: Option<SocketFile>,
    ) -> Result<Self, Error> {
        let listener = listener
            .set_nonblocking(true)
            .and_then(|()| tokio::net::UnixListener::from_std(listener))
            .map_err(Error::os("listen for the API"))?;
        Ok(Self {
            listener,
            path,
            _file: file,
        })
    }

    /// Where it is, if it has a name.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Serves until `stop` is done, and the requests that are under way then.
    pub async fn serve(
        self,
        router: Router,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        axum::serve(self.listener, router)
            .with_graceful_shutdown(stop)
            .await
    }
}

/// Serves on TCP those who bear the token, until it is dropped.
pub async fn serve_tcp(address: SocketAddr, token: Token, router: Router) -> io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    tracing::info!("the API is on tcp {}", listener.local_addr()?);
    axum::serve(listener, guarded(router, token)).await
}

fn guarded(router: Router, token: Token) -> Router {
    router.layer(middleware::from_fn_with_state(Arc::new(token), check_token))
}

/// What a request over TCP must bear.
pub struct Token(String);

impl Token {
    /// Reads a token from a file that nobody else may read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let what = format!("read the token in {}", path.display());
        let file = fs::metadata(path).map_err(Error::os(what.clone()))?;
        if file.mode() & 0o077 != 0 {
            return Err(Error::Invalid(format!(
                "{} can be read by others: chmod 0600",
                path.display()
            )));
        }
        let text = fs::read_to_string(path).map_err(Error::os::<io::Error>(what))?;
        let token = text.trim();
        if token.len() < MIN_TOKEN {
            return Err(Error::Invalid(format!(
                "the token in {} has less than {MIN_TOKEN} characters",
                path.display()
            )));
        }
        Ok(Self(token.to_owned()))
    }

    /// How long it takes tells nothing of where they differ.
    fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

async fn check_token(
    State(token): State<Arc<Token>>,
    request: Request,
    next: Next,
) -> Result<Response, impl IntoResponse> {
    let header = request.headers().get(header::AUTHORIZATION);
    let given = header.and_then(|header| header.to_str().ok()?.strip_prefix("Bearer "));
    if given.is_some_and(|given| token.is(given)) {
        return Ok(next.run(request).await);
    }
    let words = "over TCP each request bears the token".to_owned();
    let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "EACCES", words);
    let refusal = refusal.with_remedy("send the header: Authorization: Bearer TOKEN");
    Err(([(header::WWW_AUTHENTICATE, "Bearer")], refusal))
}
