//! What a session counts. Each number is read alone, so relaxed is enough.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `by`.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// The number now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts for one instance, over all its sessions.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Whether a client is connected now.
    pub connected: AtomicBool,
    /// Clients that were served.
    pub sessions: Counter,
    /// Clients that came while one was being served.
    pub refused_clients: Counter,
    /// Messages from clients.
    pub requests: Counter,
    /// Messages that were answered with an error.
    pub refused_requests: Counter,
    /// Region reads.
    pub region_reads: Counter,
    /// Region writes, each of a REGION_WRITE_MULTI counted.
    pub region_writes: Counter,
    /// Bytes that region reads gave.
    pub region_read_bytes: Counter,
    /// Bytes that region writes took.
    pub region_write_bytes: Counter,
    /// Region accesses that the device could not serve.
    pub faults: Counter,
    /// DMA_MAPs that succeeded.
    pub dma_maps: Counter,
    /// DMA_UNMAPs that succeeded.
    pub dma_unmaps: Counter,
    /// Resets, whatever their cause.
    pub resets: Counter,
}
