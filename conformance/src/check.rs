//! What a check is, and how it ends.

use crate::feature::Feature;
use crate::target::Target;

/// One rule, and the function that sees whether a server keeps it.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// The rule as a name.
    pub name: &'static str,
    /// The section of the specification that states it.
    pub section: &'static str,
    /// The rule as a sentence.
    pub rule: &'static str,
    /// What the server must offer for the rule to mean anything.
    pub needs: &'static [Feature],
    /// Tries it. Connections that it makes are its own, and end with it.
    pub run: fn(&Target) -> Verdict,
}

/// Why a check did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// The server broke the rule, in this way.
    Fail(String),
    /// The server does not offer what the rule is about.
    Skip(String),
}

/// How a check ends.
pub type Verdict = Result<(), Unmet>;

impl Unmet {
    /// A failure in these words.
    pub fn fail(words: impl Into<String>) -> Self {
        Self::Fail(words.into())
    }

    /// The same, with where it happened put in front.
    #[must_use]
    pub fn within(self, place: &str) -> Self {
        match self {
            Self::Fail(words) => Self::Fail(format!("{place}: {words}")),
            skip @ Self::Skip(_) => skip,
        }
    }
}

/// Trouble on our own side, such as no descriptors left: it is told as a failure too, since
/// nothing was shown.
impl From<rustix::io::Errno> for Unmet {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Fail(format!("the suite itself failed: {error}"))
    }
}

impl From<std::io::Error> for Unmet {
    fn from(error: std::io::Error) -> Self {
        Self::Fail(format!("the suite itself failed: {error}"))
    }
}

/// Puts the name of a case in front of the words of a failure.
pub trait Within {
    /// The same, with where it happened put in front.
    #[must_use]
    fn within(self, place: &str) -> Self;
}

impl<T> Within for Result<T, Unmet> {
    fn within(self, place: &str) -> Self {
        self.map_err(|unmet| unmet.within(place))
    }
}

/// Fails the check in the given words unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::check::Unmet::Fail(format!($($words)+)));
        }
    };
}

/// The table of a group: for each section its checks, a function's name being the check's name.
///
/// ```ignore
/// checks! {
///     "Section of the specification" {
///         name_of_the_function: "The rule, in a sentence.";
///         another_function, needs Reset Pci: "Another rule.";
///     }
/// }
/// ```
#[macro_export]
macro_rules! checks {
    ($($section:literal { $($name:ident $(, needs $($feature:ident)+)? : $rule:literal;)+ })+) => {
        /// The group.
        pub(super) const CHECKS: &[$crate::check::Check] = &[$($($crate::check::Check {
            name: stringify!($name),
            section: $section,
            rule: $rule,
            needs: &[$($($crate::feature::Feature::$feature),+)?],
            run: $name,
        },)+)+];
    };
}
