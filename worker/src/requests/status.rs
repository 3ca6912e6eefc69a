//! What a worker says of itself.

use std::sync::atomic::Ordering;

use worker::protocol::{Answer, Attribute, Counters, Status};

use super::{Responder, refuse};

impl Responder {
    /// How the worker is.
    pub(super) fn status(&self) -> Answer {
        let (mappings, pinned_pages) = self.services.memory.counts();
        let attributes = self.mail.call(|device| {
            let attributes = device.attributes().into_iter();
            attributes
                .map(|(name, value)| Attribute {
                    name: name.to_owned(),
                    value,
                })
                .collect()
        });
        match attributes {
            Err(gone) => refuse("ENODEV", gone.to_string()),
            Ok(attributes) => Answer::Status(Status {
                type_name: self.type_name.clone(),
                pid: std::process::id(),
                connected: self.metrics.connected.load(Ordering::Relaxed),
                scanout: self
                    .services
                    .scanout
                    .current()
                    .map(|scanout| scanout.geometry),
                attributes,
                counters: self.counters(),
                sandbox: self.sandbox,
                mappings: mappings as u64,
                pinned_pages: pinned_pages as u64,
                seats: None,
            }),
        }
    }

    fn counters(&self) -> Counters {
        let metrics = &self.metrics;
        Counters {
            sessions: metrics.sessions.value(),
            refused_clients: metrics.refused_clients.value(),
            requests: metrics.requests.value(),
            refused_requests: metrics.refused_requests.value(),
            region_reads: metrics.region_reads.value(),
            region_writes: metrics.region_writes.value(),
            region_read_bytes: metrics.region_read_bytes.value(),
            region_write_bytes: metrics.region_write_bytes.value(),
            faults: metrics.faults.value(),
            dma_maps: metrics.dma_maps.value(),
            dma_unmaps: metrics.dma_unmaps.value(),
            resets: metrics.resets.value(),
            interrupts: self.services.interrupts.raised(),
        }
    }
}
