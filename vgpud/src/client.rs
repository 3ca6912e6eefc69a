//! The asking end of the API: blocking, over the UNIX socket.

mod engines;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::api::{
    Attribute, AttributeChanges, Console, ConsoleRequest, CreateRequest, Definition,
    DefinitionRequest, Event, HostFacts, Instance, InstanceUsage, Parent, Problem, Type, Upgrade,
    View, WorkerStatus,
};

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("cannot reach the daemon at {}: {source}", path.display())]
    Unreachable {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection ended too early.
    #[error("the daemon's answer ended early: {0}")]
    Broken(#[from] hyper::Error),
    /// The daemon said no.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The other end is not the daemon, or another version of it.
    #[error("the answer makes no sense: {0}")]
    Garbled(String),
    /// It took longer than the client waits.
    #[error("the daemon has not answered within {0:?}")]
    Late(Duration),
    /// What is sent cannot be read, or what is received not written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl ClientError {
    /// What the daemon said, if it said no.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            _ => None,
        }
    }
}

/// The daemon behind a UNIX socket. Each request is a connection of its own.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    runtime: Runtime,
    patience: Option<Duration>,
}

type Result<T> = std::result::Result<T, ClientError>;

impl Client {
    /// A client of the daemon that listens at `path`. It is reached with the first request.
    pub fn new(path: &Path) -> std::io::Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        Ok(Self {
            path: path.to_owned(),
            runtime: runtime.enable_all().build()?,
            patience: None,
        })
    }

    /// Waits no longer than this for an answer to a request as a whole.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Every parent.
    pub fn parents(&self) -> Result<Vec<Parent>> {
        self.get("/v1/parents")
    }

    /// Every type of every parent.
    pub fn types(&self) -> Result<Vec<Type>> {
        self.get("/v1/types")
    }

    /// Every instance.
    pub fn instances(&self) -> Result<Vec<Instance>> {
        self.get("/v1/instances")
    }

    /// One instance.
    pub fn instance(&self, uuid: Uuid) -> Result<Instance> {
        self.get(&format!("/v1/instances/{uuid}"))
    }

    /// Creates an instance, or finds the one that the same request created.
    pub fn create(&self, uuid: Uuid, request: &CreateRequest) -> Result<Instance> {
        self.ask(Method::PUT, &format!("/v1/instances/{uuid}"), Some(request))
    }

    /// Creates an instance, and does not take one that is there for it: that is EEXIST.
    pub fn create_new(&self, uuid: Uuid, request: &CreateRequest) -> Result<Instance> {
        let path = format!("/v1/instances/{uuid}?exclusive=true");
        self.ask(Method::PUT, &path, Some(request))
    }

    /// Creates an instance under a UUID of the daemon's choice.
    pub fn create_any(&self, request: &CreateRequest) -> Result<Instance> {
        self.ask(Method::POST, "/v1/instances", Some(request))
    }

    /// Starts an instance, or what is defined under its UUID.
    pub fn start(&self, uuid: Uuid) -> Result<Instance> {
        self.post(&format!("/v1/instances/{uuid}/start"))
    }

    /// Stops an instance.
    pub fn stop(&self, uuid: Uuid, is_forced: bool) -> Result<Instance> {
        self.post(&format!("/v1/instances/{uuid}/stop?force={is_forced}"))
    }

    /// Stops and removes an instance.
    pub fn destroy(&self, uuid: Uuid, is_forced: bool) -> Result<()> {
        let path = format!("/v1/instances/{uuid}?force={is_forced}");
        self.ask_for_nothing(Method::DELETE, &path)
    }

    /// Has a worker of the installed program take over from an instance's.
    pub fn upgrade(&self, uuid: Uuid) -> Result<Upgrade> {
        self.post(&format!("/v1/instances/{uuid}/upgrade"))
    }

    /// Changes attributes of an instance, all or none.
    pub fn set_attributes(&self, uuid: Uuid, attributes: Vec<Attribute>) -> Result<Instance> {
        let changes = AttributeChanges { attributes };
        self.ask(
            Method::PATCH,
            &format!("/v1/instances/{uuid}"),
            Some(&changes),
        )
    }

    /// What an instance's worker says of itself.
    pub fn status(&self, uuid: Uuid) -> Result<WorkerStatus> {
        self.get(&format!("/v1/instances/{uuid}/status"))
    }

    /// What an instance shows, as a PNG file.
    pub fn screenshot(&self, uuid: Uuid, view: View) -> Result<Vec<u8>> {
        let View { head, cursor } = view;
        let path = format!("/v1/instances/{uuid}/screenshot?head={head}&cursor={cursor}");
        let mut png = Vec::new();
        self.download(&path, &mut png)?;
        Ok(png)
    }

    /// The console of an instance, which is started unless it runs.
    pub fn console(&self, uuid: Uuid, request: &ConsoleRequest) -> Result<Console> {
        let path = format!("/v1/instances/{uuid}/console");
        self.ask(Method::POST, &path, Some(request))
    }

    /// Ends the console of a head of an instance, or those of all.
    pub fn end_console(&self, uuid: Uuid, head: Option<u32>) -> Result<()> {
        let head = head.map(|head| format!("?head={head}"));
        let path = format!("/v1/instances/{uuid}/console{}", head.unwrap_or_default());
        self.ask_for_nothing(Method::DELETE, &path)
    }

    /// The state of an instance's device.
    pub fn save_state(&self, uuid: Uuid, output: &mut impl Write) -> Result<()> {
        self.download(&format!("/v1/instances/{uuid}/state"), output)
    }

    /// Puts a state into an instance's device.
    pub fn restore_state(&self, uuid: Uuid, input: &mut impl Read) -> Result<()> {
        let mut state = Vec::new();
        input.read_to_end(&mut state)?;
        let path = format!("/v1/instances/{uuid}/state");
        let request = request(Method::PUT, &path, "application/octet-stream", state)?;
        self.whole(request).map(drop)
    }

    /// Every definition.
    pub fn definitions(&self) -> Result<Vec<Definition>> {
        self.get("/v1/definitions")
    }

    /// One definition.
    pub fn definition(&self, parent: &str, uuid: Uuid) -> Result<Definition> {
        self.get(&format!("/v1/definitions/{parent}/{uuid}"))
    }

    /// Keeps a definition, in the place of one that is there.
    pub fn define(
        &self,
        parent: &str,
        uuid: Uuid,
        request: &DefinitionRequest,
    ) -> Result<Definition> {
        let path = format!("/v1/definitions/{parent}/{uuid}");
        self.ask(Method::PUT, &path, Some(request))
    }

    /// Removes a definition.
    pub fn undefine(&self, parent: &str, uuid: Uuid) -> Result<()> {
        self.ask_for_nothing(Method::DELETE, &format!("/v1/definitions/{parent}/{uuid}"))
    }

    /// What the host can do.
    pub fn host(&self) -> Result<HostFacts> {
        self.get("/v1/host")
    }

    /// What the worker of each vGPU that runs takes of the host.
    pub fn usage(&self) -> Result<Vec<InstanceUsage>> {
        self.get("/v1/usage")
    }

    /// What is counted, as text for Prometheus.
    pub fn metrics(&self) -> Result<String> {
        let mut text = Vec::new();
        self.download("/metrics", &mut text)?;
        String::from_utf8(text).map_err(|error| ClientError::Garbled(error.to_string()))
    }

    /// Hands each event to `see` as it comes, from the one after `last` on, until it says no or
    /// the daemon ends.
    pub fn events(&self, last: Option<u64>, mut see: impl FnMut(Event) -> bool) -> Result<()> {
        let mut builder = builder(Method::GET, "/v1/events");
        if let Some(last) = last {
            builder = builder.header("last-event-id", last);
        }
        let request = builder.body(Full::default()).map_err(garbled)?;
        let mut text = Vec::new();
        self.stream(request, |piece| {
            text.extend_from_slice(piece);
            while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let Some(data) = line.strip_prefix(b"data: ") else {
                    continue;
                };
                if !see(serde_json::from_slice(data).map_err(garbled)?) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(Method::GET, path, None::<&()>)
    }

    fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(Method::POST, path, None::<&()>)
    }

    /// One request with a JSON body, if any, and its JSON answer.
    pub fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T> {
        let body = body.map(serde_json::to_vec).transpose().map_err(garbled)?;
        let request = request(method, path, "application/json", body.unwrap_or_default())?;
        serde_json::from_slice(&self.whole(request)?).map_err(garbled)
    }

    fn ask_for_nothing(&self, method: Method, path: &str) -> Result<()> {
        let request = request(method, path, "application/json", Vec::new())?;
        self.whole(request).map(drop)
    }

    fn download(&self, path: &str, output: &mut impl Write) -> Result<()> {
        let request = request(Method::GET, path, "application/json", Vec::new())?;
        self.stream(request, |piece| {
            output.write_all(piece)?;
            Ok(true)
        })
    }

    fn whole(&self, request: Request<Full<Bytes>>) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        self.stream(request, |piece| {
            body.extend_from_slice(piece);
            Ok(true)
        })?;
        Ok(body)
    }

    /// Hands the answer to `take` piece by piece, until it says no.
    fn stream(
        &self,
        request: Request<Full<Bytes>>,
        mut take: impl FnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        let exchange = async {
            let mut response = self.send(request).await?;
            while let Some(frame) = response.frame().await {
                if let Some(piece) = frame?.data_ref()
                    && !take(piece)?
                {
                    break;
                }
            }
            Ok(())
        };
        self.runtime.block_on(async {
            let Some(patience) = self.patience else {
                return exchange.await;
            };
            let ended = tokio::time::timeout(patience, exchange).await;
            ended.unwrap_or(Err(ClientError::Late(patience)))
        })
    }

    /// Sends a request. A refusal is an error.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        let stream = tokio::net::UnixStream::connect(&self.path).await;
        let stream = stream.map_err(|source| ClientError::Unreachable {
            path: self.path.clone(),
            source,
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        match serde_json::from_slice(&body) {
            Ok(problem) => Err(ClientError::Refused(Box::new(problem))),
            Err(_) => Err(ClientError::Garbled(format!("HTTP status {status}"))),
        }
    }
}

fn builder(method: Method, path: &str) -> hyper::http::request::Builder {
    // HTTP/1.1 wants a host; there is one.
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
}

fn request(method: Method, path: &str, kind: &str, body: Vec<u8>) -> Result<Request<Full<Bytes>>> {
    let builder = builder(method, path);
    let builder = if body.is_empty() {
        builder
    } else {
        builder.header(CONTENT_TYPE, kind)
    };
    builder.body(Full::from(body)).map_err(garbled)
}

fn garbled(error: impl Into<Box<dyn std::error::Error>>) -> ClientError {
    ClientError::Garbled(error.into().to_string())
}
