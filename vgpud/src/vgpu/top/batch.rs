//! Tables as text, or JSON, for scripts.

use std::fmt::Write;
use std::thread;

use vgpud::client::{Client, ClientError};

use crate::output::{one_line, print, print_json};

use super::Arguments;
use super::columns::{cell, fitting, percent};
use super::feed::PATIENCE;
use super::figures::{Frame, compare, policy_word};
use super::sample::Sample;
use super::state::matches;

/// As wide as all columns need.
const WIDTH: usize = 240;

/// Prints tables until so many are there, or for ever. A daemon that goes away is told of on standard
/// error, and waited for; only at the beginning it must be there, and with `--once` at the end.
pub(super) fn print_all(arguments: &Arguments) -> anyhow::Result<()> {
    let client = arguments.api.client()?.with_patience(PATIENCE);
    let mut left = match arguments.once {
        true => Some(1),
        false => arguments.count,
    };
    let mut before = Some(take(&client, arguments)?);
    let mut is_lost = false;
    while left != Some(0) {
        thread::sleep(arguments.interval);
        match take(&client, arguments) {
            Ok(now) => {
                if is_lost {
                    eprintln!("vgpu: the daemon answers again");
                }
                print_frame(arguments, &compare(before.as_ref(), &now))?;
                (before, is_lost) = (Some(now), false);
                left = left.map(|left| left - 1);
            }
            Err(error) if arguments.once => return Err(error.into()),
            Err(error) => {
                if !is_lost {
                    eprintln!("vgpu: {}; trying again", one_line(&error.to_string()));
                }
                (before, is_lost) = (None, true);
            }
        }
    }
    Ok(())
}

fn take(client: &Client, arguments: &Arguments) -> Result<Sample, ClientError> {
    Sample::take(client, arguments.parent.as_deref())
}

fn print_frame(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let mut frame = frame.clone();
    frame.vgpus.retain(|row| matches(row, &arguments.filter));
    frame
        .vgpus
        .sort_by(|one, other| arguments.sort.compare(one, other));
    if arguments.json && arguments.once {
        return print_json(&frame);
    }
    if arguments.json {
        return Ok(print(&format!("{}\n", serde_json::to_string(&frame)?))?);
    }
    let mut text = table(&frame);
    if !arguments.once {
        text.push('\n');
    }
    Ok(print(&text)?)
}

/// A line for each engine, and one for each vGPU below their titles.
pub(super) fn table(frame: &Frame) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for engine in &frame.engines {
        let _ = writeln!(
            text,
            "{}: {}, {}% busy, {} vGPUs on {} at once",
            engine.parent,
            policy_word(engine.policy),
            percent(Some(engine.busy_permille)),
            engine.users,
            engine.places
        );
    }
    let (columns, _) = fitting(WIDTH);
    let line = |cells: Vec<String>| cells.join(" ").trim_end().to_owned();
    let titles = columns.iter().map(|column| cell(column, column.title));
    let _ = writeln!(text, "{}", line(titles.collect()));
    for row in &frame.vgpus {
        let cells = columns.iter();
        let cells = cells.map(|column| cell(column, &(column.text)(row)));
        let _ = writeln!(text, "{}", line(cells.collect()));
    }
    text
}
