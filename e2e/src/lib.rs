//! Whole-guest tests.
