//! QMP: QEMU's control socket.
//!
//! One command at a time; events that arrive in between are kept until they are asked for.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::stream::{Deadline, Stream};
use crate::{Error, Result};

/// How long an answer may take. QEMU itself gives a vfio-user server 5 s for a reply, several in
/// a row when a device is added.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A connection that may send commands.
#[derive(Debug)]
pub struct Qmp {
    stream: Stream,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Exchanges greetings on a connection that QEMU has just made.
    pub fn new(socket: UnixStream) -> Result<Self> {
        let mut qmp = Self {
            stream: Stream::new(socket),
            events: VecDeque::new(),
        };
        qmp.message(&Deadline::new("QMP greeting", ANSWER_LIMIT))?;
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs a command, and returns its `return`.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.stream.send(format!("{request}\n").as_bytes())?;
        let what = format!("answer to {command}");
        let deadline = Deadline::new(&what, ANSWER_LIMIT);
        loop {
            let mut message = self.message(&deadline)?;
            if let Some(error) = message.get("error") {
                return Err(Error::Qmp {
                    command: command.to_owned(),
                    answer: format!("{}: {}", text(error, "class"), text(error, "desc")),
                });
            }
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
            self.events.push_back(message);
        }
    }

    /// Waits for the next event called `name`. Events before it are dropped.
    pub fn wait_event(&mut self, name: &str, limit: Duration) -> Result<Value> {
        let what = format!("event {name}");
        let deadline = Deadline::new(&what, limit);
        loop {
            let event = self.next_event(&deadline)?;
            if event.get("event").is_some_and(|event| event == name) {
                return Ok(event);
            }
        }
    }

    /// Returns the events that came since this was last asked, waiting for none.
    pub fn take_events(&mut self) -> Result<Vec<Value>> {
        while self.stream.is_ready()? {
            let event = self.message(&Deadline::new("rest of an event", ANSWER_LIMIT))?;
            self.events.push_back(event);
        }
        Ok(self.events.drain(..).collect())
    }

    /// Adds a device, described as `-device` takes it in JSON.
    pub fn device_add(&mut self, device: &Value) -> Result<()> {
        self.execute("device_add", device).map(drop)
    }

    /// Asks the guest to let go of a device, and waits until it has. An error if it says that it
    /// cannot.
    pub fn device_del(&mut self, id: &str, limit: Duration) -> Result<()> {
        self.execute("device_del", &json!({ "id": id }))?;
        let what = format!("end of device {id}");
        let deadline = Deadline::new(&what, limit);
        loop {
            let event = self.next_event(&deadline)?;
            let is_ours = event
                .pointer("/data/device")
                .is_some_and(|device| device == id);
            match text(&event, "event") {
                "DEVICE_DELETED" if is_ours => return Ok(()),
                "DEVICE_UNPLUG_GUEST_ERROR" if is_ours => {
                    return Err(Error::Guest(format!("it keeps device {id}")));
                }
                _ => {}
            }
        }
    }

    /// Presses the reset button.
    pub fn system_reset(&mut self) -> Result<()> {
        self.execute("system_reset", &json!({})).map(drop)
    }

    fn next_event(&mut self, deadline: &Deadline<'_>) -> Result<Value> {
        match self.events.pop_front() {
            Some(event) => Ok(event),
            None => self.message(deadline),
        }
    }

    fn message(&mut self, deadline: &Deadline<'_>) -> Result<Value> {
        let line = self.stream.read_until(b"\n", deadline)?;
        serde_json::from_slice(&line).map_err(|error| Error::Malformed(format!("QMP: {error}")))
    }
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}
