//! `vgpu top`: who uses an engine, as it happens.
//!
//! - `sample`: what the daemon says, asked for by a thread of its own (`feed`),
//! - `figures`: two samples become a frame: a row for each vGPU, rates among them,
//! - `state`: frames of the past, what is shown of them, and what keys do,
//! - `columns`: what stands in which column, and which have room,
//! - `draw`: the screen; `batch`: the same as text or JSON, for scripts,
//! - `screen`: the terminal, and the way back from it.

mod batch;
mod columns;
mod draw;
mod feed;
mod figures;
mod sample;
mod screen;
mod state;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal, stdin, stdout};
use std::time::Duration;

use crate::target::Api;

use columns::Sort;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only those on this parent
    #[arg(short, long, value_name = "PARENT")]
    parent: Option<String>,
    /// Only those whose UUID, parent, type or state has this in it
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// What the first rows have most of
    #[arg(short, long, value_name = "COLUMN", value_enum, default_value_t = Sort::Busy)]
    sort: Sort,
    /// Seconds between two looks
    #[arg(short = 'd', long, value_name = "SECONDS", value_parser = seconds, default_value = "1")]
    interval: Duration,
    /// Print one table, of one interval, and end
    #[arg(long, conflicts_with_all = ["batch", "count"])]
    once: bool,
    /// Print a table after the other, as where the output is no terminal
    #[arg(short, long)]
    batch: bool,
    /// Print so many tables, and end
    #[arg(short = 'n', long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print JSON: with --once over several lines, else a line for each table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: Api,
}

impl Arguments {
    /// Whether there is a terminal that can show more than lines, and nothing else is asked for.
    fn wants_screen(&self) -> bool {
        let is_plain = self.once || self.batch || self.json || self.count.is_some();
        let is_dumb = std::env::var_os("TERM").is_none_or(|name| name.is_empty() || name == "dumb");
        !is_plain && !is_dumb && stdin().is_terminal() && stdout().is_terminal()
    }
}

pub(crate) fn top(arguments: &Arguments) -> anyhow::Result<()> {
    match arguments.wants_screen() {
        true => screen::show(arguments),
        false => batch::print_all(arguments),
    }
}

/// A number of seconds, from a tenth to an hour.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok();
    let fits = seconds.filter(|seconds| (0.1..=3600.0).contains(seconds));
    fits.map(Duration::from_secs_f64)
        .ok_or_else(|| "0.1 to 3600 seconds".to_owned())
}
