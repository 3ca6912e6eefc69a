//! vgpu
fn main() {}
