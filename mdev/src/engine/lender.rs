//! Whoever grants time: the end of a socket pair, and two pages.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::sched::lease::page::Granted;
use crate::sched::lease::{GrantWords, Page, UsageWords};

/// A lender, as long as it is there.
#[derive(Debug)]
pub(super) struct Lender {
    socket: OwnedFd,
    grant: Granted,
    usage: Page<UsageWords>,
    is_gone: AtomicBool,
}

impl Lender {
    pub(super) fn open(socket: OwnedFd, grant: OwnedFd, usage: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            socket,
            grant: Page::open_to_read(grant)?,
            usage: Page::open(usage)?,
            is_gone: AtomicBool::new(false),
        })
    }

    pub(super) fn grant(&self) -> &GrantWords {
        self.grant.words()
    }

    pub(super) fn usage(&self) -> &UsageWords {
        &self.usage
    }

    /// Can be read when there is another lease, or the lender is gone.
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    /// Has it look at the pages. It never waits: where there is no room, it has been told.
    pub(super) fn tell(&self) {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match send(&self.socket, &[1], flags) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.is_gone.store(true, Ordering::Relaxed),
        }
    }

    /// Takes in that something has changed.
    pub(super) fn hear(&self) {
        match recv(&self.socket, &mut [0; 64], RecvFlags::DONTWAIT) {
            Ok((_, 1..)) | Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => {
                tracing::info!("nobody grants time any more: it goes on at the last rate");
                self.is_gone.store(true, Ordering::Relaxed);
            }
        }
    }
}
