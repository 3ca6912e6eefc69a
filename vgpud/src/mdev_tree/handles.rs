//! What is open. A file or folder is read as it was when its beginning was read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::find::Kind;

/// What was read at the beginning.
#[derive(Clone, Debug)]
pub(super) enum Taken {
    Content(Arc<Vec<u8>>),
    Entries(Arc<Vec<(String, Kind)>>),
}

/// The kernel's handles.
#[derive(Debug, Default)]
pub(super) struct Handles(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    open: HashMap<u64, Option<Taken>>,
}

impl Handles {
    /// A fresh one.
    pub(super) fn open(&self) -> u64 {
        let mut inner = self.lock();
        inner.last += 1;
        let handle = inner.last;
        inner.open.insert(handle, None);
        handle
    }

    /// Keeps what was read, as long as the handle is open.
    pub(super) fn keep(&self, handle: u64, taken: Taken) {
        if let Some(kept) = self.lock().open.get_mut(&handle) {
            *kept = Some(taken);
        }
    }

    /// What was kept.
    pub(super) fn kept(&self, handle: u64) -> Option<Taken> {
        self.lock().open.get(&handle).cloned().flatten()
    }

    pub(super) fn close(&self, handle: u64) {
        self.lock().open.remove(&handle);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_goes_with_the_handle() {
        let handles = Handles::default();
        let [one, other] = [handles.open(), handles.open()];
        assert_ne!(one, other);
        assert!(handles.kept(one).is_none());
        handles.keep(one, Taken::Content(Arc::new(b"1\n".to_vec())));
        assert!(matches!(handles.kept(one), Some(Taken::Content(text)) if *text == b"1\n"));
        assert!(handles.kept(other).is_none());
        handles.close(one);
        handles.keep(one, Taken::Content(Arc::default()));
        assert!(handles.kept(one).is_none());
        assert_eq!(handles.lock().open.len(), 1);
    }
}
