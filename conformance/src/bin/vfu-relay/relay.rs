//! Every message goes on, with its descriptors, both ways.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use vfu::wire::header::MessageType;
use vfu::wire::migration::MigState;

use super::end::End;
use super::journal::Journal;
use super::migrate;

/// How long the VMM's requests may take to be answered before an order is carried out.
const PATIENCE: Duration = Duration::from_secs(10);

/// A VMM, its server, and what is known of them.
#[derive(Debug)]
pub(crate) struct Relay {
    vmm: End,
    server: End,
    journal: Journal,
    /// Requests of the VMM that want an answer and have none.
    unanswered: usize,
    /// A server that was given the state, kept from forgetting it.
    copies: Vec<End>,
}

impl Relay {
    pub(crate) fn new(vmm: End, server: End) -> Self {
        Self {
            vmm,
            server,
            journal: Journal::default(),
            unanswered: 0,
            copies: Vec::new(),
        }
    }

    /// Passes messages on until the VMM is gone.
    pub(crate) fn run(mut self, control: &UnixListener) -> anyhow::Result<()> {
        loop {
            let has_order = {
                let mut fds = [
                    PollFd::new(&self.vmm, PollFlags::IN),
                    PollFd::new(&self.server, PollFlags::IN),
                    PollFd::new(control, PollFlags::IN),
                ];
                poll(&mut fds, None)?;
                fds[2].revents().contains(PollFlags::IN)
            };
            if self.pass_on().is_err() {
                // Either end has closed: the other sees the same.
                return Ok(());
            }
            if has_order {
                let (asker, _) = control.accept()?;
                self.obey(asker)?;
            }
        }
    }

    /// Passes on what is here.
    fn pass_on(&mut self) -> anyhow::Result<()> {
        while let Some(message) = self.vmm.next()? {
            let wants_reply = message.header.message_type() == MessageType::Command
                && !message.header.is_no_reply();
            self.unanswered += usize::from(wants_reply);
            self.journal.asked(&message)?;
            self.server.send(&message)?;
        }
        while let Some(message) = self.server.next()? {
            if message.header.message_type() == MessageType::Reply {
                self.unanswered = self.unanswered.saturating_sub(1);
            }
            self.journal.answered(&message);
            self.vmm.send(&message)?;
        }
        Ok(())
    }

    fn obey(&mut self, asker: UnixStream) -> anyhow::Result<()> {
        let mut line = String::new();
        let mut asker = BufReader::new(asker);
        asker.read_line(&mut line)?;
        let answer = self.order(line.trim_end());
        let answer = answer.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }));
        writeln!(asker.get_mut(), "{answer}")?;
        Ok(())
    }

    fn order(&mut self, line: &str) -> anyhow::Result<Value> {
        self.wait_until_idle()?;
        match line.split_once(' ') {
            Some(("copy", path)) => {
                let (mut copy, answer) = self.copy(Path::new(path))?;
                migrate::set_state(&mut self.server, MigState::Running)?;
                migrate::set_state(&mut copy, MigState::Running)?;
                self.copies.push(copy);
                Ok(answer)
            }
            Some(("move", path)) => {
                ensure!(
                    !self.journal.gave_memory,
                    "the VMM has mapped memory of its server, and cannot be given other"
                );
                let (mut copy, answer) = self.copy(Path::new(path))?;
                self.journal.set_up_interrupts(&mut copy)?;
                migrate::set_state(&mut copy, MigState::Running)?;
                self.server = copy;
                Ok(answer)
            }
            _ => bail!("an order is 'copy PATH' or 'move PATH'"),
        }
    }

    /// A server with the state of this one, both of them stopped.
    fn copy(&mut self, path: &Path) -> anyhow::Result<(End, Value)> {
        let mut copy = End::connect(path)?;
        self.journal.greet(&mut copy)?;
        self.journal.map(&mut copy)?;
        let stream = migrate::save(&mut self.server).context("cannot save")?;
        migrate::load(&mut copy, &stream.bytes).context("cannot load")?;
        // What came while the device ran may be in the stream twice, so both are read once more.
        migrate::set_state(&mut self.server, MigState::Stop)?;
        let is_equal = migrate::save_again(&mut self.server)? == migrate::save_again(&mut copy)?;
        let answer = json!({
            "bytes": stream.bytes.len(),
            "pre_copied": stream.pre_copied,
            "equal": is_equal,
        });
        Ok((copy, answer))
    }

    fn wait_until_idle(&mut self) -> anyhow::Result<()> {
        while self.unanswered > 0 {
            let mut fds = [
                PollFd::new(&self.vmm, PollFlags::IN),
                PollFd::new(&self.server, PollFlags::IN),
            ];
            let limit = Timespec::try_from(PATIENCE)?;
            ensure!(
                poll(&mut fds, Some(&limit))? > 0,
                "the VMM waits for an answer"
            );
            self.pass_on()?;
        }
        Ok(())
    }
}
