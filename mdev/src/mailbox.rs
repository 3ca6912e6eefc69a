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

/// Something to run on a device, in its own thread. A device that it leaves stopped for migration
/// goes on after it, unless the client has stopped it.
pub type Call = Box<dyn FnOnce(&mut dyn MediatedDevice) + Send>;

/// What the thread is asked to do.
pub enum Mail {
    /// A client has connected.
    Client(OwnedFd),
    /// Run this on the device.
    Call(Call),
    /// Stand still between two requests, until this returns: another process may go on meanwhile.
    Pause(Box<dyn FnOnce() + Send>),
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

    /// Lets the thread sleep again, though there was no mail: whoever has the eventfd may write it.
    pub(crate) fn rest(&self) {
        let queue = self.shared.queue();
        if queue.mail.is_empty() {
            let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
        }
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
        let mail = std::mem::take(&mut queue.mail);
        drop(queue);
        // A call may own something whose end sends mail: that must find the queue unlocked.
        drop(mail);
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

    /// Runs `call` on the device, in its own thread, and waits for what it returns. For other
    /// threads only: the device's own would wait for itself.
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

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::fake::FakeDevice;
    use crate::irq::Interrupts;

    /// Opens `calls` calls on a device, sleeping in between, and then is gone.
    fn serve(mailbox: Mailbox, calls: usize) -> thread::JoinHandle<()> {
        thread::spawn(move || {
            let (mut device, _) = FakeDevice::new(Interrupts::default()).unwrap();
            let mut opened = 0;
            while opened < calls {
                poll(&mut [PollFd::new(&mailbox, PollFlags::IN)], None).unwrap();
                while let Some(mail) = mailbox.next_mail() {
                    if let Mail::Call(call) = mail {
                        call(&mut device);
                        opened += 1;
                    }
                }
            }
        })
    }

    fn is_readable(mailbox: &Mailbox) -> bool {
        let now = Timespec::default();
        poll(&mut [PollFd::new(mailbox, PollFlags::IN)], Some(&now)).unwrap() == 1
    }

    #[test]
    fn a_call_runs_on_the_device_wakes_it_and_returns() {
        let (mailbox, sender) = Mailbox::new().unwrap();
        let device = serve(mailbox, 8);
        let callers = (0..8_u64).map(|caller| {
            let sender = sender.clone();
            thread::spawn(move || sender.call(move |device| device.config().size() + caller))
        });
        let answers: Vec<_> = callers.map(|caller| caller.join().unwrap()).collect();
        assert_eq!(answers, (0..8).map(|n| Ok(4096 + n)).collect::<Vec<_>>());
        device.join().unwrap();
    }

    #[test]
    fn after_its_end_every_message_is_told_that_the_device_is_gone() {
        let (mailbox, sender) = Mailbox::new().unwrap();
        let waiting = sender.clone();
        let caller = thread::spawn(move || waiting.call(|_| ()));
        while !mailbox.has_mail() {
            thread::sleep(Duration::from_millis(1));
        }
        drop(mailbox);
        assert_eq!(caller.join().unwrap(), Err(Gone));
        assert_eq!(sender.call(|_| ()), Err(Gone));
        assert_eq!(sender.send(Mail::Stop), Err(Gone));
    }

    #[test]
    fn a_call_that_panics_tells_its_caller() {
        let (mailbox, sender) = Mailbox::new().unwrap();
        let device = serve(mailbox, 1);
        assert_eq!(sender.call(|_| panic!("on purpose")), Err::<(), _>(Gone));
        assert!(device.join().is_err());
    }

    /// Sends mail when it is dropped.
    struct SendsAtItsEnd(MailSender);

    impl Drop for SendsAtItsEnd {
        fn drop(&mut self) {
            assert_eq!(self.0.send(Mail::Stop), Err(Gone));
        }
    }

    #[test]
    fn a_call_that_is_never_opened_may_send_mail_at_its_end() {
        let (mailbox, sender) = Mailbox::new().unwrap();
        let sends = SendsAtItsEnd(sender.clone());
        let call = Mail::Call(Box::new(move |_| drop(sends)));
        sender.send(call).unwrap();
        drop(mailbox);
    }

    #[test]
    fn mail_comes_in_order_and_the_wake_up_ends_with_the_last() {
        let (mailbox, sender) = Mailbox::new().unwrap();
        assert!(!mailbox.has_mail() && !is_readable(&mailbox));
        assert!(mailbox.next_mail().is_none());
        for _ in 0..2 {
            let (client, _) = rustix::pipe::pipe().unwrap();
            sender.send(Mail::Client(client)).unwrap();
            sender.send(Mail::Stop).unwrap();
            assert!(matches!(mailbox.next_mail(), Some(Mail::Client(_))));
            assert!(mailbox.has_mail() && is_readable(&mailbox));
            assert!(matches!(mailbox.next_mail(), Some(Mail::Stop)));
            assert!(!mailbox.has_mail() && !is_readable(&mailbox));
        }
    }
}
