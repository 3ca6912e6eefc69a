//! What stands in which column, which columns have room, and what rows are sorted by.

use std::cmp::Ordering;

use clap::ValueEnum;

use crate::output::size;

use super::figures::Row;

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    Busy,
    Share,
    Queue,
    Wait,
    Jobs,
    Cpu,
    Memory,
    Uuid,
}

impl Sort {
    /// The next one, after the last the first.
    pub(super) fn next(self) -> Self {
        let all = Self::value_variants();
        let place = all.iter().position(|sort| *sort == self).unwrap_or(0);
        all.get(place + 1).copied().unwrap_or(Self::Busy)
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Share => "share",
            Self::Queue => "queue",
            Self::Wait => "wait",
            Self::Jobs => "jobs",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Uuid => "uuid",
        }
    }

    /// The most first; of equals, and of UUIDs, the lower first, so that rows keep their places.
    pub(super) fn compare(self, one: &Row, other: &Row) -> Ordering {
        let value = |row: &Row| match self {
            Self::Busy => row.busy_permille,
            Self::Share => row.share_permille,
            Self::Queue => row.queued,
            Self::Wait => row.wait_ns,
            Self::Jobs => row.jobs_per_second,
            Self::Cpu => row.cpu_permille,
            Self::Memory => row.resident_bytes,
            Self::Uuid => None,
        };
        value(other)
            .cmp(&value(one))
            .then_with(|| one.uuid.cmp(&other.uuid))
    }
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) width: usize,
    /// Who has a lower one has room first.
    rank: u8,
    pub(super) is_left: bool,
    pub(super) text: fn(&Row) -> String,
}

const fn column(
    title: &'static str,
    (width, rank): (usize, u8),
    text: fn(&Row) -> String,
) -> Column {
    Column {
        title,
        width,
        rank,
        is_left: false,
        text,
    }
}

/// A UUID in full, and its beginning, of which one takes the place of the other.
const WHOLE: Column = column("UUID", (36, 14), |row| row.uuid.to_string());
const BEGINNING: Column = column("UUID", (8, 0), |row| {
    row.uuid.to_string().chars().take(8).collect()
});

const COLUMNS: [Column; 15] = [
    BEGINNING,
    column("PARENT", (10, 10), |row| row.parent.clone()),
    column("TYPE", (12, 9), |row| row.type_name.clone()),
    column("STATE", (10, 4), |row| row.state.clone()),
    column("WEIGHT", (6, 7), |row| whole(row.weight)),
    column("CAP%", (6, 11), |row| percent(row.cap_permille)),
    column("RESV%", (6, 12), |row| percent(row.reservation_permille)),
    column("SHARE%", (6, 2), |row| percent(row.share_permille)),
    column("BUSY%", (6, 1), |row| percent(row.busy_permille)),
    column("WANT%", (6, 8), |row| percent(row.wanted_permille)),
    column("QUEUE", (6, 3), |row| whole(row.queued)),
    column("WAIT", (7, 5), |row| time(row.wait_ns)),
    column("JOBS/S", (7, 13), |row| whole(row.jobs_per_second)),
    column("CPU%", (6, 6), |row| percent(row.cpu_permille)),
    column("MEM", (9, 5), |row| {
        row.resident_bytes.map_or_else(nothing, size)
    }),
];

/// Those that have room, one space between two, and how much is left beside them.
pub(super) fn fitting(width: usize) -> (Vec<Column>, usize) {
    let mut left = (width + 1).saturating_sub(BEGINNING.width + 1);
    let mut ranks: Vec<_> = COLUMNS.iter().map(|column| column.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let mut most = 0;
    for rank in ranks.into_iter().skip(1) {
        let of_rank = COLUMNS.iter().filter(|column| column.rank == rank);
        let needed: usize = of_rank.map(|column| column.width + 1).sum();
        if needed > left {
            break;
        }
        left -= needed;
        most = rank;
    }
    let columns = COLUMNS.iter().filter(|column| column.rank <= most);
    let mut columns: Vec<_> = columns.copied().collect();
    let more = WHOLE.width - BEGINNING.width;
    if columns.len() == COLUMNS.len() && left >= more {
        left -= more;
        columns[0] = WHOLE;
    }
    for column in &mut columns {
        column.is_left = matches!(column.title, "UUID" | "PARENT" | "TYPE" | "STATE");
    }
    (columns, left)
}

/// One cell, as wide as its column; what is too long is cut.
pub(super) fn cell(column: &Column, text: &str) -> String {
    let width = column.width;
    let cut: String = text.chars().take(width).collect();
    match column.is_left {
        true => format!("{cut:<width$}"),
        false => format!("{cut:>width$}"),
    }
}

fn nothing() -> String {
    "-".to_owned()
}

fn whole(number: Option<impl ToString>) -> String {
    number.map_or_else(nothing, |number| number.to_string())
}

/// Thousandths as percent.
pub(super) fn percent(permille: Option<impl Into<u64>>) -> String {
    permille.map_or_else(nothing, |permille| {
        let permille = permille.into();
        format!("{}.{}", permille / 10, permille % 10)
    })
}

/// Nanoseconds in few characters.
pub(super) fn time(nanos: Option<u64>) -> String {
    let Some(nanos) = nanos else {
        return nothing();
    };
    match nanos {
        0..1_000_000 => format!("{}us", nanos / 1000),
        1_000_000..1_000_000_000 => {
            format!("{}.{}ms", nanos / 1_000_000, nanos / 100_000 % 10)
        }
        _ => format!("{}.{}s", nanos / 1_000_000_000, nanos / 100_000_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_most_has_room_first() {
        let titles = |width| {
            let (columns, left) = fitting(width);
            let used: usize = columns.iter().map(|column| column.width + 1).sum();
            assert!(used + left <= (width + 1).max(9), "{width}");
            let titles: Vec<_> = columns.iter().map(|column| column.title).collect();
            titles.join(" ")
        };
        assert_eq!(titles(0), "UUID");
        assert_eq!(titles(15), "UUID BUSY%");
        assert_eq!(titles(29), "UUID SHARE% BUSY% QUEUE");
        assert_eq!(titles(58), "UUID STATE SHARE% BUSY% QUEUE WAIT MEM");
        let all = titles(200);
        assert_eq!(all.split(' ').count(), COLUMNS.len());
        assert_eq!(fitting(200).0[0].width, 36);
        assert_eq!(fitting(120).0[0].width, 8);
    }

    #[test]
    fn numbers_have_few_characters() {
        assert_eq!(percent(Some(1000_u64)), "100.0");
        assert_eq!(percent(Some(7_u32)), "0.7");
        assert_eq!(percent(None::<u64>), "-");
        for (nanos, text) in [
            (0, "0us"),
            (999_999, "999us"),
            (1_250_000, "1.2ms"),
            (999_999_999, "999.9ms"),
            (61_000_000_000, "61.0s"),
        ] {
            assert_eq!(time(Some(nanos)), text);
        }
        let column = &COLUMNS[0];
        assert_eq!(cell(column, "0123456789").len(), 8);
    }
}
