//! Changes as bytes.

use super::*;

const RECT: Rect = Rect {
    x: 1,
    y: 2,
    width: 3,
    height: 4,
};

fn entry(at: u64) -> Entry {
    Entry { at, len: 4096 }
}

fn changes() -> Vec<Change> {
    vec![
        Change::Create {
            id: 7,
            format: 1,
            width: 640,
            height: 480,
            at: 1 << 33,
        },
        Change::Unref { id: 7 },
        Change::Attach {
            id: 7,
            entries: vec![entry(0), entry(u64::MAX)],
        },
        Change::Detach { id: u32::MAX },
        Change::Scanout {
            head: 1,
            id: 7,
            rect: RECT,
        },
    ]
}

fn changes_of_blobs_and_cursors() -> Vec<Change> {
    vec![
        Change::CreateBlob {
            id: 8,
            size: 1 << 40,
            entries: vec![entry(4096)],
        },
        Change::ScanoutBlob {
            head: 2,
            id: 8,
            rect: RECT,
            framebuffer: Framebuffer {
                format: 5,
                width: 6,
                height: 7,
                stride: 8,
                offset: 9,
            },
            at: 1 << 35,
        },
        Change::AssignUuid {
            id: 8,
            uuid: [7; 16],
        },
        Change::Cursor {
            head: 3,
            look: Some(Look {
                format: 1,
                hot_x: 2,
                hot_y: 3,
                slot: 1,
            }),
            x: u32::MAX,
            y: 4,
        },
        Change::Cursor {
            head: 3,
            look: None,
            x: 0,
            y: 0,
        },
        Change::MoveCursor {
            head: 1,
            x: 2,
            y: 3,
        },
    ]
}

#[test]
fn what_is_emitted_is_parsed_and_what_is_cut_off_is_refused() {
    for change in [changes(), changes_of_blobs_and_cursors()].concat() {
        let mut bytes = Vec::new();
        change.emit(&mut bytes);
        let mut fields = Fields::of_registers(&bytes);
        assert_eq!(Change::parse(&mut fields).unwrap(), change);
        assert!(fields.is_empty());
        for len in 0..bytes.len() {
            let mut fields = Fields::of_registers(&bytes[..len]);
            assert!(Change::parse(&mut fields).is_err(), "{change:?} {len}");
        }
    }
}
