//! What happens when a thread panics: its message goes to the log, and the process ends.
//!
//! A bug has been met, and what the threads share may be half changed. Whoever started the process
//! sees how it ended, and starts another.

use std::panic;
use std::process;

/// From now on a panic, in whatever thread, ends the process by SIGABRT. In the log
/// it is `program`.
pub fn end_the_process(program: &'static str) {
    panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        // Not by `tracing`, in whose midst it may have happened; and without a backtrace, whose
        // names would have to be read from files, which the sandbox forbids.
        let name = thread.name().unwrap_or("a thread");
        eprintln!("{program}: '{name}' {panic}");
        process::abort();
    }));
}
