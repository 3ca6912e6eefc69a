//! What comes before the picture: versions, the password, the size.

use std::io;
use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};

use super::link::Link;
use super::{Gone, House};
use crate::password::Password;
use crate::rfb::handshake::{
    CHALLENGE_LEN, GREETING, SECURITY_NONE, SECURITY_PASSWORD, Version, emit_init, emit_rejection,
    emit_security, emit_welcome,
};

/// How long who does not know the password is kept waiting, before another try.
const RETRY: Duration = Duration::from_secs(1);

/// Lets a viewer in, to a picture of that size.
pub(super) fn welcome(link: &Link, house: &House, size: (u16, u16)) -> Result<(), Gone> {
    let deadline = Instant::now() + house.patience.welcome;
    link.send_all(&GREETING, deadline)?;
    let version = Version::parse(&link.receive_exactly(deadline)?)?;
    match &house.password {
        None => {
            choose(link, version, SECURITY_NONE, deadline)?;
            // Before 3.8 nothing is said of how nothing went (RFC 6143, 7.1.3 and appendix A).
            if version == Version::V3_8 {
                link.send_all(&emit_welcome(), deadline)?;
            }
        }
        Some(password) => {
            choose(link, version, SECURITY_PASSWORD, deadline)?;
            if !knows(link, password, deadline)? {
                std::thread::sleep(RETRY);
                let words = "that is not the password";
                link.send_all(&emit_rejection(version, words), deadline)?;
                return Err(Gone::Stranger);
            }
            link.send_all(&emit_welcome(), deadline)?;
        }
    }
    // Whether others may look on: they may.
    let [_is_shared] = link.receive_exactly(deadline)?;
    link.send_all(&emit_init(size, &house.name), deadline)
}

/// Agrees on the kind of security that there is.
fn choose(link: &Link, version: Version, kind: u8, deadline: Instant) -> Result<(), Gone> {
    link.send_all(&emit_security(version, kind), deadline)?;
    if version == Version::V3_3 {
        return Ok(());
    }
    let [chosen] = link.receive_exactly(deadline)?;
    if chosen != kind {
        let words = "there is no such kind of security here";
        link.send_all(&emit_rejection(version, words), deadline)?;
        return Err(Gone::Stranger);
    }
    Ok(())
}

fn knows(link: &Link, password: &Password, deadline: Instant) -> Result<bool, Gone> {
    let mut challenge = [0; CHALLENGE_LEN];
    let count = getrandom(&mut challenge, GetRandomFlags::empty()).map_err(io::Error::from)?;
    if count != CHALLENGE_LEN {
        return Err(io::Error::other("too little randomness").into());
    }
    link.send_all(&challenge, deadline)?;
    let answer = link.receive_exactly(deadline)?;
    Ok(password.is_answer(challenge, answer))
}
