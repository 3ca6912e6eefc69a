//! `vgpu events`: what happens, as it happens.

use serde_json::Value;
use uuid::Uuid;
use vgpud::api::Event;

use crate::failure::Ended;
use crate::output::{one_line, print};
use crate::target::{Api, whole_uuid};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Begin with what came after the event of this number, as far back as the daemon remembers; 0
    /// for all
    #[arg(long, value_name = "ID")]
    since: Option<u64>,
    /// Only what happens to this vGPU
    #[arg(short, long, value_name = "UUID", value_parser = whole_uuid)]
    uuid: Option<Uuid>,
    /// End after this many
    #[arg(short = 'n', long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print JSON, a line for each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: Api,
}

pub(crate) fn follow(arguments: &Arguments) -> anyhow::Result<()> {
    let client = arguments.api.client()?;
    let mut left = arguments.count;
    let mut printed = Ok(());
    client.events(arguments.since, |event| {
        // One that belongs to no vGPU tells of events that were missed.
        let is_other = event
            .instance
            .is_some_and(|uuid| Some(uuid) != arguments.uuid);
        if arguments.uuid.is_some() && is_other {
            return true;
        }
        printed = print_event(arguments, &event);
        left = left.map(|left| left - 1);
        printed.is_ok() && left != Some(0)
    })?;
    printed?;
    match left {
        Some(0) => Ok(()),
        _ => Err(Ended.into()),
    }
}

fn print_event(arguments: &Arguments, event: &Event) -> anyhow::Result<()> {
    let line = match arguments.json {
        true => serde_json::to_string(event)?,
        false => describe(event),
    };
    Ok(print(&format!("{line}\n"))?)
}

fn describe(event: &Event) -> String {
    let kind = match serde_json::to_value(event.kind) {
        Ok(Value::String(kind)) => kind,
        _ => String::new(),
    };
    let instance = event.instance.map(|uuid| uuid.to_string());
    let words = [
        Some(utc(event.at)),
        Some(kind),
        instance,
        event.parent.clone(),
        Some(one_line(&event.detail)),
    ];
    let words: Vec<_> = words.into_iter().flatten().collect();
    words.join(" ")
}

/// Seconds since 1970 as date and time (RFC 3339).
fn utc(seconds: u64) -> String {
    const DAY: u64 = 24 * 60 * 60;
    let (mut day, second) = (seconds / DAY, seconds % DAY);
    let mut year = 1970;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // A clock that is far wrong must not keep us here: four digits are enough.
    while year < 9999 && day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let day = day + 1;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use vgpud::api::EventKind;

    #[test]
    fn time_is_told_as_date_says_it() {
        // `date -u -d @N +%FT%TZ`
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (1_798_761_600, "2027-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
        utc(u64::MAX);
    }

    #[test]
    fn an_event_is_a_line() {
        let event = Event {
            id: 1,
            at: 0,
            kind: EventKind::AutostartFailed,
            instance: Some(Uuid::nil()),
            parent: Some("soft0".to_owned()),
            detail: "no place".to_owned(),
        };
        let nil = Uuid::nil();
        let expected = format!("1970-01-01T00:00:00Z autostart-failed {nil} soft0 no place");
        assert_eq!(describe(&event), expected);
    }
}
