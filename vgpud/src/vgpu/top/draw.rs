//! The screen: from the state alone. What has no room is left out, whatever the terminal's size.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};

use super::columns::{Column, cell, fitting, percent, time};
use super::figures::{Row, policy_word};
use super::state::{Figure, MOST_FRAMES, State};

/// Smaller than this nothing is told.
const LEAST: (u16, u16) = (16, 3);

/// Lines of the history of one vGPU, and how many there have to be for it.
const HISTORY: u16 = 10;
const WITH_HISTORY: u16 = 20;

/// A line of bars has at most and at least so many.
const BARS: (usize, usize) = (60, 8);

/// Where a terminal is that wide, so much of it is for bars, and the rest for columns.
const WITH_BARS: usize = 76;
const KEPT_BARS: usize = 16;

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        return frame.render_widget(Paragraph::new("too small"), area);
    }
    let engines = engine_lines(state, usize::from(area.height / 4).max(1));
    let has_history = state.shows_history && area.height >= WITH_HISTORY;
    let [top, warning, rows, history, bottom] = Layout::vertical([
        Constraint::Length(engines.len() as u16),
        Constraint::Length(u16::from(state.lost.is_some())),
        Constraint::Fill(1),
        Constraint::Length(if has_history { HISTORY } else { 0 }),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(engines), top);
    if let Some(words) = &state.lost {
        let words = format!("no figures, trying again: {words}");
        frame.render_widget(Paragraph::new(words).style(warns()), warning);
    }
    draw_rows(frame, rows, state);
    if has_history {
        draw_history(frame, history, state);
    }
    frame.render_widget(Paragraph::new(bottom_line(state, area.width)), bottom);
}

fn warns() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}

fn engine_lines(state: &State, most: usize) -> Vec<Line<'static>> {
    let engines = &state.frame().engines;
    let mut lines: Vec<_> = engines
        .iter()
        .take(most)
        .map(|engine| {
            let busy = percent(Some(engine.busy_permille));
            let policy = policy_word(engine.policy);
            let (users, places) = (engine.users, engine.places);
            Line::from(vec![
                Span::styled(engine.parent.clone(), Modifier::BOLD),
                Span::raw(format!(
                    ": {policy}, {busy}% busy, {users} vGPUs on {places} at once"
                )),
            ])
        })
        .collect();
    if engines.is_empty() {
        lines.push(Line::from("no engine is shared"));
    }
    if let Some(last) = lines.last_mut()
        && engines.len() > most
    {
        last.push_span(format!(" (and {} more)", engines.len() - most));
    }
    lines
}

fn draw_rows(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let width = usize::from(area.width);
    // What one more column would tell is worth less than what has been.
    let kept = if width >= WITH_BARS { KEPT_BARS } else { 0 };
    let (columns, left) = fitting(width - kept);
    let bars = Some((left + kept).min(BARS.0)).filter(|bars| *bars >= BARS.1);
    let titles = columns.iter().map(|column| cell(column, column.title));
    let mut title = titles.collect::<Vec<_>>().join(" ");
    if bars.is_some() {
        title.push_str(" BUSY%");
    }
    let mut lines = vec![Line::styled(title, Modifier::REVERSED)];
    let rows = state.rows();
    let room = usize::from(area.height).saturating_sub(1);
    // The selected one is always among those that are shown.
    let selected = rows.iter().position(|row| Some(row.uuid) == state.selected);
    let first = selected.map_or(0, |place| (place + 1).saturating_sub(room));
    for row in rows.iter().skip(first).take(room) {
        lines.push(row_line(state, row, &columns, bars));
    }
    if rows.is_empty() {
        let words = match state.frame().vgpus.is_empty() {
            true => "no vGPUs",
            false => "none that the filter lets through",
        };
        lines.push(Line::from(words));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn row_line(state: &State, row: &Row, columns: &[Column], bars: Option<usize>) -> Line<'static> {
    let cells = columns.iter();
    let cells = cells.map(|column| cell(column, &(column.text)(row)));
    let mut text = cells.collect::<Vec<_>>().join(" ");
    if let Some(count) = bars {
        let history = state.history(row.uuid, count, |row| row.busy_permille);
        text.push(' ');
        text.extend(history.into_iter().map(|value| bar(value, 1000)));
    }
    let style = match row.state.as_str() {
        _ if Some(row.uuid) == state.selected => Style::new().add_modifier(Modifier::REVERSED),
        "stuck" | "failed" => warns(),
        "idle" | "stopped" => Style::new().add_modifier(Modifier::DIM),
        _ => Style::new(),
    };
    Line::styled(text, style)
}

/// A value as a bar of eight heights; the least that is more than nothing is seen.
pub(super) fn bar(value: u64, most: u64) -> char {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let eighths = (value.min(most) * 8).div_ceil(most.max(1));
    BARS.get(eighths as usize).copied().unwrap_or('█')
}

/// Three figures of one vGPU over time.
fn draw_history(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let rows = state.rows();
    let selected = rows.iter().find(|row| Some(row.uuid) == state.selected);
    let Some(row) = selected.or(rows.first()) else {
        return;
    };
    let figures: [(&str, Figure, Option<u64>, String); 3] = [
        (
            "busy %",
            |row| row.busy_permille,
            Some(1000),
            percent(row.busy_permille),
        ),
        (
            "queue",
            |row| row.queued,
            None,
            row.queued.unwrap_or(0).to_string(),
        ),
        ("wait", |row| row.wait_ns, None, time(row.wait_ns)),
    ];
    let [title, rest] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    frame.render_widget(
        Paragraph::new(format!("history of {}", row.uuid)).style(Modifier::REVERSED),
        title,
    );
    let areas: [Rect; 3] = Layout::vertical([Constraint::Fill(1); 3]).areas(rest);
    for ((name, figure, most, now), area) in figures.into_iter().zip(areas) {
        let [label, line] =
            Layout::horizontal([Constraint::Length(16), Constraint::Fill(1)]).areas(area);
        let values = state.history(row.uuid, usize::from(line.width).min(MOST_FRAMES), figure);
        let most = most.or(values.iter().copied().max()).unwrap_or(0);
        frame.render_widget(Paragraph::new(format!("{name}\n{now}")), label);
        frame.render_widget(Sparkline::default().data(values).max(most.max(1)), line);
    }
}

fn bottom_line(state: &State, width: u16) -> Line<'static> {
    if state.is_typing {
        return Line::from(format!("filter: {}_", state.filter));
    }
    let mut words = format!("by {}", state.sort.word());
    if state.is_reversed {
        words.push_str(" reversed");
    }
    if !state.filter.is_empty() {
        words.push_str(&format!(", filter '{}'", state.filter));
    }
    if state.back > 0 {
        words.push_str(&format!(", {} looks ago (space: now)", state.back));
    }
    let keys = "q quit  s sort  r reverse  / filter  h history  arrows: select, go back";
    if words.chars().count() + 2 + keys.len() <= usize::from(width) {
        words = format!("{words}  {keys}");
    }
    Line::styled(words, Modifier::DIM)
}
