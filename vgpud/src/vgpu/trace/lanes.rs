//! Which of an engine's places a lease had. The daemon does not say; leases that overlap had
//! different ones.

/// When each place is free again.
#[derive(Debug, Default)]
pub(super) struct Lanes(Vec<u64>);

impl Lanes {
    /// The first place that is free at `begun`, taken until `ended`; one more if none is. Leases come
    /// in the order of their beginnings.
    pub(super) fn take(&mut self, begun: u64, ended: u64) -> usize {
        let free = self.0.iter().position(|until| *until <= begun);
        let lane = free.unwrap_or(self.0.len());
        match self.0.get_mut(lane) {
            Some(until) => *until = ended,
            None => self.0.push(ended),
        }
        lane
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_that_overlap_have_different_places() {
        let mut lanes = Lanes::default();
        for (begun, ended, lane) in [(0, 10, 0), (5, 7, 1), (7, 9, 1), (8, 20, 2), (10, 11, 0)] {
            assert_eq!(lanes.take(begun, ended), lane, "{begun}");
        }
    }
}
