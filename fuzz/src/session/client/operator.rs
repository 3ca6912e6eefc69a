//! The operator, who sees to the device beside its client, and who lets other clients come.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mdev::MediatedDevice;
use mdev::mailbox::{Mail, MailSender};
use mdev::migration::snapshot;
use vfu::wire::{Command, Header};

/// Stops the device. One choice of many: nothing comes after it.
const STOP: u8 = 0x55;

/// Most states that are saved and restored: all of a display's memory is read each time.
const MAX_SNAPSHOTS: usize = 3;
/// Most other clients.
const MAX_OTHERS: usize = 4;

/// Attributes that may be set, and some that may not.
const SETTINGS: [(&str, &str); 6] = [
    ("dma", "pin"),
    ("dma", "copy"),
    ("dma-mask", "32"),
    ("mode", "1x1"),
    ("mode", "640x480 "),
    ("", ""),
];

pub(super) struct Operator {
    mail: MailSender,
    /// The state that was saved last.
    saved: Arc<Mutex<Vec<u8>>>,
    snapshots: usize,
    /// The other clients' own ends.
    others: Vec<UnixStream>,
}

impl Operator {
    pub(super) fn new(mail: MailSender) -> Self {
        Self {
            mail,
            saved: Arc::default(),
            snapshots: 0,
            others: Vec::new(),
        }
    }

    /// Whether it is the end of the session.
    pub(super) fn stops(choice: u8) -> bool {
        choice == STOP
    }

    /// Does one of the things that operators do. Any of them may be refused.
    pub(super) fn act(&mut self, choice: u8) {
        if Self::stops(choice) {
            return self.send(Mail::Stop);
        }
        let choice = usize::from(choice) % (SETTINGS.len() + 3);
        match (SETTINGS.get(choice), choice - choice.min(SETTINGS.len())) {
            (Some((name, value)), _) => self.call(move |device| {
                let _ = device.set_attribute(name, value);
            }),
            (None, 0 | 1) if self.snapshots == MAX_SNAPSHOTS => {}
            (None, 0) => self.save(),
            (None, 1) => self.restore(),
            (None, _) => self.let_another_come(),
        }
    }

    fn call(&self, call: impl FnOnce(&mut dyn MediatedDevice) + Send + 'static) {
        self.send(Mail::Call(Box::new(call)));
    }

    /// Leaves a message for the device. The session may just have ended: then nobody reads it.
    fn send(&self, mail: Mail) {
        let _ = self.mail.send(mail);
    }

    fn save(&mut self) {
        self.snapshots += 1;
        let saved = Arc::clone(&self.saved);
        self.call(move |device| {
            let mut stream = Vec::new();
            if snapshot::save(device, &mut stream).is_ok() {
                *lock(&saved) = stream;
            }
        });
    }

    fn restore(&mut self) {
        self.snapshots += 1;
        let saved = Arc::clone(&self.saved);
        self.call(move |device| {
            let stream = lock(&saved).clone();
            let _ = snapshot::restore(device, &mut &stream[..]);
        });
    }

    fn let_another_come(&mut self) {
        if self.others.len() < MAX_OTHERS {
            let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
            let header = Header::command(7, Command::DeviceGetInfo, 0).to_bytes();
            rustix::io::write(&ours, &header).expect("there is room");
            self.send(Mail::Client(theirs.into()));
            self.others.push(ours);
        }
    }
}

fn lock(saved: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    saved.lock().unwrap_or_else(PoisonError::into_inner)
}
