//! What a worker says of itself.

use std::sync::atomic::Ordering;

use mdev::scanout::{Geometry, ScanoutPublisher};
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
                scanout: geometry(&self.services.scanout),
                further_scanouts: further(&self.services.scanout),
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

fn geometry(head: &ScanoutPublisher) -> Option<Geometry> {
    head.current().map(|scanout| scanout.geometry)
}

/// What the heads after the first show, without those at the end that show nothing.
fn further(publisher: &ScanoutPublisher) -> Vec<Option<Geometry>> {
    let heads = (1..publisher.heads()).filter_map(|head| publisher.head(head));
    let mut shown: Vec<_> = heads.map(|head| geometry(&head)).collect();
    while shown.pop_if(|shown| shown.is_none()).is_some() {}
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mdev::scanout::PixelFormat;
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn what_each_head_shows_is_told_up_to_the_last_that_shows_anything() {
        let publisher = ScanoutPublisher::default();
        publisher.set_heads(4);
        assert_eq!(further(&publisher), []);
        let shown = Geometry {
            width: 8,
            height: 4,
            stride: 32,
            offset: 0,
            format: PixelFormat::Xrgb8888,
        };
        let memory = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        publisher.head(2).unwrap().publish(memory, shown);
        assert_eq!(further(&publisher), [None, Some(shown)]);
        assert_eq!(geometry(&publisher), None);
    }
}
