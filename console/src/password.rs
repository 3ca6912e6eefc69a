//! The password that TCP asks for, and RFB's way to prove that one knows it (RFC 6143, 7.2.2): DES of
//! a challenge. It keeps out who is merely curious. It hides nothing of what is sent afterwards.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, ensure};
use des::Des;
use des::cipher::{Array, BlockCipherEncrypt, KeyInit};
use subtle::ConstantTimeEq;

use crate::rfb::handshake::CHALLENGE_LEN;

/// Most bytes of a password: the key of DES. What is longer would be cut off, and be weaker than it
/// looks.
pub const MAX_LEN: usize = 8;

/// A password.
#[derive(Clone, PartialEq, Eq)]
pub struct Password([u8; MAX_LEN]);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

impl Password {
    /// A password, of one to eight bytes and without control characters.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("the password is empty");
        }
        if text.len() > MAX_LEN {
            return Err("the password is longer than 8 bytes, which is all that VNC looks at");
        }
        if text.chars().any(char::is_control) {
            return Err("the password has control characters");
        }
        let mut key = [0; MAX_LEN];
        for (place, byte) in key.iter_mut().zip(text.bytes()) {
            *place = byte;
        }
        Ok(Self(key))
    }

    /// The first line of a file, which must not be for everyone to read.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
        let mode = file
            .metadata()
            .with_context(|| format!("cannot look at {shown}"))?;
        ensure!(
            mode.mode() & 0o007 == 0,
            "everyone may read {shown}: 'chmod o= {shown}' first"
        );
        Self::read_from(file).with_context(|| format!("{shown} has no password that can be used"))
    }

    /// The first line of what comes from there.
    pub fn read_from(file: impl Read) -> anyhow::Result<Self> {
        /// Room to see that a line is too long.
        const MOST: u64 = 64;
        let mut text = String::new();
        file.take(MOST).read_to_string(&mut text)?;
        let line = text.lines().next().unwrap_or_default();
        Self::new(line).map_err(anyhow::Error::msg)
    }

    /// Its text again, to be handed to another process.
    pub fn text(&self) -> String {
        let end = self.0.iter().position(|&byte| byte == 0);
        let bytes = self.0.get(..end.unwrap_or(MAX_LEN)).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// What a viewer that knows it answers.
    pub fn answer(&self, challenge: [u8; CHALLENGE_LEN]) -> [u8; CHALLENGE_LEN] {
        // RFB takes the bits of each byte the other way round.
        let key = self.0.map(u8::reverse_bits);
        let des = Des::new(&Array(key));
        let mut answer = challenge;
        for block in answer.as_chunks_mut::<8>().0 {
            let mut text = Array(*block);
            des.encrypt_block(&mut text);
            *block = text.0;
        }
        answer
    }

    /// Whether that is the answer of who knows it.
    pub fn is_answer(&self, challenge: [u8; CHALLENGE_LEN], answer: [u8; CHALLENGE_LEN]) -> bool {
        self.answer(challenge).ct_eq(&answer).into()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_answer_is_that_of_other_implementations() {
        // Worked out with OpenSSL: `openssl enc -des-ecb -nopad` under the bit-reversed key.
        let challenge = *b"0123456789abcdef";
        let answer = Password::new("secret").unwrap().answer(challenge);
        let expected = [
            0x75, 0x24, 0x40, 0xee, 0x2b, 0xfc, 0xc2, 0xa0, 0xd9, 0x01, 0x3f, 0xd2, 0x03, 0x71,
            0xe2, 0x3b,
        ];
        assert_eq!(answer, expected);
    }

    #[test]
    fn only_the_password_answers() {
        let password = Password::new("geheim").unwrap();
        let challenge = [7; CHALLENGE_LEN];
        assert!(password.is_answer(challenge, password.answer(challenge)));
        for other in ["geheiM", "geheim1", "x"] {
            let other = Password::new(other).unwrap();
            assert!(!password.is_answer(challenge, other.answer(challenge)));
        }
        assert!(!password.is_answer([8; CHALLENGE_LEN], password.answer(challenge)));
        assert_eq!(password.text(), "geheim");
    }

    #[test]
    fn a_password_is_one_that_counts_in_full() {
        for (text, is_good) in [
            ("a", true),
            ("12345678", true),
            ("123456789", false),
            ("", false),
            ("a\tb", false),
            ("a\0b", false),
        ] {
            assert_eq!(Password::new(text).is_ok(), is_good, "{text:?}");
        }
    }

    #[test]
    fn a_file_that_everyone_may_read_has_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, "geheim\nmore\n").unwrap();
        for (mode, is_good) in [(0o644, false), (0o640, true), (0o600, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Password::read(&path).is_ok(), is_good, "{mode:o}");
        }
        fs::write(&path, "far too long a password\n").unwrap();
        let error = format!("{:#}", Password::read(&path).unwrap_err());
        assert!(error.contains("8 bytes"), "{error}");
    }
}
