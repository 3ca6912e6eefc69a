//! Requests as they stand, and the API on TCP.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use serde_json::Value;

use super::{Daemon, wait_for};

/// What each request over TCP must bear.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

impl Daemon {
    /// Sends a request as it stands.
    pub fn raw(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
        let mut stream = UnixStream::connect(self.path("run/vgpud/api.sock")).unwrap();
        exchange(
            &mut stream,
            method,
            path,
            &format!("content-type: {kind}\r\n"),
            body,
        )
    }

    /// A daemon that is reached on TCP as well, by those who bear the token.
    pub fn start_on_tcp() -> Self {
        // It reads the token once, before it answers.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, format!("{TOKEN}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        Self::start_with(&format!(
            "[api]\ntcp = {{ listen = \"127.0.0.1:0\", token-file = \"{}\" }}",
            file.display()
        ))
    }

    pub fn tcp_address(&self) -> String {
        wait_for("an address", || {
            let log = self.log();
            let (_, rest) = log.split_once("the API is on tcp ")?;
            rest.split_once('\n').map(|(address, _)| address.to_owned())
        })
    }
}

/// Status, errno, and words that are part of what is told.
pub type Refused<'a> = (u16, &'a str, &'a str);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It is a refusal, of the usual form, with that status and errno, and has those words.
    pub fn assert_refused(&self, (status, errno, words): Refused<'_>, case: &str) {
        assert_eq!(self.status, status, "{case}: {self:?}");
        let is_problem = self.headers.contains("application/problem+json");
        assert!(is_problem, "{case}: {self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{case}: {self:?}");
        assert_eq!(problem["errno"], errno, "{case}: {self:?}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{case}: {words}: {self:?}");
    }
}

/// One request as it stands, and what came back.
pub fn exchange(
    stream: &mut (impl Read + Write),
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> Answer {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A body that is refused early may find the connection closed.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (headers, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = headers.split(' ').nth(1).and_then(|code| code.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("no status: {answer:?}")),
        headers: headers.to_lowercase(),
        body: body.to_owned(),
    }
}
