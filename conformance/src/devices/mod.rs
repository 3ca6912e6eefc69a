//! Devices that checks know well enough to make them do something.

pub mod edu;
