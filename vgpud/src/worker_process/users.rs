//! Whether this daemon can make workers users of their own.

use std::fs;
use std::io;
use std::ops::Range;

use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

use crate::config::{UserRange, Users};

/// What nothing said in the configuration comes to. What is said is done or fails: a worker that
/// cannot become its user does not start.
pub(crate) fn decide(users: Users) -> Users {
    if users != Users::Usual || !geteuid().is_root() {
        return users;
    }
    match can_become(UserRange::USUAL.numbers()) {
        Ok(()) => Users::Each(UserRange::USUAL),
        Err(why) => {
            tracing::warn!("workers have no users of their own: {why}");
            Users::Daemons
        }
    }
}

/// Root in a container may lack the right, or those users.
fn can_become(users: Range<u32>) -> Result<(), String> {
    // The last to end by force one that is another's.
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::KILL;
    let held = capabilities(None).map_err(|error| error.to_string())?;
    if !held.effective.contains(needed) {
        return Err("this root lacks CAP_SETUID, CAP_SETGID or CAP_KILL".to_owned());
    }
    for file in ["/proc/self/uid_map", "/proc/self/gid_map"] {
        let map =
            fs::read_to_string(file).map_err(|error: io::Error| format!("{file}: {error}"))?;
        if !has_all(&map, &users) {
            let Range { start, end } = users;
            return Err(format!("{file} lacks some of {start} to {}", end - 1));
        }
    }
    Ok(())
}

/// Whether a line of user_namespaces(7), "inside outside length", has them all.
fn has_all(map: &str, users: &Range<u32>) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.nth(1)) {
            (Some(Ok(first)), Some(Ok(length))) => {
                first <= users.start.into() && u64::from(users.end) <= first + length
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_there_if_one_line_of_the_map_has_them_all() {
        for (map, has) in [
            ("         0          0 4294967295\n", true),
            ("70 200000 10\n", true),
            ("0 100000 65536\n", true),
            ("0 0 1\n60 200000 20\n", true),
            ("70 200000 9\n", false),
            ("71 200000 10\n", false),
            ("70 200000\n", false),
            ("0 0 1\n", false),
            ("", false),
        ] {
            assert_eq!(has_all(map, &(70..80)), has, "{map}");
        }
    }

    #[test]
    fn what_is_configured_is_not_second_guessed() {
        for users in [Users::Daemons, Users::Each(UserRange::USUAL)] {
            assert_eq!(decide(users), users);
        }
    }
}
