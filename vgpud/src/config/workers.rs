//! What workers are given, and what is kept from them.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Bytes, Restart};

/// How the processes are confined that serve vGPUs. What each gives up by itself is not here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WorkersConfig {
    /// Whose they become.
    #[serde(default)]
    pub users: Users,
    /// A control group, in which each gets one of its own.
    pub cgroup: Option<PathBuf>,
    /// Most memory of a worker's own, without that of guests and devices.
    pub memory_limit: Option<Bytes>,
    /// What becomes of a vGPU whose worker ended by itself.
    #[serde(default)]
    pub restart: Restart,
    /// So many such ends within a minute, and no other worker takes over.
    #[serde(default)]
    pub most_crashes: MostCrashes,
}

/// So many crashes within a minute are too many; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct MostCrashes(pub NonZeroUsize);

impl Default for MostCrashes {
    fn default() -> Self {
        const THREE: NonZeroUsize = NonZeroUsize::new(3).unwrap();
        Self(THREE)
    }
}

/// Whose the workers become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Given")]
pub enum Users {
    /// Nothing is said: each is a user of [`UserRange::USUAL`], if the daemon may give them.
    #[default]
    Usual,
    /// They stay whose the daemon is: `false`.
    Daemons,
    /// Each is a user of its own.
    Each(UserRange),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "users are { first = …, count = … }, or false")]
enum Given {
    Word(bool),
    Numbers(Numbers),
}

impl TryFrom<Given> for Users {
    type Error = &'static str;

    fn try_from(given: Given) -> Result<Self, &'static str> {
        match given {
            Given::Word(false) => Ok(Self::Daemons),
            // Which users? It is said by saying nothing, or by a range.
            Given::Word(true) => Err("users are { first = …, count = … }, or false"),
            Given::Numbers(numbers) => numbers.try_into().map(Self::Each),
        }
    }
}

/// Numbers of users whom nobody else is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRange {
    first: u32,
    last: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbers {
    first: u32,
    count: u32,
}

impl TryFrom<Numbers> for UserRange {
    type Error = &'static str;

    fn try_from(Numbers { first, count }: Numbers) -> Result<Self, &'static str> {
        let last = count
            .checked_sub(1)
            .and_then(|more| first.checked_add(more));
        match last {
            // The highest number means "as it is" to the kernel.
            Some(last) if first > 0 && last < u32::MAX => Ok(Self { first, last }),
            _ => Err("users are a first one, not root, and a count"),
        }
    }
}

impl UserRange {
    /// Above those whom directories and containers number, and below those of systemd's foreign
    /// images: `docs/decisions/0006-users.md`.
    pub const USUAL: Self = Self {
        first: 2_100_000_000,
        last: 2_100_065_535,
    };

    /// The users' numbers.
    pub fn numbers(self) -> Range<u32> {
        self.first..self.last + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_a_range_without_root_and_nobodys_number() {
        for (text, numbers) in [
            ("first = 1, count = 1", Some(1..2)),
            ("first = 600000, count = 1000", Some(600_000..601_000)),
            (
                "first = 4294967294, count = 1",
                Some(4_294_967_294..4_294_967_295),
            ),
            ("first = 0, count = 1", None),
            ("first = 1, count = 0", None),
            ("first = 4294967295, count = 1", None),
            ("first = 4294967294, count = 2", None),
            ("first = 1", None),
            ("first = 1, count = 1, last = 1", None),
        ] {
            let config: Result<WorkersConfig, _> = toml::from_str(&format!("users = {{ {text} }}"));
            let found = config.ok().map(|config| match config.users {
                Users::Each(range) => range.numbers(),
                other => panic!("{text}: {other:?}"),
            });
            assert_eq!(found, numbers, "{text}");
        }
    }

    #[test]
    fn users_are_the_usual_ones_unless_they_are_refused() {
        for (text, users) in [
            ("", Some(Users::Usual)),
            ("users = false", Some(Users::Daemons)),
            ("users = true", None),
            ("users = 600000", None),
            ("users = \"nobody\"", None),
        ] {
            let config: Result<WorkersConfig, _> = toml::from_str(text);
            assert_eq!(config.ok().map(|config| config.users), users, "{text}");
        }
        assert_eq!(UserRange::USUAL.numbers().len(), 65_536);
    }
}
