//! The log of DMA writes, from a client that may ask for it wrongly.

use vfu::wire::Command;

use crate::check::{Unmet, Verdict};
use crate::connection::Answer;
use crate::ensure;
use crate::migration::{
    GET, LOGGING_REPORT, LOGGING_START, LOGGING_STOP, SET, ask, feature, feature_data,
};
use crate::negotiated::Client;
use crate::payload::{longs, words};

/// The payload of SET of LOGGING_START, with ranges of address and length.
pub fn start_payload(page_size: u64, announced: u32, ranges: &[(u64, u64)]) -> Vec<u8> {
    let mut data = longs(&[page_size]);
    data.extend(words(&[announced, 0]));
    for (iova, length) in ranges {
        data.extend(longs(&[*iova, *length]));
    }
    let argsz = u32::try_from(8 + data.len()).unwrap_or(u32::MAX);
    feature(argsz, SET | LOGGING_START, &data)
}

/// SET of LOGGING_START; tells whether it was done.
pub fn tries_to_log(
    client: &mut Client,
    page_size: u64,
    ranges: &[(u64, u64)],
) -> Result<bool, Unmet> {
    let announced = u32::try_from(ranges.len()).unwrap_or(u32::MAX);
    let payload = start_payload(page_size, announced, ranges);
    match ask(client, Command::DeviceFeature, &payload)? {
        Answer::Success(_) => Ok(true),
        Answer::Refused(_) => Ok(false),
        Answer::Closed => Err(Unmet::fail("the connection was closed at LOGGING_START")),
    }
}

/// SET of LOGGING_STOP, without data, or with the data of START where the server wants them.
pub fn stop_logging(client: &mut Client) -> Verdict {
    let with_data = {
        let mut payload = start_payload(4096, 0, &[]);
        let flags = (SET | LOGGING_STOP).to_ne_bytes();
        if let Some(place) = payload.get_mut(4..8) {
            place.copy_from_slice(&flags);
        }
        payload
    };
    for payload in [feature(8, SET | LOGGING_STOP, &[]), with_data] {
        match ask(client, Command::DeviceFeature, &payload)? {
            Answer::Success(_) => return Ok(()),
            Answer::Refused(_) => {}
            Answer::Closed => break,
        }
    }
    Err(Unmet::fail("LOGGING_STOP was refused"))
}

/// The payload of GET of LOGGING_REPORT.
pub fn report_payload(argsz: u32, iova: u64, length: u64, page_size: u64) -> Vec<u8> {
    let data = longs(&[iova, length, page_size]);
    feature(argsz, GET | LOGGING_REPORT, &data)
}

/// Bytes of the reply to LOGGING_REPORT.
pub fn report_len(length: u64, page_size: u64) -> u32 {
    let bits = length.div_ceil(page_size.max(1));
    u32::try_from(32 + bits.div_ceil(64) * 8).unwrap_or(u32::MAX)
}

/// GET of LOGGING_REPORT, whose reply must be right: the pages that were written, by number from
/// `iova` on. `None` if it was refused.
pub fn tries_to_report(
    client: &mut Client,
    iova: u64,
    length: u64,
    page_size: u64,
) -> Result<Option<Vec<u64>>, Unmet> {
    let argsz = report_len(length, page_size);
    let request = report_payload(argsz, iova, length, page_size);
    let message = match ask(client, Command::DeviceFeature, &request)? {
        Answer::Success(message) => message,
        Answer::Refused(_) => return Ok(None),
        Answer::Closed => return Err(Unmet::fail("the connection was closed at a report")),
    };
    let data = feature_data(&message, GET | LOGGING_REPORT)?;
    ensure!(
        u32::try_from(data.len() + 8) == Ok(argsz),
        "the reply has {} bytes, it should have {argsz}",
        data.len() + 8
    );
    let (head, bitmap) = data.split_at(24);
    ensure!(
        head == longs(&[iova, length, page_size]),
        "the reply does not repeat address, length and page size"
    );
    let mut pages = Vec::new();
    for (place, byte) in (0..).zip(bitmap) {
        pages.extend(
            (0..8)
                .filter(|bit| byte >> bit & 1 == 1)
                .map(|bit| place * 8 + bit),
        );
    }
    let bits = length.div_ceil(page_size.max(1));
    let beyond = pages.iter().find(|page| **page >= bits);
    ensure!(
        beyond.is_none(),
        "bit {} is set, and the range has {bits}",
        beyond.unwrap_or(&0)
    );
    Ok(Some(pages))
}

/// GET of LOGGING_REPORT, which must succeed.
pub fn report(
    client: &mut Client,
    iova: u64,
    length: u64,
    page_size: u64,
) -> Result<Vec<u64>, Unmet> {
    tries_to_report(client, iova, length, page_size)?.ok_or_else(|| {
        Unmet::fail(format!(
            "a report of {length:#x} at {iova:#x} in pages of {page_size:#x} was refused"
        ))
    })
}
