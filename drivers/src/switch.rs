//! Attributes that are `on` or `off`.

use mdev::device::AttributeError;

/// What the value of such an attribute says.
pub(crate) fn parse(name: &str, value: &str) -> Result<bool, AttributeError> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(AttributeError::Invalid {
            name: name.to_owned(),
            value: value.to_owned(),
            reason: "it is on or off".to_owned(),
        }),
    }
}

/// As it is written.
pub(crate) fn word(is_on: bool) -> String {
    if is_on { "on" } else { "off" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_read_as_it_is_written_and_is_nothing_else() {
        for is_on in [true, false] {
            assert_eq!(parse("x", &word(is_on)), Ok(is_on));
        }
        for value in ["", "On", "1", "on "] {
            let error = parse("x", value).unwrap_err().to_string();
            let words = format!("attribute 'x' cannot be '{value}': it is on or off");
            assert_eq!(error, words);
        }
    }
}
