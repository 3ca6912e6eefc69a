//! Messages and payloads, right or wrong, from numbers.

use vfu::wire::Header;

/// What mappings are made of, unless other page sizes were agreed on.
pub const PAGE: u64 = 4096;
/// Flag of a command that wants no reply; specification, section "Header".
pub const NO_REPLY: u32 = 1 << 4;
/// Flag of a reply that tells of an error; same section.
pub const ERROR: u32 = 1 << 5;

/// Integers of 4 bytes, in a row.
pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Integers of 8 bytes, in a row.
pub fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

/// A header that says this, be it right or wrong.
pub fn header(id: u16, command: u16, size: u32, flags: u32) -> [u8; Header::LEN] {
    let header = Header {
        id,
        command,
        size,
        flags,
        errno: 0,
    };
    header.to_bytes()
}

/// A whole message with these flags, whose size is right.
pub fn message(id: u16, command: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(Header::LEN + payload.len()).unwrap_or(u32::MAX);
    let mut message = header(id, command, size, flags).to_vec();
    message.extend(payload);
    message
}

/// The payload of VERSION with this text after the numbers, as it is.
pub fn version(major: u16, minor: u16, text: &[u8]) -> Vec<u8> {
    let mut payload = major.to_ne_bytes().to_vec();
    payload.extend(minor.to_ne_bytes());
    payload.extend(text);
    payload
}

/// The payload of REGION_READ, or of REGION_WRITE with its data.
pub fn access(region: u32, offset: u64, count: u32, data: &[u8]) -> Vec<u8> {
    let mut payload = offset.to_ne_bytes().to_vec();
    payload.extend(words(&[region, count]));
    payload.extend(data);
    payload
}

/// The payload of REGION_WRITE_MULTI that announces `announced` writes, and has these of
/// `(region, offset, count, data)`.
pub fn multi(announced: u64, writes: &[(u32, u64, u32, [u8; 8])]) -> Vec<u8> {
    let mut payload = announced.to_ne_bytes().to_vec();
    for (region, offset, count, data) in writes {
        payload.extend(access(*region, *offset, *count, data));
    }
    payload
}

/// The payload of DMA_MAP: `argsz, flags` and `offset, iova, size`; that of DMA_UNMAP with the
/// offset left out.
pub fn dma(argsz: u32, flags: u32, numbers: &[u64]) -> Vec<u8> {
    let mut payload = words(&[argsz, flags]);
    payload.extend(longs(numbers));
    payload
}

/// The payload of DEVICE_GET_REGION_INFO.
pub fn region_info(argsz: u32, index: u32) -> Vec<u8> {
    words(&[argsz, 0, index, 0, 0, 0, 0, 0])
}
