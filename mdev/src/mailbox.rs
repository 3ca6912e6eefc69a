//! Messages to a device's own thread: a new client, a call, the order to stop.
//!
//! The thread sleeps on its client's socket and on the mailbox's eventfd at once.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use rustix::event::{EventfdFlags, eventfd};

use crate::device::MediatedDevice;

/// Something to run on a device, in its own thread.
pub type Call = Box<dyn FnOnce(&mut dyn MediatedDevice) + Send>;

/// What the thread is asked to do.
pub enum Mail {
    /// A client has connected.
    Client(OwnedFd),
    /// Run this on the device.
    Call(Call),
    /// End the session and the thread.
    Stop,
}

/// The thread is gone, and with it the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the device has stopped")]
pub struct Gone;

/// The thread's end. Dropping it tells every sender that the device is gone.
#[derive(Debug)]
pub struct Mailbox {
    shared: Arc<Shared>,
}

/// The senders' end.
#[derive(Clone, Debug)]
pub struct MailSender {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Set while the queue holds something: a polling thread looks here, without a system call.
    has_mail: AtomicBool,
    wake: OwnedFd,
}

#[derive(Default)]
struct Queue {
    mail: VecDeque<Mail>,
    closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} messages", self.mail.len())
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mailbox {
    /// A mailbox and its first sender.
    pub fn new() -> io::Result<(Self, MailSender)> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            has_mail: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let sender = MailSender {
            shared: Arc::clone(&shared),
        };
        Ok((Self { shared }, sender))
    }

    /// Whether anything is waiting. Costs no system call.
    pub fn has_mail(&self) -> bool {
        self.shared.has_mail.load(Ordering::Acquire)
    }

    /// The next message.
    pub fn next_mail(&self) -> Option<Mail> {
        let mut queue = self.shared.queue();
        let mail = queue.mail.pop_front();
        if queue.mail.is_empty() && self.has_mail() {
            self.shared.has_mail.store(false, Ordering::Release);
            let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
        }
        mail
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.closed = true;
        queue.mail.clear();
    }
}

impl MailSender {
    /// Leaves a message, without waiting for what becomes of it.
    pub fn send(&self, mail: Mail) -> Result<(), Gone> {
        let mut queue = self.shared.queue();
        if queue.closed {
            return Err(Gone);
        }
        queue.mail.push_back(mail);
        self.shared.has_mail.store(true, Ordering::Release);
        // A counter that is full wakes the reader just as well.
        let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
        Ok(())
    }

    /// Runs `call` on the device, in its own thread, and waits for what it returns.
    pub fn call<R: Send + 'static>(
        &self,
        call: impl FnOnce(&mut dyn MediatedDevice) -> R + Send + 'static,
    ) -> Result<R, Gone> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.send(Mail::Call(Box::new(move |device| {
            let _ = answer.send(call(device));
        })))?;
        answered.recv().map_err(|_| Gone)
    }
}
