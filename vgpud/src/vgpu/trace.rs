//! `vgpu trace`: who had an engine when, for a trace viewer.
//!
//! - `collect`: what the daemon tells, until it is enough,
//! - `events`: that as events of the Trace Event Format,
//! - `lanes`: which of an engine's places a lease had.
//!
//! The format is a document of Google's, "Trace Event Format"; Perfetto and chrome://tracing read it.

mod collect;
mod events;
mod lanes;
#[cfg(test)]
mod tests;

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;

use crate::failure::Ended;
use crate::output::save;
use crate::signals;
use crate::target::Api;

use collect::{Collected, End};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the engine of this parent
    #[arg(short, long, value_name = "PARENT")]
    parent: Option<String>,
    /// End after so many seconds; without it, with Ctrl-C
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Begin with what the daemon remembers: the last few thousand decisions
    #[arg(long)]
    past: bool,
    /// Where to; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    #[command(flatten)]
    api: Api,
}

pub(crate) fn trace(arguments: &Arguments) -> anyhow::Result<()> {
    let client = arguments.api.client()?.with_patience(collect::PATIENCE);
    let (sender, ending) = mpsc::channel();
    let mut collected = Collected::begin(&client, arguments.parent.as_deref(), arguments.past)?;
    let mut end = End::Asked;
    save(&arguments.output, |output| {
        signals::on_end(move || {
            // Nobody listens any more if it is over already.
            let _ = sender.send(());
        })?;
        let mut output = BufWriter::new(output);
        let mut writer = events::Writer::begin(&mut output, collected.zero)?;
        end = collected.follow(&client, arguments.seconds, &ending, &mut writer)?;
        writer.end(collected.missed)?;
        output.flush().context("cannot write the trace")
    })?;
    if collected.missed > 0 {
        eprintln!(
            "vgpu: {} decisions are missing: they came too fast",
            collected.missed
        );
    }
    match end {
        End::Asked => Ok(()),
        End::Daemon => Err(Ended.into()),
    }
}

/// A number of seconds, up to a day.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok();
    let fits = seconds.filter(|seconds| (0.0..=86_400.0).contains(seconds));
    fits.map(Duration::from_secs_f64)
        .ok_or_else(|| "0 to 86400 seconds".to_owned())
}
