//! What a vGPU is given of an engine: attributes of these names, which its device never sees.

use mdev::sched::{PerMille, Policy, Priority, SchedError, Settings, Weight};

use crate::api::{self, Attribute};
use crate::error::Error;

/// The names, in the order in which they are told.
pub(crate) const NAMES: [&str; 6] = [
    "cap",
    "frame_rate_limit",
    "priority",
    "reservation",
    "stop",
    "weight",
];

/// Most pictures in a second that a limit may say: more than any screen shows.
const MOST_FRAMES: u32 = 1000;

/// Whether an attribute of that name is a setting, of a vGPU that shares an engine.
pub(crate) fn is_setting(name: &str) -> bool {
    NAMES.contains(&name)
}

/// What a vGPU is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) shares: Settings,
    pub(crate) frame_rate_limit: Option<u32>,
    /// Nothing is granted.
    pub(crate) is_stopped: bool,
}

impl Given {
    /// What attributes say: a later one wins, and those of other names are the device's.
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self, Error> {
        let (mut weight, mut priority) = (Weight::DEFAULT, Priority::Normal);
        let (mut cap, mut reservation) = (None, None);
        let mut given = Self::default();
        for Attribute { name, value } in attributes {
            match name.as_str() {
                "weight" => weight = parse_weight(value)?,
                "cap" => cap = parse_share(name, value)?,
                "reservation" => reservation = parse_share(name, value)?,
                "priority" => priority = parse_priority(value)?,
                "frame_rate_limit" => given.frame_rate_limit = parse_frames(value)?,
                "stop" => given.is_stopped = parse_switch(value)?,
                _ => {}
            }
        }
        let shares = Settings::new(weight, cap, reservation, priority);
        given.shares = shares.map_err(refused)?;
        Ok(given)
    }

    /// A setting in words, as it would be given.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let share = |share: Option<PerMille>| match share {
            None => "none".to_owned(),
            Some(share) => percent(share),
        };
        Some(match name {
            "weight" => self.shares.weight().value().to_string(),
            "cap" => share(self.shares.cap()),
            "reservation" => share(self.shares.reservation()),
            "priority" => match self.shares.priority() {
                Priority::Low => "low".to_owned(),
                Priority::Normal => "normal".to_owned(),
                Priority::High => "high".to_owned(),
            },
            "frame_rate_limit" => match self.frame_rate_limit {
                None => "none".to_owned(),
                Some(frames) => frames.to_string(),
            },
            "stop" => if self.is_stopped { "on" } else { "off" }.to_owned(),
            _ => return None,
        })
    }

    /// As the API tells it.
    pub(crate) fn told(&self) -> api::EngineSettings {
        api::EngineSettings {
            weight: self.shares.weight().value(),
            cap_permille: self.shares.cap().map(PerMille::thousandths),
            reservation_permille: self.shares.reservation().map(PerMille::thousandths),
            priority: match self.shares.priority() {
                Priority::Low => api::Priority::Low,
                Priority::Normal => api::Priority::Normal,
                Priority::High => api::Priority::High,
            },
            frame_rate_limit: self.frame_rate_limit,
            stop: self.is_stopped,
        }
    }
}

/// A policy as the scheduler has it.
pub(crate) fn policy_of(policy: api::Policy) -> Policy {
    match policy {
        api::Policy::BestEffort => Policy::BestEffort,
        api::Policy::EqualShare => Policy::EqualShare,
        api::Policy::FixedShare => Policy::FixedShare,
    }
}

/// Whether these go together on one engine: `Err` says why not. `others` are those of the other
/// vGPUs of the parent, running or not.
pub(crate) fn check_together(
    given: &Given,
    others: impl Iterator<Item = Given>,
    policy: api::Policy,
) -> Result<(), Error> {
    let Some(asked) = given.shares.reservation() else {
        return match policy {
            api::Policy::FixedShare => Err(refused(SchedError::NoReservation)),
            api::Policy::BestEffort | api::Policy::EqualShare => Ok(()),
        };
    };
    let reserved = others.filter_map(|other| other.shares.reservation());
    let reserved: u32 = reserved.map(PerMille::thousandths).sum();
    let left = 1000_u32.saturating_sub(reserved);
    match asked.thousandths() > left {
        true => Err(refused(SchedError::Overcommitted { asked, left })),
        false => Ok(()),
    }
}

/// The scheduler's refusal.
pub(crate) fn refused(error: SchedError) -> Error {
    let errno = match error.errno() {
        rustix::io::Errno::NOSPC => "ENOSPC",
        rustix::io::Errno::NOENT => "ENOENT",
        _ => return Error::Invalid(error.to_string()),
    };
    Error::Refused {
        errno: errno.to_owned(),
        message: error.to_string(),
    }
}

fn invalid(name: &str, value: &str, reason: &str) -> Error {
    let value = value.escape_debug();
    Error::Invalid(format!("attribute '{name}' cannot be '{value}': {reason}"))
}

fn parse_weight(value: &str) -> Result<Weight, Error> {
    let number = number(value).ok_or_else(|| invalid("weight", value, "it is 1 to 10000"))?;
    Weight::new(number).map_err(|_| invalid("weight", value, "it is 1 to 10000"))
}

