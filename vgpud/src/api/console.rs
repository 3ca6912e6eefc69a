//! A vGPU's display, for viewers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a console is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsoleRequest {
    /// Which head of the display, from 0.
    #[serde(default, skip_serializing_if = "is_first")]
    #[schema(maximum = 15)]
    pub head: u32,
    /// Whether viewers may connect by TCP too, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<ConsoleTcp>,
}

/// Requests for the first head are as they were when there was no other.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_first(head: &u32) -> bool {
    *head == 0
}

/// Where viewers connect by TCP. What they see and do travels openly.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsoleTcp {
    /// An address of this host and a port; port 0 is any that is free.
    #[schema(example = "127.0.0.1:5900", max_length = 64)]
    pub address: String,
    /// What viewers must know. VNC looks at eight bytes, so that is how long it may be.
    #[schema(example = "geheim", pattern = "^[ -~]{1,8}$")]
    pub password: String,
}

impl std::fmt::Debug for ConsoleTcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the password: it would stand in a log.
        let mut fields = f.debug_struct("ConsoleTcp");
        fields
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A console that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Console {
    /// Which head of the display it shows.
    #[serde(default)]
    pub head: u32,
    /// Where viewers connect: a UNIX socket, of whoever may connect to the vGPU's.
    pub socket: String,
    /// Where they connect by TCP, if they may.
    pub tcp: Option<String>,
    /// Its process.
    pub pid: u32,
}
