//! The header of a message, `struct mmsghdr`, in kept memory: the kernel stores there how much it
//! moved, before a signal can end the process.

#![expect(
    unsafe_code,
    reason = "the system calls that write into kept memory take pointers"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::memory::Words;

/// Words of a header: `struct msghdr`, then a word whose lower half is `msg_len`.
pub(crate) const WORDS: usize = size_of::<libc::mmsghdr>() / size_of::<u64>();

/// The word that holds `msg_len`.
const MSG_LEN: usize = WORDS - 1;

/// The word that holds `msg_controllen`.
const CONTROL_LEN: usize = 5;

/// Most file descriptors the kernel passes with one message: its `SCM_MAX_FD`.
pub const SCM_MAX_FD: usize = 253;

/// Words of ancillary data with that many.
const CONTROL: usize = (16 + SCM_MAX_FD * 4 + 4) / size_of::<u64>();

const _: () = assert!(size_of::<libc::mmsghdr>() == 64);
const _: () = assert!(std::mem::offset_of!(libc::msghdr, msg_controllen) == CONTROL_LEN * 8);
const _: () = assert!(std::mem::offset_of!(libc::mmsghdr, msg_len) == MSG_LEN * size_of::<u64>());

/// A header in kept memory.
#[derive(Debug)]
pub(crate) struct Header {
    words: Words,
    control: Box<[u64; CONTROL]>,
}

impl Header {
    /// The header that these [`WORDS`] are.
    pub(crate) fn new(words: Words) -> Self {
        assert!(words.len() == WORDS);
        Self {
            words,
            control: Box::new([0; CONTROL]),
        }
    }

    /// How much the last call moved, if it is not known elsewhere yet.
    pub(crate) fn moved(&self) -> u64 {
        self.words.get(MSG_LEN) & u64::from(u32::MAX)
    }

    /// Whether the last call brought descriptors, if it moved anything.
    pub(crate) fn had_fds(&self) -> bool {
        self.words.get(CONTROL_LEN) != 0
    }

    /// Forgets how much it moved.
    pub(crate) fn clear(&self) {
        self.words.set(MSG_LEN, 0);
    }

    /// As the kernel leaves it.
    #[cfg(test)]
    pub(crate) fn set_moved(&self, moved: u64) {
        self.words.set(MSG_LEN, moved);
    }

    fn prepare(&mut self, buffer: &libc::iovec, control_len: usize) -> *mut libc::mmsghdr {
        let header: *mut libc::mmsghdr = self.words.pointer(0).cast();
        // SAFETY: an all-zero header is one; so are its private fields for other C libraries.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = std::ptr::from_ref(buffer).cast_mut();
        message.msg_iovlen = 1;
        if control_len > 0 {
            message.msg_control = self.control.as_mut_ptr().cast();
            message.msg_controllen = control_len as _;
        }
        // SAFETY: it has the room, is aligned, and nobody else writes it now.
        unsafe { (&raw mut (*header).msg_hdr).write(message) };
        header
    }

    /// Receives into `room`. `Ok` with the number of bytes, which [`Self::moved`] tells too.
    pub(crate) fn receive(
        &mut self,
        socket: impl AsFd,
        room: &mut [u8],
        flags: i32,
    ) -> io::Result<(usize, Vec<OwnedFd>, bool)> {
        let buffer = libc::iovec {
            iov_base: room.as_mut_ptr().cast(),
            iov_len: room.len(),
        };
        let header = self.prepare(&buffer, size_of_val(&*self.control));
        let socket = socket.as_fd().as_raw_fd();
        let flags = flags | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the header points to `buffer`, to `room` and to the control words, which all
        // live, and are not looked at, until the call returns.
        let got = unsafe {
            libc::syscall(
                libc::SYS_recvmmsg,
                socket,
                header,
                1,
                flags,
                std::ptr::null_mut::<libc::timespec>(),
            )
        };
        if got != 1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: written by the kernel.
        let message = unsafe { (&raw const (*header).msg_hdr).read() };
        let fds = self.take_fds(&message);
        let moved = usize::try_from(self.moved()).unwrap_or(usize::MAX);
        let is_cut_off = message.msg_flags & libc::MSG_CTRUNC != 0;
        Ok((moved, fds, is_cut_off))
    }

    /// The descriptors that a message brought.
    fn take_fds(&self, message: &libc::msghdr) -> Vec<OwnedFd> {
        let mut fds = Vec::new();
        // SAFETY: the kernel filled in the control words and their length, which these macros walk.
        unsafe {
            let mut next = libc::CMSG_FIRSTHDR(message);
            while let Some(part) = next.as_ref() {
                if (part.cmsg_level, part.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                    let data: *const i32 = libc::CMSG_DATA(part).cast();
                    let len = part.cmsg_len - libc::CMSG_LEN(0) as usize;
                    for index in 0..len / size_of::<i32>() {
                        // Each is ours from now on, and comes up once.
                        fds.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                    }
                }
                next = libc::CMSG_NXTHDR(message, part);
            }
        }
        fds
    }

    /// Sends `bytes` with descriptors. `Ok` with the number of bytes, which [`Self::moved`] tells
    /// too.
    pub(crate) fn send(
        &mut self,
        socket: impl AsFd,
        bytes: &[u8],
        fds: &[std::os::fd::BorrowedFd<'_>],
        flags: i32,
    ) -> io::Result<usize> {
        if fds.len() > SCM_MAX_FD {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let buffer = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let control_len = match fds.len() {
            0 => 0,
            // SAFETY: it only computes.
            count => unsafe { libc::CMSG_SPACE((count * size_of::<i32>()) as u32) as usize },
        };
        let header = self.prepare(&buffer, control_len);
        if control_len > 0 {
            self.put_fds(header, fds);
        }
        let socket = socket.as_fd().as_raw_fd();
        // SAFETY: the header points to `buffer`, to `bytes`, which the kernel only reads, and to
        // the control words, which all live until the call returns.
        let sent = unsafe { libc::syscall(libc::SYS_sendmmsg, socket, header, 1, flags) };
        if sent != 1 {
            return Err(io::Error::last_os_error());
        }
        Ok(usize::try_from(self.moved()).unwrap_or(usize::MAX))
    }

    fn put_fds(&mut self, header: *mut libc::mmsghdr, fds: &[std::os::fd::BorrowedFd<'_>]) {
        // SAFETY: the header has just been filled in with control words that have this room.
        unsafe {
            let message = (&raw const (*header).msg_hdr).read();
            let part = libc::CMSG_FIRSTHDR(&raw const message);
            (*part).cmsg_level = libc::SOL_SOCKET;
            (*part).cmsg_type = libc::SCM_RIGHTS;
            (*part).cmsg_len = libc::CMSG_LEN(size_of_val(fds) as u32) as _;
            let data: *mut i32 = libc::CMSG_DATA(part).cast();
            for (index, fd) in fds.iter().enumerate() {
                data.add(index).write_unaligned(fd.as_raw_fd());
            }
        }
    }
}
