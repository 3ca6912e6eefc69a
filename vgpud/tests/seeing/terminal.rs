//! A terminal that is none: script(1) runs a command on one of the kernel's, and what the command
//! draws is kept as a screen. Only what our command sends is understood.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::cli_support;
use crate::support::{Daemon, wait_for};

/// What is seen.
#[derive(Default)]
struct Screen {
    lines: Vec<Vec<char>>,
    at: (usize, usize),
    /// Whether it is the second screen, which programs use that go away without a trace.
    is_other: bool,
    hides_cursor: bool,
    /// An escape that is not whole yet.
    escape: Option<String>,
}

/// A command on a terminal. Dropping it ends it.
pub(crate) struct Terminal {
    child: Child,
    keys: Option<ChildStdin>,
    screen: Arc<Mutex<Screen>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Runs a line of a shell on a terminal of that size.
    pub(crate) fn run(daemon: &Daemon, size: (u16, u16), line: &str) -> Self {
        let like_others = cli_support::command(daemon, "");
        let (columns, rows) = size;
        let line = format!("stty cols {columns} rows {rows}; {line}");
        let mut command = Command::new("script");
        command
            .args(["--quiet", "--flush", "--command", &line, "/dev/null"])
            .env("VGPU", like_others.get_program())
            .env("TERM", "xterm")
            .env("VGPUD_API", daemon.path("run/vgpud/api.sock"))
            .current_dir(daemon.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let screen = Arc::new(Mutex::new(Screen::default()));
        let (mut output, theirs) = (child.stdout.take().unwrap(), Arc::clone(&screen));
        let reader = thread::spawn(move || {
            let (mut buffer, mut rest) = ([0; 4096], Vec::new());
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                rest.extend_from_slice(&buffer[..count]);
                let whole = match std::str::from_utf8(&rest) {
                    Ok(text) => text.len(),
                    Err(error) => error.valid_up_to(),
                };
                let text: Vec<u8> = rest.drain(..whole).collect();
                let mut screen = theirs.lock().unwrap();
                for letter in String::from_utf8(text).unwrap().chars() {
                    screen.take(letter);
                }
            }
        });
        Self {
            keys: child.stdin.take(),
            child,
            screen,
            reader: Some(reader),
        }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys
            .as_mut()
            .unwrap()
            .write_all(keys.as_bytes())
            .unwrap();
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let screen = self.screen.lock().unwrap();
        let lines = screen.lines.iter();
        lines
            .map(|line| line.iter().collect::<String>().trim_end().to_owned())
            .collect()
    }

    /// Waits until a line has that in it, and gives it.
    pub(crate) fn line_with(&self, words: &str) -> String {
        wait_for(words, || {
            let mut lines = self.lines().into_iter();
            lines.find(|line| line.contains(words))
        })
    }

    /// Waits until no line has that in it.
    pub(crate) fn is_without(&self, words: &str) {
        wait_for(words, || {
            let lines = self.lines();
            (!lines.iter().any(|line| line.contains(words))).then_some(())
        });
    }

    /// Whether the usual screen is shown, with its cursor.
    pub(crate) fn is_as_usual(&self) -> bool {
        let screen = self.screen.lock().unwrap();
        !screen.is_other && !screen.hides_cursor
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Its end hangs up the terminal, and with it the command.
        drop(self.keys.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let ended = reader.join();
            assert!(
                thread::panicking() || ended.is_ok(),
                "the screen was not understood"
            );
        }
    }
}

impl Screen {
    fn take(&mut self, letter: char) {
        if let Some(mut escape) = self.escape.take() {
            escape.push(letter);
            let is_sequence = escape.starts_with('[');
            if is_sequence && (escape.len() == 1 || !('@'..='~').contains(&letter)) {
                self.escape = Some(escape);
            } else if is_sequence {
                self.obey(&escape);
            }
            return;
        }
        match letter {
            '\x1b' => self.escape = Some(String::new()),
            '\r' => self.at.0 = 0,
            '\n' => self.at.1 += 1,
            letter if letter.is_control() => {}
            letter => self.put(letter),
        }
    }

    fn put(&mut self, letter: char) {
        let (x, y) = self.at;
        if self.lines.len() <= y {
            self.lines.resize(y + 1, Vec::new());
        }
        let line = &mut self.lines[y];
        if line.len() <= x {
            line.resize(x + 1, ' ');
        }
        line[x] = letter;
        self.at.0 += 1;
    }

    fn obey(&mut self, escape: &str) {
        match escape {
            "[?1049h" | "[?1049l" => {
                self.is_other = escape.ends_with('h');
                self.lines.clear();
            }
            "[?25h" | "[?25l" => self.hides_cursor = escape.ends_with('l'),
            "[2J" => self.lines.clear(),
            _ if escape.ends_with('H') => {
                let numbers = escape[1..escape.len() - 1].split(';');
                let numbers: Vec<usize> = numbers.map(|n| n.parse().unwrap_or(1)).collect();
                let row = numbers.first().copied().unwrap_or(1);
                let column = numbers.get(1).copied().unwrap_or(1);
                self.at = (column - 1, row - 1);
            }
            // Colours, and modes of no interest here.
            _ => {}
        }
    }
}
