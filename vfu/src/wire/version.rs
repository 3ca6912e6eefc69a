//! VERSION: `u16 major, u16 minor`, then JSON and a NUL.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Malformed, Reader};
use crate::Errno;

/// The protocol version that this crate speaks, and the highest minor it answers with.
pub const MAJOR: u16 = 0;
/// Minor versions add only what is negotiated by a capability, so any that is offered will do.
pub const MINOR: u16 = 2;

/// What one end can do; specification, section "VFIO_USER_VERSION".
///
/// A field is `None` where the sender did not name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// File descriptors in one message that the sender takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_msg_fds: Option<u32>,
    /// Bytes of data in one message that the sender takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_data_xfer_size: Option<u64>,
    /// Mappings at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_dma_maps: Option<u64>,
    /// Page sizes for mappings, or'ed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgsizes: Option<u64>,
    /// REGION_WRITE_MULTI may be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_multiple: Option<bool>,
    /// Commands of the server and their replies may have a socket of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twin_socket: Option<TwinSocket>,
}

/// Whether the server's own commands travel on a socket of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TwinSocket {
    /// The sender can do so; in a reply, it does.
    pub supported: bool,
    /// In a reply, which of the descriptors beside it is that socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fd_index: Option<u32>,
}

impl TwinSocket {
    /// The answer of a server that sends one descriptor, the socket.
    const GRANTED: Self = Self {
        supported: true,
        fd_index: Some(0),
    };
}

/// What holds for a capability that was not named; specification, same section.
impl Capabilities {
    /// Default of `max_msg_fds`.
    pub const DEFAULT_MAX_MSG_FDS: u32 = 1;
    /// Default of `max_data_xfer_size`.
    pub const DEFAULT_MAX_DATA_XFER_SIZE: u64 = 1 << 20;

    /// Bytes of data in one message that the sender takes, named or not.
    pub fn max_data_xfer_size(&self) -> u64 {
        self.max_data_xfer_size
            .unwrap_or(Self::DEFAULT_MAX_DATA_XFER_SIZE)
    }

    /// The answer to `offer` of a server that can do `self`: only keys that were offered, since
    /// QEMU has room for no more than it sent. What one end takes is for that end to say; what
    /// both take part in is what both can do.
    #[must_use]
    pub fn answer(&self, offer: &Self) -> Self {
        Self {
            max_msg_fds: offer.max_msg_fds.and(self.max_msg_fds),
            max_data_xfer_size: offer.max_data_xfer_size.and(self.max_data_xfer_size),
            max_dma_maps: both(offer.max_dma_maps, self.max_dma_maps, u64::min),
            pgsizes: offer.pgsizes.and(self.pgsizes),
            write_multiple: both(offer.write_multiple, self.write_multiple, |a, b| a && b),
            twin_socket: both(offer.twin_socket, self.twin_socket, |a, b| TwinSocket {
                supported: a.supported && b.supported,
                fd_index: None,
            })
            .filter(|twin| twin.supported)
            .map(|_| TwinSocket::GRANTED),
        }
    }
}

fn both<T>(a: Option<T>, b: Option<T>, join: impl Fn(T, T) -> T) -> Option<T> {
    Some(join(a?, b?))
}

#[derive(Serialize)]
struct Document<'a> {
    capabilities: &'a Capabilities,
}

/// Reads the document. All levels are objects: `serde` by itself would take arrays as well.
fn parse_json(json: &[u8]) -> serde_json::Result<Capabilities> {
    let mut document: Map<String, Value> = serde_json::from_slice(json)?;
    let Some(capabilities) = document.remove("capabilities") else {
        return Ok(Capabilities::default());
    };
    if capabilities.is_array() || capabilities.get("twin_socket").is_some_and(Value::is_array) {
        return Err(serde::de::Error::custom("an array stands for an object"));
    }
    serde_json::from_value(capabilities)
}

/// Why two ends cannot talk.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The message is too short to hold a version.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The JSON does not end with a NUL.
    #[error("the capabilities do not end with a NUL")]
    NoNul,
    /// The JSON is longer than any client sends.
    #[error("the capabilities are {0} bytes long; at most {max} are read", max = Version::MAX_JSON)]
    TooLong(usize),
    /// Not JSON, or a known key with a value of the wrong type.
    #[error("the capabilities cannot be read: {0}")]
    Json(String),
    /// The other end has another major version.
    #[error("version {0}.{1} is not supported; {MAJOR}.x is")]
    Major(u16, u16),
}

impl VersionError {
    /// What the client is told.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Major(..) => Errno::NOTSUP,
            _ => Errno::INVAL,
        }
    }
}

/// A version and what its sender can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Must be the same at both ends.
    pub major: u16,
    /// A server answers with at most what the client sent. QEMU 11.1 sends 0.
    pub minor: u16,
    /// From the JSON; all `None` if there was none.
    pub capabilities: Capabilities,
}

impl Version {
    /// Most bytes of JSON that are read. QEMU sends 193; without a bound a client picks the size
    /// of our buffer before anything was agreed on.
    pub const MAX_JSON: usize = 4096;

    /// Parses a payload. The JSON may be absent; unknown keys in it are skipped.
    pub fn parse(payload: &[u8]) -> Result<Self, VersionError> {
        let mut reader = Reader::new(payload);
        let (major, minor) = (reader.u16()?, reader.u16()?);
        let capabilities = match reader.rest() {
            [] => Capabilities::default(),
            rest if rest.len() > Self::MAX_JSON => {
                return Err(VersionError::TooLong(rest.len()));
            }
            [json @ .., 0] => {
                parse_json(json).map_err(|error| VersionError::Json(error.to_string()))?
            }
            _ => return Err(VersionError::NoNul),
        };
        Ok(Self {
            major,
            minor,
            capabilities,
        })
    }

