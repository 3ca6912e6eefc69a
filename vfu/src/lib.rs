//! vfu
