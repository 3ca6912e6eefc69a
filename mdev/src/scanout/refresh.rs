//! Pictures that are not drawn in the file in which they are read.

use std::fmt::Debug;

/// Brings a picture into its memory file, where the guest draws it elsewhere: in the memory of a
/// physical device, which is not to be given to whoever looks.
///
/// Both are called by whoever looks, on any thread.
pub trait Refresh: Debug + Send + Sync {
    /// Someone is about to read the picture. On return the file holds what has been drawn.
    fn refresh(&self);

    /// Someone watches from now on, until [`super::ScanoutPublisher::is_watched`] says otherwise: the
    /// file is to follow what is drawn.
    fn watched(&self);
}