    /// The answer of a server that can do `able`.
    pub fn answer(&self, able: &Capabilities) -> Result<Self, VersionError> {
        if self.major != MAJOR {
            return Err(VersionError::Major(self.major, self.minor));
        }
        Ok(Self {
            major: MAJOR,
            minor: self.minor.min(MINOR),
            capabilities: able.answer(&self.capabilities),
        })
    }

    /// Appends the payload.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend(self.major.to_ne_bytes());
        out.extend(self.minor.to_ne_bytes());
        let document = Document {
            capabilities: &self.capabilities,
        };
        // Numbers and booleans in a flat map: writing them cannot fail.
        out.extend(serde_json::to_vec(&document).unwrap_or_default());
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What QEMU 11.1.3 sends; qemu-11.1.md, section 1.
    const QEMU_JSON: &str = r#"{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, "max_data_xfer_size": 1048576, "migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "write_multiple": true}}"#;

    fn able() -> Capabilities {
        Capabilities {
            max_msg_fds: Some(16),
            max_data_xfer_size: Some(1 << 20),
            max_dma_maps: Some(65_535),
            pgsizes: Some(4096),
            write_multiple: Some(true),
            twin_socket: Some(TwinSocket {
                supported: true,
                fd_index: None,
            }),
        }
    }

    fn offer(json: &str) -> Vec<u8> {
        let mut payload = vec![0; 4];
        payload.extend(json.as_bytes());
        payload.push(0);
        payload
    }

    #[test]
    fn the_answer_to_qemu_fits_the_193_characters_that_it_has_room_for() {
        let version = Version::parse(&offer(QEMU_JSON)).unwrap();
        let answer = version.answer(&able()).unwrap();
        let mut payload = Vec::new();
        answer.emit(&mut payload);
        assert!(payload.len() <= 4 + 193 + 1, "{} bytes", payload.len());
        assert_eq!((answer.major, answer.minor), (0, 0));
        assert_eq!(payload.last(), Some(&0), "QEMU demands the NUL");
    }

    #[test]
    fn the_answer_holds_only_keys_that_were_offered() {
        for (json, expected) in [
            ("{}", "{\"capabilities\":{}}"),
            (
                r#"{"capabilities":{"max_msg_fds":1}}"#,
                r#"{"capabilities":{"max_msg_fds":16}}"#,
            ),
            (
                r#"{"capabilities":{"write_multiple":false,"max_dma_maps":10}}"#,
                r#"{"capabilities":{"max_dma_maps":10,"write_multiple":false}}"#,
            ),
            (
                r#"{"capabilities":{"x":[]},"y":1}"#,
                "{\"capabilities\":{}}",
            ),
            (
                r#"{"capabilities":{"twin_socket":{"supported":true,"fd_index":7}}}"#,
                r#"{"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}}"#,
            ),
            (
                r#"{"capabilities":{"twin_socket":{"supported":false}}}"#,
                "{\"capabilities\":{}}",
            ),
            (
                r#"{"capabilities":{"twin_socket":{}}}"#,
                "{\"capabilities\":{}}",
            ),
        ] {
            let answer = Version::parse(&offer(json))
                .unwrap()
                .answer(&able())
                .unwrap();
            let mut payload = Vec::new();
            answer.emit(&mut payload);
            let text = std::str::from_utf8(&payload[4..payload.len() - 1]).unwrap();
            assert_eq!(text, expected, "{json}");
        }
    }

    #[test]
    fn a_version_without_json_is_answered() {
        let version = Version::parse(&[0; 4]).unwrap();
        assert_eq!(version.capabilities, Capabilities::default());
        assert!(version.answer(&able()).is_ok());
    }

    #[test]
    fn the_minor_of_the_answer_is_at_most_what_was_sent() {
        for (sent, answered) in [(0, 0), (1, 1), (2, 2), (9, 2)] {
            let version = Version {
                major: 0,
                minor: sent,
                capabilities: Capabilities::default(),
            };
            assert_eq!(version.answer(&able()).unwrap().minor, answered);
        }
    }

    #[test]
    fn bad_versions_are_refused() {
        let mut unterminated = offer("{}");
        unterminated.pop();
        let bad_json = [
            "",
            "{",
            "[]",
            "{}\0{}",
            "[[1,2,3,4,true]]",
            r#"{"capabilities":3}"#,
            r#"{"capabilities":null}"#,
            r#"{"capabilities":[1,2,3,4,true]}"#,
            r#"{"capabilities":{"max_msg_fds":"8"}}"#,
            r#"{"capabilities":{"twin_socket":true}}"#,
            r#"{"capabilities":{"twin_socket":[true]}}"#,
            r#"{"capabilities":{"twin_socket":{"supported":1}}}"#,
            r#"{"capabilities":{"max_msg_fds":-1}}"#,
            r#"{"capabilities":{"max_msg_fds":1.5}}"#,
            r#"{"capabilities":{"max_msg_fds":4294967296}}"#,
            &" ".repeat(Version::MAX_JSON),
            &"[".repeat(1000),
            &(r#"{"x":"#.repeat(500) + &"}".repeat(500)),
        ];
        let mut bad = vec![vec![], vec![0; 3], unterminated];
        bad.extend(bad_json.map(offer));
        for payload in bad {
            let error = Version::parse(&payload).expect_err(&payload.escape_ascii().to_string());
            assert_eq!(error.errno(), Errno::INVAL);
        }
        let other_major = Version::parse(&[1, 0, 0, 0]).unwrap();
        let refused = other_major.answer(&able()).unwrap_err();
        assert_eq!(refused.errno(), Errno::NOTSUP);
    }
}