/// A share in percent of the engine, with one digit behind the point at most.
fn parse_share(name: &str, value: &str) -> Result<Option<PerMille>, Error> {
    const FORM: &str = "it is a share of the engine in percent, 0.1 to 100, or none";
    if value == "none" {
        return Ok(None);
    }
    let digits = value.strip_suffix('%').unwrap_or(value);
    let (whole, tenths) = digits.split_once('.').unwrap_or((digits, "0"));
    let share = number(whole)
        .zip(number(tenths).filter(|_| tenths.len() == 1))
        .and_then(|(whole, tenths)| whole.checked_mul(10)?.checked_add(tenths))
        .and_then(|thousandths| PerMille::new(thousandths).ok());
    share.map(Some).ok_or_else(|| invalid(name, value, FORM))
}

fn percent(share: PerMille) -> String {
    let (whole, tenths) = (share.thousandths() / 10, share.thousandths() % 10);
    match tenths {
        0 => format!("{whole}%"),
        tenths => format!("{whole}.{tenths}%"),
    }
}

fn parse_priority(value: &str) -> Result<Priority, Error> {
    match value {
        "low" => Ok(Priority::Low),
        "normal" => Ok(Priority::Normal),
        "high" => Ok(Priority::High),
        _ => Err(invalid("priority", value, "it is low, normal or high")),
    }
}

fn parse_frames(value: &str) -> Result<Option<u32>, Error> {
    if value == "none" {
        return Ok(None);
    }
    let frames = number(value).filter(|frames| (1..=MOST_FRAMES).contains(frames));
    let reason = "it is 1 to 1000 pictures in a second, or none";
    frames
        .map(Some)
        .ok_or_else(|| invalid("frame_rate_limit", value, reason))
}

fn parse_switch(value: &str) -> Result<bool, Error> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(invalid("stop", value, "it is on or off")),
    }
}

/// Digits alone: a sign would be taken by the library.
fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(attributes: &[(&str, &str)]) -> Result<Given, String> {
        let attributes: Vec<_> = attributes
            .iter()
            .map(|&(name, value)| Attribute {
                name: name.to_owned(),
                value: value.to_owned(),
            })
            .collect();
        Given::parse(&attributes).map_err(|error| error.to_string())
    }

    #[test]
    fn each_setting_has_words_and_bounds() {
        for (name, value, told) in [
            ("weight", "1", Some("1")),
            ("weight", "10000", Some("10000")),
            ("weight", "0", None),
            ("weight", "10001", None),
            ("weight", "+1", None),
            ("weight", "", None),
            ("cap", "25", Some("25%")),
            ("cap", "25%", Some("25%")),
            ("cap", "12.5", Some("12.5%")),
            ("cap", "0.1%", Some("0.1%")),
            ("cap", "100", Some("100%")),
            ("cap", "none", Some("none")),
            ("cap", "0", None),
            ("cap", "100.1", None),
            ("cap", "1.25", None),
            ("cap", "1.", None),
            ("cap", "-1", None),
            ("cap", "4294967295", None),
            ("reservation", "40", Some("40%")),
            ("reservation", "all", None),
            ("priority", "high", Some("high")),
            ("priority", "urgent", None),
            ("frame_rate_limit", "60", Some("60")),
            ("frame_rate_limit", "none", Some("none")),
            ("frame_rate_limit", "0", None),
            ("frame_rate_limit", "1001", None),
            ("stop", "on", Some("on")),
            ("stop", "1", None),
        ] {
            let given = parse(&[(name, value)]);
            let found = given.as_ref().ok().and_then(|given| given.value(name));
            assert_eq!(found.as_deref(), told, "{name} {value}");
            let words = given.err();
            let is_named = words.is_none_or(|words| words.contains(name));
            assert!(is_named, "{name} {value}");
        }
    }

    #[test]
    fn what_is_not_said_is_as_usual_and_what_contradicts_itself_is_refused() {
        let usual = parse(&[("dma", "copy")]).unwrap();
        assert_eq!(usual, Given::default());
        let told = NAMES.map(|name| usual.value(name).unwrap());
        assert_eq!(told, ["none", "none", "normal", "none", "off", "100"]);
        let words = parse(&[("cap", "20"), ("reservation", "30")]).unwrap_err();
        assert!(words.contains("below the reservation"), "{words}");
        parse(&[("cap", "20"), ("reservation", "30"), ("cap", "none")]).unwrap();
    }

    #[test]
    fn no_more_than_the_whole_engine_is_reserved() {
        let reserved = |share: &str| parse(&[("reservation", share)]).unwrap();
        let usual = Given::default();
        for (given, others, policy, is_sound) in [
            (
                reserved("40"),
                vec![reserved("60")],
                api::Policy::BestEffort,
                true,
            ),
            (
                reserved("40.1"),
                vec![reserved("60")],
                api::Policy::BestEffort,
                false,
            ),
            (
                reserved("1"),
                vec![usual, reserved("100")],
                api::Policy::EqualShare,
                false,
            ),
            (usual, vec![reserved("100")], api::Policy::BestEffort, true),
            (usual, vec![], api::Policy::FixedShare, false),
            (reserved("1"), vec![], api::Policy::FixedShare, true),
        ] {
            let checked = check_together(&given, others.into_iter(), policy);
            assert_eq!(checked.is_ok(), is_sound, "{given:?} {policy:?}");
        }
    }
}
