//! What the space is to a guest, and to QEMU.
