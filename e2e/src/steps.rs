//! Progress lines, for programs that a person watches.

use std::fmt;
use std::time::Instant;

/// Prints each step as it ends, with how long it took.
#[derive(Debug)]
pub struct Steps {
    started: Instant,
}

impl Default for Steps {
    fn default() -> Self {
        Self::new()
    }
}

impl Steps {
    /// The clock starts now.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Runs one step. A step that fails prints no line: its error says what it was.
    pub fn step<T, E>(
        &self,
        what: impl fmt::Display,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let started = Instant::now();
        let value = work()?;
        println!("{:7.1} s  {what}", started.elapsed().as_secs_f64());
        Ok(value)
    }

    /// Prints how long it took altogether.
    pub fn total(&self) {
        println!("{:7.1} s  in all", self.started.elapsed().as_secs_f64());
    }
}
