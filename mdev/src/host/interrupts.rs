//! The eventfds that a physical device signals.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE,
    VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_ERR_IRQ_INDEX,
    VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_REQ_IRQ_INDEX, vfio_irq_info, vfio_irq_set,
};

use super::ioctl::{Argument, Request, ask};
use super::{HostDevice, HostError};

/// A kind of interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The pin. The kernel masks it as it comes: [`HostDevice::unmask`] once the reason is gone.
    Intx,
    /// Messages.
    Msi,
    /// Messages of the newer kind.
    Msix,
    /// The bus has lost the device to an error that it does not recover from.
    Error,
    /// The kernel asks for the device to be given back: it is being unbound, or unplugged.
    Request,
}

/// What interrupts of a kind there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptInfo {
    /// How many; none if the device does not have this kind.
    pub count: u32,
    /// Whether they can be masked.
    pub is_maskable: bool,
    /// Whether each is masked as it comes.
    pub is_automasked: bool,
}

impl Interrupt {
    const ALL: [Self; 5] = [
        Self::Intx,
        Self::Msi,
        Self::Msix,
        Self::Error,
        Self::Request,
    ];

    fn index(self) -> u32 {
        match self {
            Self::Intx => VFIO_PCI_INTX_IRQ_INDEX,
            Self::Msi => VFIO_PCI_MSI_IRQ_INDEX,
            Self::Msix => VFIO_PCI_MSIX_IRQ_INDEX,
            Self::Error => VFIO_PCI_ERR_IRQ_INDEX,
            Self::Request => VFIO_PCI_REQ_IRQ_INDEX,
        }
    }
}

impl HostDevice {
    /// What interrupts of a kind it has.
    pub fn interrupts(&self, kind: Interrupt) -> Result<InterruptInfo, HostError> {
        let mut argument = Argument::new(size_of::<vfio_irq_info>());
        argument.set_u32(offset_of!(vfio_irq_info, index), kind.index());
        match ask(&self.file, Request::IrqInfo, &mut argument) {
            Ok(()) => Ok(info_of(&argument)),
            // A kind that such a device cannot have, as errors where there is no PCI Express.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Ok(info_of(&Argument::new(0)))
            }
            Err(error) => Err(HostError::call("ask for interrupts")(error)),
        }
    }

    /// Has interrupts of a kind, from the first on, signal these eventfds from now on, and no other
    /// of the kind signal any. Of the three kinds that reach a processor (the first three), a device
    /// uses one at a time.
    pub fn signal(&self, kind: Interrupt, eventfds: &[BorrowedFd<'_>]) -> Result<(), HostError> {
        let count = self.interrupts(kind)?.count as usize;
        if eventfds.is_empty() || eventfds.len() > count {
            return Err(HostError::NoInterrupt);
        }
        self.silence(kind)?;
        let fds: Vec<u32> = eventfds
            .iter()
            .map(|fd| fd.as_raw_fd().cast_unsigned())
            .collect();
        self.set(
            kind,
            VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
            fds.len(),
            &fds,
        )
    }

    /// Has no interrupt of a kind signal anything.
    pub fn silence(&self, kind: Interrupt) -> Result<(), HostError> {
        silence(&self.file, kind)
    }

    /// Has the first of a kind signal its eventfd as if the device had raised it.
    pub fn raise(&self, kind: Interrupt) -> Result<(), HostError> {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
        self.set(kind, flags, 1, &[])
    }

    /// Holds the pin's interrupt back.
    pub fn mask(&self) -> Result<(), HostError> {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK;
        self.set(Interrupt::Intx, flags, 1, &[])
    }

    /// Lets the pin's interrupt through, once more.
    pub fn unmask(&self) -> Result<(), HostError> {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK;
        self.set(Interrupt::Intx, flags, 1, &[])
    }

    fn set(
        &self,
        kind: Interrupt,
        flags: u32,
        count: usize,
        data: &[u32],
    ) -> Result<(), HostError> {
        set(&self.file, kind, flags, count, data)
    }
}

/// Has no interrupt of a device signal anything.
pub(super) fn silence_all(device: &OwnedFd) -> Result<(), HostError> {
    let mut kinds = Interrupt::ALL.into_iter();
    kinds.try_for_each(|kind| silence(device, kind))
}

fn silence(device: &OwnedFd, kind: Interrupt) -> Result<(), HostError> {
    let trigger = VFIO_IRQ_SET_ACTION_TRIGGER;
    let done = if kind == Interrupt::Error || kind == Interrupt::Request {
        // The kernel takes the eventfd away for the one that is none.
        let none = [u32::MAX];
        set(device, kind, VFIO_IRQ_SET_DATA_EVENTFD | trigger, 1, &none)
    } else {
        set(device, kind, VFIO_IRQ_SET_DATA_NONE | trigger, 0, &[])
    };
    match done {
        // The device has none of the kind, or none of them signals anything.
        Err(HostError::Call { source, .. }) if is_none(&source) => Ok(()),
        done => done,
    }
}

fn is_none(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTTY))
}

fn set(
    device: &OwnedFd,
    kind: Interrupt,
    flags: u32,
    count: usize,
    data: &[u32],
) -> Result<(), HostError> {
    let mut argument = set_argument(kind, flags, count, data);
    ask(device, Request::SetIrqs, &mut argument).map_err(HostError::call("set interrupts"))
}

fn info_of(argument: &Argument) -> InterruptInfo {
    let flags = argument.u32(offset_of!(vfio_irq_info, flags));
    let is = |flag| flags & flag != 0;
    let count = argument.u32(offset_of!(vfio_irq_info, count));
    InterruptInfo {
        count: if is(VFIO_IRQ_INFO_EVENTFD) { count } else { 0 },
        is_maskable: is(VFIO_IRQ_INFO_MASKABLE),
        is_automasked: is(VFIO_IRQ_INFO_AUTOMASKED),
    }
}

fn set_argument(kind: Interrupt, flags: u32, count: usize, data: &[u32]) -> Argument {
    let first = offset_of!(vfio_irq_set, data);
    let mut argument = Argument::new(first + size_of_val(data));
    argument.set_u32(offset_of!(vfio_irq_set, flags), flags);
    argument.set_u32(offset_of!(vfio_irq_set, index), kind.index());
    // As many as the device has, which is at most 2048.
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    argument.set_u32(offset_of!(vfio_irq_set, count), count);
    for (n, &word) in data.iter().enumerate() {
        argument.set_u32(first + 4 * n, word);
    }
    argument
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_holds_a_descriptor_for_each_interrupt_right_behind_the_rest() {
        let argument = set_argument(Interrupt::Msix, 0x24, 2, &[5, u32::MAX]);
        assert_eq!(argument.len(), 28);
        let words: Vec<_> = (0..7).map(|n| argument.u32(4 * n)).collect();
        assert_eq!(words, [0, 0x24, 2, 0, 2, 5, u32::MAX]);
    }

    #[test]
    fn interrupts_that_signal_no_eventfd_do_not_count() {
        let mut argument = Argument::new(16);
        argument.set_u32(12, 4);
        assert_eq!(info_of(&argument).count, 0);
        argument.set_u32(4, 0x7);
        let info = info_of(&argument);
        assert_eq!(
            (info.count, info.is_maskable, info.is_automasked),
            (4, true, true)
        );
    }
}
