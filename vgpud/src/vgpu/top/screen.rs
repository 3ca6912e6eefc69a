//! The terminal: it is left as it was, whatever ends us.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use anyhow::Context;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};

use crate::signals;

use super::Arguments;
use super::draw::draw;
use super::feed::{self, PATIENCE};
use super::sample::Sample;
use super::state::{Message, State};

/// Shows the screen until a key or a signal ends it.
pub(super) fn show(arguments: &Arguments) -> anyhow::Result<()> {
    let client = arguments.api.client()?.with_patience(PATIENCE);
    // A daemon that is not there is told of as by the other commands.
    let first = Sample::take(&client, arguments.parent.as_deref())?;
    let mut state = State::new(first, arguments.sort, &arguments.filter);
    let (sender, messages) = mpsc::channel();
    feed::start(
        client,
        arguments.parent.clone(),
        arguments.interval,
        sender.clone(),
    );
    let ending = sender.clone();
    signals::on_end(move || drop(ending.send(Message::End)))?;
    let mut screen = Screen::open().context("cannot use the terminal")?;
    read_keys(sender);
    let shown = screen.run(&mut state, &messages);
    drop(screen);
    shown.context("cannot use the terminal")
}

/// The terminal while it is ours.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> io::Result<Self> {
        // From here on a panic restores it, too.
        ratatui::try_init()
            .inspect_err(|_| ratatui::restore())
            .map(Self)
    }

    fn run(&mut self, state: &mut State, messages: &Receiver<Message>) -> io::Result<()> {
        loop {
            self.0.draw(|frame| draw(frame, state))?;
            let Ok(message) = messages.recv() else {
                return Ok(());
            };
            // What else has come is drawn with it.
            for message in std::iter::once(message).chain(messages.try_iter()) {
                if !state.update(message) {
                    return Ok(());
                }
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Sends what is typed. The thread ends with the program.
fn read_keys(to: Sender<Message>) {
    thread::spawn(move || {
        loop {
            let message = match event::read() {
                Ok(Event::Key(key)) => Message::Key(key),
                Ok(Event::Resize(..)) => Message::Redraw,
                Ok(_) => continue,
                Err(_) => Message::End,
            };
            let is_last = matches!(message, Message::End);
            if to.send(message).is_err() || is_last {
                return;
            }
        }
    });
}
