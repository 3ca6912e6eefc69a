//! Steps of a script, as they are mostly wanted.

use fuzz::session::script::{Message, Step};

pub(crate) fn frame(command: u16, payload: Vec<u8>, fds: Vec<u8>) -> Step<'static> {
    Step::Command(Message {
        command,
        payload,
        fds,
        ..Message::default()
    })
}

pub(crate) fn access(
    command: u16,
    region: u32,
    offset: u64,
    count: u32,
    data: &[u8],
) -> Step<'static> {
    let mut payload = offset.to_ne_bytes().to_vec();
    payload.extend(region.to_ne_bytes());
    payload.extend(count.to_ne_bytes());
    payload.extend(data);
    frame(command, payload, vec![])
}

pub(crate) fn read(region: u32, offset: u64, count: u32) -> Step<'static> {
    access(9, region, offset, count, &[])
}

pub(crate) fn write(region: u32, offset: u64, data: &[u8]) -> Step<'static> {
    access(10, region, offset, data.len() as u32, data)
}

pub(crate) fn config(offset: u64, data: &[u8]) -> Step<'static> {
    write(7, offset, data)
}

pub(crate) fn map(iova: u64, size: u64, file: u8) -> Step<'static> {
    let mut payload = [32_u32.to_ne_bytes(), 3_u32.to_ne_bytes()].concat();
    payload.extend(
        [0, iova, size]
            .iter()
            .flat_map(|number| number.to_ne_bytes()),
    );
    frame(2, payload, vec![file])
}
