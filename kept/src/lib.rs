//! Memory that outlives the process that used it, and a stream socket's position within it.
//!
//! A process can be killed between any two of its instructions. Whoever takes its place has to know
//! which bytes of a stream it had received, and whether the answer to the last of them had left. No
//! order of a system call and a note about it can tell: the kill may fall between the two. Here the
//! kernel takes the note itself, as part of the call: `recvmmsg` and `sendmmsg` store how much they
//! moved in a header, and that header lies in memory which another process has too.
//!
//! - [`memory`]: a mapped memory file, in parts.
//! - [`inbox`]: what has come on a stream, from its first byte that is not dealt with.
//! - [`outbox`]: how much of the last message has left.
//! - `header`: the header that the kernel writes.
//!
//! Not here: what the bytes mean (`vfu`), what else is kept (`mdev`).

mod header;
pub mod inbox;
pub mod memory;
pub mod outbox;

pub use header::SCM_MAX_FD;
pub use inbox::{Inbox, Received};
pub use memory::{Bytes, Memory, Words};
pub use outbox::{Outbox, Sent};
