//! Whatever comes, in whatever order.

use mdev::scanout::Rect;
use proptest::prelude::*;

use super::super::cursors::Look;
use super::super::resources::Framebuffer;
use super::*;

const PAGE: u64 = 4096;
const BUDGET: u64 = 24 * PAGE;
const HEADS: usize = 2;

fn rect() -> impl Strategy<Value = Rect> {
    (0..3_u32, 0..3_u32, 0..40_u32, 0..40_u32).prop_map(|(x, y, width, height)| Rect {
        x,
        y,
        width,
        height,
    })
}

/// A change that may be possible: few numbers, few places, small pictures.
fn change() -> impl Strategy<Value = Change> {
    let id = || 0..4_u32;
    let head = || 0..3_u32;
    let place = || (0..50_u64).prop_map(|page| page * PAGE);
    let side = || prop_oneof![Just(32_u32), 0..40_u32];
    let entries = || prop::collection::vec((any::<u64>(), 0..6000_u32), 0..3);
    let entries = move || {
        entries().prop_map(|parts| -> Vec<_> {
            let parts = parts.into_iter();
            parts.map(|(at, len)| Entry { at, len }).collect()
        })
    };
    let framebuffer = (side(), side(), 0..300_u32, 0..9_u32);
    let framebuffer = framebuffer.prop_map(|(width, height, stride, offset)| Framebuffer {
        format: 1,
        width,
        height,
        stride,
        offset,
    });
    let look = prop::option::of((0..70_u32, 0..3_u8).prop_map(|(hot_x, slot)| Look {
        format: 2,
        hot_x,
        hot_y: 0,
        slot,
    }));
    prop_oneof![
        (id(), side(), side(), place()).prop_map(|(id, width, height, at)| Change::Create {
            id,
            format: 1,
            width,
            height,
            at
        }),
        (id(), 0..9000_u64, entries()).prop_map(|(id, size, entries)| Change::CreateBlob {
            id,
            size,
            entries
        }),
        id().prop_map(|id| Change::Unref { id }),
        (id(), entries()).prop_map(|(id, entries)| Change::Attach { id, entries }),
        id().prop_map(|id| Change::Detach { id }),
        (id(), any::<[u8; 16]>()).prop_map(|(id, uuid)| Change::AssignUuid { id, uuid }),
        (head(), id(), rect()).prop_map(|(head, id, rect)| Change::Scanout { head, id, rect }),
        (head(), id(), rect(), framebuffer, place()).prop_map(
            |(head, id, rect, framebuffer, at)| Change::ScanoutBlob {
                head,
                id,
                rect,
                framebuffer,
                at
            }
        ),
        (head(), look, any::<u32>()).prop_map(|(head, look, x)| Change::Cursor {
            head,
            look,
            x,
            y: 0
        }),
        (head(), any::<u32>()).prop_map(|(head, x)| Change::MoveCursor { head, x, y: 1 }),
    ]
}

/// All that a table says of itself, places and sums too.
fn looks(table: &Table) -> String {
    format!("{table:?}")
}

proptest! {
    #[test]
    fn a_table_is_made_again_by_its_changes_and_one_that_cannot_be_changes_nothing(
        changes in prop::collection::vec(change(), 0..60)
    ) {
        let mut table = Table::new(BUDGET, HEADS);
        for change in changes {
            let before = looks(&table);
            match table.apply(&change) {
                Err(_) => prop_assert_eq!(looks(&table), before, "{:?}", change),
                Ok(_) => {
                    let again = table.replayed(BUDGET, &table.changes()).unwrap();
                    prop_assert_eq!(looks(&again), looks(&table), "{:?}", change);
                }
            }
        }
    }

    #[test]
    fn all_video_memory_is_free_again_when_all_resources_are_gone(
        changes in prop::collection::vec(change(), 0..60)
    ) {
        let mut table = Table::new(BUDGET, HEADS);
        for change in changes {
            let _ = table.apply(&change);
        }
        for id in 0..4 {
            let _ = table.apply(&Change::Unref { id });
        }
        prop_assert_eq!(table.places.find(BUDGET), Some(0));
        prop_assert_eq!(table.entries, 0);
        prop_assert!((0..HEADS as u32).all(|head| table.geometry(head).is_none()));
    }
}
