//! The guest side.
fn main() {}
