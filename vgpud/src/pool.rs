//! What the vGPUs of a parent share: places, and video memory.

use std::collections::BTreeMap;

/// What a parent has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Places for vGPUs.
    pub instances: u64,
    /// Bytes of video memory.
    pub video_memory: u64,
}

/// What one vGPU of a type takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Bytes of video memory.
    pub video_memory: u64,
    /// Most vGPUs of the type, if there is such a limit.
    pub limit: Option<u64>,
}

/// Why a vGPU finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All places are taken, or all of the type.
    Places,
    /// Too little video memory is left.
    VideoMemory,
}

/// The pools of one parent.
#[derive(Clone, Debug)]
pub struct Pool {
    limits: Limits,
    instances: u64,
    video_memory: u64,
    by_type: BTreeMap<String, u64>,
}

impl Pool {
    /// Pools that nothing is taken from.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            instances: 0,
            video_memory: 0,
            by_type: BTreeMap::new(),
        }
    }

    /// Gives it more or less: what is taken stays taken.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What there is.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What is taken.
    pub fn used(&self) -> Limits {
        Limits {
            instances: self.instances,
            video_memory: self.video_memory,
        }
    }

    /// How many vGPUs of a type can be had now, if nothing else is taken.
    pub fn available(&self, type_name: &str, share: Share) -> u64 {
        let memory_left = self.limits.video_memory.saturating_sub(self.video_memory);
        let by_memory = memory_left.checked_div(share.video_memory);
        self.places_left(type_name, share)
            .min(by_memory.unwrap_or(u64::MAX))
    }

    fn places_left(&self, type_name: &str, share: Share) -> u64 {
        let all = self.limits.instances.saturating_sub(self.instances);
        let taken = self.by_type.get(type_name).copied().unwrap_or(0);
        let of_type = share.limit.map(|limit| limit.saturating_sub(taken));
        all.min(of_type.unwrap_or(u64::MAX))
    }

    /// Takes what one vGPU of a type needs, or nothing.
    pub fn take(&mut self, type_name: &str, share: Share) -> Result<(), Full> {
        if self.places_left(type_name, share) == 0 {
            return Err(Full::Places);
        }
        if self.available(type_name, share) == 0 {
            return Err(Full::VideoMemory);
        }
        self.take_anyhow(type_name, share);
        Ok(())
    }

    /// Takes it though it may not be there: for a vGPU that lives already, under limits that were
    /// lowered meanwhile.
    pub fn take_anyhow(&mut self, type_name: &str, share: Share) {
        self.instances += 1;
        self.video_memory = self.video_memory.saturating_add(share.video_memory);
        *self.by_type.entry(type_name.to_owned()).or_default() += 1;
    }

    /// Gives back what a vGPU of a type took.
    pub fn give_back(&mut self, type_name: &str, share: Share) {
        self.instances = self.instances.saturating_sub(1);
        self.video_memory = self.video_memory.saturating_sub(share.video_memory);
        if let Some(count) = self.by_type.get_mut(type_name) {
            *count = count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The types of the model: name, video memory, limit.
    type Types = Vec<(String, Share)>;

    fn types() -> impl Strategy<Value = Types> {
        let share = (0..5u64, proptest::option::of(0..4u64));
        let share = share.prop_map(|(video_memory, limit)| Share {
            video_memory,
            limit,
        });
        proptest::collection::vec(share, 1..5).prop_map(|shares| {
            let named = shares.into_iter().enumerate();
            named.map(|(i, share)| (format!("t-{i}"), share)).collect()
        })
    }

    /// The naive model: a list of what lives, and every sum made anew.
    fn fits(limits: Limits, types: &Types, living: &[usize], one_more: usize) -> bool {
        let all: Vec<_> = living.iter().chain([&one_more]).collect();
        let memory: u64 = all.iter().map(|&&i| types[i].1.video_memory).sum();
        let same = all.iter().filter(|&&&i| i == one_more).count() as u64;
        all.len() as u64 <= limits.instances
            && memory <= limits.video_memory
            && types[one_more].1.limit.is_none_or(|limit| same <= limit)
    }

    /// How many more fit, found by trying.
    fn room(limits: Limits, types: &Types, living: &[usize], of: usize) -> u64 {
        let mut living = living.to_vec();
        let mut more = 0;
        while fits(limits, types, &living, of) {
            living.push(of);
            more += 1;
        }
        more
    }

    proptest! {
        #[test]
        fn every_type_follows_each_create_and_remove_at_once(
            instances in 0..8u64,
            video_memory in 0..12u64,
            types in types(),
            steps in proptest::collection::vec((any::<bool>(), any::<proptest::sample::Index>()), 0..40),
        ) {
            let limits = Limits { instances, video_memory };
            let mut pool = Pool::new(limits);
            let mut living: Vec<usize> = Vec::new();
            for (create, which) in steps {
                if create {
                    let of = which.index(types.len());
                    let (name, share) = &types[of];
                    let expected = fits(limits, &types, &living, of);
                    prop_assert_eq!(pool.take(name, *share).is_ok(), expected);
                    if expected {
                        living.push(of);
                    }
                } else if !living.is_empty() {
                    let (name, share) = &types[living.swap_remove(which.index(living.len()))];
                    pool.give_back(name, *share);
                }
                for (of, (name, share)) in types.iter().enumerate() {
                    prop_assert_eq!(pool.available(name, *share), room(limits, &types, &living, of));
                }
                prop_assert_eq!(pool.used().instances, living.len() as u64);
            }
        }
    }

    #[test]
    fn what_is_missing_is_told_apart() {
        let share = |video_memory, limit| Share {
            video_memory,
            limit,
        };
        let limits = Limits {
            instances: 3,
            video_memory: 10,
        };
        let mut pool = Pool::new(limits);
        assert_eq!(pool.take("a", share(11, None)), Err(Full::VideoMemory));
        assert_eq!(pool.take("a", share(4, Some(1))), Ok(()));
        assert_eq!(pool.take("a", share(4, Some(1))), Err(Full::Places));
        assert_eq!(pool.take("b", share(7, None)), Err(Full::VideoMemory));
        assert_eq!(pool.take("c", share(0, None)), Ok(()));
        assert_eq!(pool.take("c", share(0, None)), Ok(()));
        assert_eq!(pool.take("c", share(0, None)), Err(Full::Places));
    }

    #[test]
    fn limits_that_were_lowered_leave_no_room_and_take_nothing_away() {
        let share = Share {
            video_memory: 6,
            limit: Some(1),
        };
        let mut pool = Pool::new(Limits {
            instances: 1,
            video_memory: 5,
        });
        pool.take_anyhow("a", share);
        pool.take_anyhow("a", share);
        assert_eq!(pool.available("a", share), 0);
        pool.give_back("a", share);
        pool.give_back("a", share);
        assert_eq!(
            pool.used(),
            Limits {
                instances: 0,
                video_memory: 0
            }
        );
    }
}
