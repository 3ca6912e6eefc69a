//! What comes first: versions, security, the size (RFC 6143, 7.1 to 7.3).

use super::Malformed;
use super::format::PixelFormat;

/// What a server says first.
pub const GREETING: [u8; 12] = *b"RFB 003.008\n";

/// Bytes of a version.
pub const VERSION_LEN: usize = 12;

/// Bytes of a challenge, and of its answer.
pub const CHALLENGE_LEN: usize = 16;

/// A kind of security: the viewer is let in as it is.
pub const SECURITY_NONE: u8 = 1;

/// A kind of security: the viewer knows a password.
pub const SECURITY_PASSWORD: u8 = 2;

/// A version of the protocol, of those that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The server chooses the security; nothing is said of how it went if there is none.
    V3_3,
    /// The viewer chooses.
    V3_7,
    /// And is told why it failed.
    V3_8,
}

impl Version {
    /// Reads what the viewer speaks. Versions that were never published are taken for 3.3, later
    /// ones for 3.8 (RFC 6143, 7.1.1).
    pub fn parse(bytes: &[u8; VERSION_LEN]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed::Version)?;
        let numbers = text.strip_prefix("RFB ").and_then(|text| {
            let (major, minor) = text.strip_suffix('\n')?.split_once('.')?;
            Some((number(major)?, number(minor)?))
        });
        match numbers.ok_or(Malformed::Version)? {
            (3, 7) => Ok(Self::V3_7),
            (3, minor) if minor >= 8 => Ok(Self::V3_8),
            (3, _) => Ok(Self::V3_3),
            (major, _) if major > 3 => Ok(Self::V3_8),
            _ => Err(Malformed::Version),
        }
    }
}

/// A number of three digits.
fn number(text: &str) -> Option<u16> {
    let is_number = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// The kind of security that there is.
pub fn emit_security(version: Version, kind: u8) -> Vec<u8> {
    match version {
        Version::V3_3 => u32::from(kind).to_be_bytes().to_vec(),
        Version::V3_7 | Version::V3_8 => vec![1, kind],
    }
}

/// That the viewer is in.
pub fn emit_welcome() -> [u8; 4] {
    0_u32.to_be_bytes()
}

/// That it is not, and why, where that can be said.
pub fn emit_rejection(version: Version, why: &str) -> Vec<u8> {
    let mut out = 1_u32.to_be_bytes().to_vec();
    if version == Version::V3_8 {
        put_text(why, &mut out);
    }
    out
}

/// What the viewer is to see: `ServerInit`.
pub fn emit_init((width, height): (u16, u16), name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(width.to_be_bytes());
    out.extend(height.to_be_bytes());
    out.extend(PixelFormat::OFFERED.emit());
    put_text(name, &mut out);
    out
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    let length = u32::try_from(text.len()).unwrap_or(0);
    out.extend(length.to_be_bytes());
    out.extend(text.as_bytes().iter().take(length as usize));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_that_were_published() {
        for (bytes, expected) in [
            (b"RFB 003.003\n", Ok(Version::V3_3)),
            (b"RFB 003.005\n", Ok(Version::V3_3)),
            (b"RFB 003.007\n", Ok(Version::V3_7)),
            (b"RFB 003.008\n", Ok(Version::V3_8)),
            (b"RFB 003.889\n", Ok(Version::V3_8)),
            (b"RFB 004.001\n", Ok(Version::V3_8)),
            (b"RFB 002.000\n", Err(Malformed::Version)),
            (b"RFB 003.008\r", Err(Malformed::Version)),
            (b"RFB +03.008\n", Err(Malformed::Version)),
            (b"GET / HTTP/1", Err(Malformed::Version)),
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                Err(Malformed::Version),
            ),
        ] {
            assert_eq!(Version::parse(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn only_the_last_version_is_told_why() {
        assert_eq!(emit_rejection(Version::V3_3, "no"), [0, 0, 0, 1]);
        assert_eq!(emit_rejection(Version::V3_7, "no"), [0, 0, 0, 1]);
        let told = [0, 0, 0, 1, 0, 0, 0, 2, b'n', b'o'];
        assert_eq!(emit_rejection(Version::V3_8, "no"), told);
    }
}
