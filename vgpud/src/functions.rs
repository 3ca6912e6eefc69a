//! What an instance is beside its display: a keyboard and a tablet, each a PCI function that a VMM
//! connects to, with a worker of its own.
//!
//! They live and end with the instance. A function's files are called as the instance's, with its
//! name behind the UUID.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::Attribute;

/// The attribute of an instance that says which functions it has beside its display.
pub const ATTRIBUTE: &str = "input";

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// Keys.
    Keyboard,
    /// A pointer with a place on the screen.
    Tablet,
}

impl Function {
    /// All of them, in the order in which a VMM is told of them.
    pub const ALL: [Self; 2] = [Self::Keyboard, Self::Tablet];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keyboard => "keyboard",
            Self::Tablet => "tablet",
        }
    }

    /// The driver's type behind it.
    pub(crate) fn base(self) -> &'static str {
        match self {
            Self::Keyboard => "input-keyboard",
            Self::Tablet => "input-tablet",
        }
    }
}

/// Whether a driver's type is one of functions, and not offered by itself: nothing would type there.
pub(crate) fn is_function(base: &str) -> bool {
    Function::ALL.iter().any(|function| function.base() == base)
}

/// A function of an instance; itself, if it is none beside its display.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The instance.
    pub uuid: Uuid,
    /// The function beside its display.
    pub function: Option<Function>,
}

impl From<Uuid> for Name {
    fn from(uuid: Uuid) -> Self {
        Self {
            uuid,
            function: None,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.function {
            None => self.uuid.fmt(f),
            Some(function) => write!(f, "{}.{}", self.uuid, function.name()),
        }
    }
}

impl Name {
    /// The name of a file, without what follows it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (uuid, function) = match text.split_once('.') {
            None => (text, None),
            Some((uuid, name)) => {
                let mut all = Function::ALL.into_iter();
                (uuid, Some(all.find(|function| function.name() == name)?))
            }
        };
        let uuid = Uuid::try_parse(uuid).ok()?;
        Some(Self { uuid, function })
    }
}

/// What instances of a driver's type have unless they are told: `None` if they have no display, so
/// that there is nothing to type at.
fn usual(base: &str) -> Option<&'static str> {
    match base.split_once('-')?.0 {
        "gpu" => Some("on"),
        "bochs" => Some("off"),
        _ => None,
    }
}

/// The value of [`ATTRIBUTE`] for an instance of a driver's type with these attributes, of which the
/// later one wins; `None` if such instances have none.
pub fn value<'a>(base: &str, attributes: &'a [Attribute]) -> Option<&'a str> {
    let usual = usual(base)?;
    let mut given = attributes.iter().rev();
    let given = given.find(|attribute| attribute.name == ATTRIBUTE);
    Some(given.map_or(usual, |attribute| attribute.value.as_str()))
}

/// The functions of an instance of a driver's type with these attributes, beside its display. On
/// error the words for what cannot be.
pub fn of(base: &str, attributes: &[Attribute]) -> Result<Vec<Function>, String> {
    let Some(value) = value(base, attributes) else {
        return match attributes.iter().any(|given| given.name == ATTRIBUTE) {
            true => Err(format!("there is no attribute '{ATTRIBUTE}'")),
            false => Ok(Vec::new()),
        };
    };
    match value {
        "on" => return Ok(Function::ALL.to_vec()),
        "off" => return Ok(Vec::new()),
        _ => {}
    }
    let mut all = Function::ALL.into_iter();
    // Each once: 'keyboard,keyboard' is a mistake.
    let mut found = Vec::new();
    for name in value.split(',') {
        match all.find(|function| function.name() == name) {
            Some(function) => found.push(function),
            None => {
                return Err(format!(
                    "attribute '{ATTRIBUTE}' cannot be '{value}': it is on, off, keyboard or tablet"
                ));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(value: &str) -> Vec<Attribute> {
        vec![Attribute {
            name: ATTRIBUTE.to_owned(),
            value: value.to_owned(),
        }]
    }

    #[test]
    fn displays_have_functions_as_they_are_told() {
        use Function::{Keyboard, Tablet};
        for (base, attributes, functions) in [
            ("gpu-2d-hd", vec![], Ok(vec![Keyboard, Tablet])),
            ("bochs-4m", vec![], Ok(vec![])),
            ("bochs-4m", input("on"), Ok(vec![Keyboard, Tablet])),
            ("gpu-2d-hd", input("off"), Ok(vec![])),
            ("gpu-2d-hd", input("keyboard"), Ok(vec![Keyboard])),
            ("gpu-2d-hd", input("tablet"), Ok(vec![Tablet])),
            (
                "gpu-2d-hd",
                input("keyboard,tablet"),
                Ok(vec![Keyboard, Tablet]),
            ),
            (
                "gpu-2d-hd",
                [input("on"), input("off")].concat(),
                Ok(vec![]),
            ),
            ("serial-1", vec![], Ok(vec![])),
        ] {
            assert_eq!(of(base, &attributes), functions, "{base} {attributes:?}");
        }
        for bad in ["", "yes", "keyboard,keyboard", "keyboard,", "mouse"] {
            assert!(of("gpu-2d-hd", &input(bad)).is_err(), "{bad}");
        }
        let words = "there is no attribute 'input'";
        assert_eq!(of("edu-1", &input("on")), Err(words.to_owned()));
    }

    #[test]
    fn a_function_is_called_as_its_instance_and_itself() {
        let uuid = Uuid::from_u128(7);
        for function in [None, Some(Function::Keyboard), Some(Function::Tablet)] {
            let name = Name { uuid, function };
            assert_eq!(Name::parse(&name.to_string()), Some(name));
        }
        for text in ["", "x", "7.keyboard", &format!("{uuid}.mouse")] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }
}
