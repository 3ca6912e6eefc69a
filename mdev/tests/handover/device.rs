//! A device that stops for ever in the middle of a call, as one whose process was killed there.

use std::panic::resume_unwind;
use std::sync::{Arc, Condvar, Mutex};

use mdev::MediatedDevice;
use mdev::device::{Fault, Reset};
use mdev::dma::IovaRange;
use mdev::fake::FakeDevice;
use mdev::migration::Migration;
use mdev::pci::ConfigSpace;
use mdev::region::{RegionIndex, Regions};

/// Where a thread stops, and stays until the test is over. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Ice(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    /// Stops in the call that makes this 0.
    calls_left: Option<u32>,
    is_frozen: bool,
    is_over: bool,
}

impl Ice {
    /// Stops in the call after so many.
    pub(crate) fn arm(&self, calls: u32) {
        self.0.0.lock().unwrap().calls_left = Some(calls);
    }

    pub(crate) fn disarm(&self) {
        self.0.0.lock().unwrap().calls_left = None;
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.0.0.lock().unwrap().is_frozen
    }

    /// A call of the device.
    fn call(&self) {
        let mut state = self.0.0.lock().unwrap();
        if state.is_frozen {
            // The end of the test: what is left of it is dropped.
            return;
        }
        match &mut state.calls_left {
            Some(0) => {}
            Some(left) => {
                *left -= 1;
                return;
            }
            None => return,
        }
        state.calls_left = None;
        drop(state);
        self.freeze();
    }

    /// Stops here. The thread ends with the test, and does nothing before.
    pub(crate) fn freeze(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.is_frozen = true;
        while !state.is_over {
            state = self.0.1.wait(state).unwrap();
        }
        drop(state);
        resume_unwind(Box::new("the test is over"));
    }

    /// Lets go of the thread that stopped.
    pub(crate) fn melt(&self) {
        self.0.0.lock().unwrap().is_over = true;
        self.0.1.notify_all();
    }
}

/// The fake, and where it stops.
pub(crate) struct Freezing {
    pub(crate) inner: FakeDevice,
    pub(crate) ice: Ice,
}

impl MediatedDevice for Freezing {
    fn config(&mut self) -> &mut ConfigSpace {
        self.ice.call();
        self.inner.config()
    }

    fn regions(&self) -> &Regions {
        self.ice.call();
        self.inner.regions()
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Result<(), Fault> {
        self.ice.call();
        self.inner.read(region, offset, data)
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Result<(), Fault> {
        self.ice.call();
        let written = self.inner.write(region, offset, data);
        self.ice.call();
        written
    }

    fn reset(&mut self, cause: Reset) {
        self.ice.call();
        self.inner.reset(cause);
        self.ice.call();
    }

    fn dma_unmap(&mut self, range: IovaRange) {
        self.ice.call();
        self.inner.dma_unmap(range);
    }

    fn migration(&mut self) -> Option<&mut dyn Migration> {
        self.ice.call();
        self.inner.migration()
    }
}
