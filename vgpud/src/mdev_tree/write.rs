//! What writing to a file does.

use rustix::io::Errno;
use uuid::Uuid;

use crate::api::{Attribute, CreateRequest, SocketAccess};
use crate::client::Client;

use super::nodes::{Device, File, Type};
use super::refusal::refuse;

/// A UUID's length in text.
const UUID_LENGTH: usize = 36;

/// Longest value that is looked at, in bytes. The daemon takes less.
const MAX_VALUE: usize = 4096;

/// Does what the file is for.
pub(super) fn store(client: &Client, file: &File<'_>, data: &[u8]) -> Result<(), Errno> {
    match file {
        File::Policy(parent) => set_policy(client, parent, data),
        File::Create(of) => create(client, of, data),
        File::Remove(of) => remove(client, of, data),
        File::Attribute(of, name) => set(client, of, name, data),
        File::OfType(..) | File::OfDevice(..) | File::Statistic(..) => Err(Errno::ACCESS),
    }
}

fn create(client: &Client, of: &Type<'_>, data: &[u8]) -> Result<(), Errno> {
    let uuid = parse_uuid(data).ok_or_else(|| {
        let shown = data.get(..64).unwrap_or(data).escape_ascii();
        tracing::warn!("creation on {} is refused: '{shown}' is no UUID", of.parent);
        Errno::INVAL
    })?;
    let request = CreateRequest {
        parent: of.parent.to_owned(),
        type_name: of.name.to_owned(),
        attributes: Vec::new(),
        socket: SocketAccess::default(),
        start: true,
    };
    match client.create_new(uuid, &request) {
        Ok(_) => {
            tracing::info!("{uuid} is created: {} on {}", of.name, of.parent);
            Ok(())
        }
        Err(error) => {
            let what = format!("creation of {uuid}, {} on {},", of.name, of.parent);
            Err(refuse(&what, &error))
        }
    }
}

fn remove(client: &Client, of: &Device<'_>, data: &[u8]) -> Result<(), Errno> {
    if parse_number(data).ok_or(Errno::INVAL)? == 0 {
        return Ok(());
    }
    match client.destroy(of.uuid, false) {
        Ok(()) => {
            tracing::info!("{} is removed", of.uuid);
            Ok(())
        }
        Err(error) => Err(refuse(&format!("removal of {}", of.uuid), &error)),
    }
}

fn set(client: &Client, of: &Device<'_>, name: &str, data: &[u8]) -> Result<(), Errno> {
    let data = data.strip_suffix(b"\n").unwrap_or(data);
    if data.len() > MAX_VALUE {
        return Err(Errno::INVAL);
    }
    let value = std::str::from_utf8(data).map_err(|_| Errno::INVAL)?;
    let attribute = Attribute {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let set = client.set_attributes(of.uuid, vec![attribute]);
    set.map(drop)
        .map_err(|error| refuse(&format!("attribute {name} of {}", of.uuid), &error))
}

/// Shares the engine of a parent in another way, by the name of a policy.
fn set_policy(client: &Client, parent: &str, data: &[u8]) -> Result<(), Errno> {
    let data = data.strip_suffix(b"\n").unwrap_or(data);
    let name = std::str::from_utf8(data).map_err(|_| Errno::INVAL)?;
    let policy = serde_json::from_value(name.into()).map_err(|error| {
        tracing::warn!("the policy of {parent} stays: {error}");
        Errno::INVAL
    })?;
    let set = client.set_policy(parent, policy);
    set.map(drop)
        .map_err(|error| refuse(&format!("policy of {parent}"), &error))
}

/// A UUID as the kernel takes it: 36 bytes, and one more whatever it is.
fn parse_uuid(data: &[u8]) -> Option<Uuid> {
    if data.len() != UUID_LENGTH && data.len() != UUID_LENGTH + 1 {
        return None;
    }
    Uuid::try_parse_ascii(data.get(..UUID_LENGTH)?).ok()
}

/// A number as the kernel's `kstrtoul` takes it with base 0: `0x` for hexadecimal, `0` for octal,
/// perhaps a plus before and a newline behind.
fn parse_number(data: &[u8]) -> Option<u64> {
    let data = data.strip_suffix(b"\n").unwrap_or(data);
    let text = std::str::from_utf8(data).ok()?;
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, base) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (text.get(2..)?, 16),
        [b'0', _, ..] => (text.get(1..)?, 8),
        _ => (text, 10),
    };
    // A sign would be taken here, and by the kernel not.
    let is_digit = |byte: u8| byte.is_ascii_hexdigit();
    if !digits.bytes().all(is_digit) {
        return None;
    }
    u64::from_str_radix(digits, base).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "c2177883-f1bb-47f0-914d-32a22e3a8804";

    #[test]
    fn a_uuid_has_36_bytes_and_one_more_at_most() {
        for text in [
            UUID.to_owned(),
            format!("{UUID}\n"),
            format!("{UUID}x"),
            UUID.to_uppercase(),
        ] {
            let uuid = parse_uuid(text.as_bytes()).unwrap();
            assert_eq!(uuid.to_string(), UUID, "{text}");
        }
        for text in [
            String::new(),
            "\n".to_owned(),
            UUID[..35].to_owned(),
            format!("{UUID}\n\n"),
            UUID.replace('-', ""),
            format!("{{{}}}", UUID.replace('-', "")),
            UUID.replace('c', "g"),
            format!(" {}", &UUID[..35]),
            "é".repeat(18),
            "\0".repeat(36),
            UUID.repeat(1000),
        ] {
            assert_eq!(parse_uuid(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_uuid(&[0xff; 36]), None);
    }

    #[test]
    fn a_number_is_what_kstrtoul_takes() {
        for (text, number) in [
            ("1", 1),
            ("1\n", 1),
            ("0", 0),
            ("0\n", 0),
            ("00", 0),
            ("0x0", 0),
            ("+1", 1),
            ("0x1f", 31),
            ("0XFF\n", 255),
            ("017", 15),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_number(text.as_bytes()), Some(number), "{text:?}");
        }
        for text in [
            "",
            "\n",
            "x",
            "-1",
            "1 ",
            " 1",
            "1\n\n",
            "0x",
            "0x+1",
            "0+1",
            "++1",
            "08",
            "1x",
            "+",
            "18446744073709551616",
            "1\0",
            "one",
            "1.0",
        ] {
            assert_eq!(parse_number(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_number(&[0xff]), None);
    }
}
