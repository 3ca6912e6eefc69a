//! The table against a list that is searched from end to end.

use proptest::prelude::*;

use super::*;

/// What a client may do, in a small address space, so that ranges meet.
#[derive(Clone, Debug)]
enum Action {
    Map {
        page: u64,
        pages: u64,
        is_shared: bool,
    },
    Unmap {
        page: u64,
        pages: u64,
    },
    UnmapAll,
    Lookup {
        address: u64,
        len: u64,
    },
}

fn any_action() -> impl Strategy<Value = Action> {
    let page = || 0_u64..24;
    let pages = || 1_u64..6;
    prop_oneof![
        6 => (page(), pages(), any::<bool>())
            .prop_map(|(page, pages, is_shared)| Action::Map { page, pages, is_shared }),
        4 => (page(), pages()).prop_map(|(page, pages)| Action::Unmap { page, pages }),
        1 => Just(Action::UnmapAll),
        6 => (0..24 * PAGE, 1..3 * PAGE)
            .prop_map(|(address, len)| Action::Lookup { address, len }),
    ]
}

/// The mappings as first page and number of pages.
#[derive(Debug, Default)]
struct Model(Vec<(u64, u64, bool)>);

impl Model {
    fn map(&mut self, page: u64, pages: u64, is_shared: bool) -> Result<(), Errno> {
        let meets = |&(at, len, _): &(u64, u64, bool)| at < page + pages && page < at + len;
        if self.0.iter().any(meets) {
            return Err(Errno::EXIST);
        }
        self.0.push((page, pages, is_shared));
        Ok(())
    }

    fn unmap(&mut self, page: u64, pages: u64) -> Result<(), Errno> {
        let is_it = |&(at, len, _): &(u64, u64, bool)| (at, len) == (page, pages);
        let found = self.0.iter().position(is_it).ok_or(Errno::NOENT)?;
        self.0.remove(found);
        Ok(())
    }

    fn lookup(&self, address: u64, len: u64) -> Option<(u64, u64, bool)> {
        let holds = |&&(at, pages, _): &&(u64, u64, bool)| {
            at * PAGE <= address && address + len <= (at + pages) * PAGE
        };
        self.0.iter().find(holds).copied()
    }
}

proptest! {
    #[test]
    fn the_table_does_what_a_list_does(
        actions in proptest::collection::vec(any_action(), 0..60),
    ) {
        let fd = memfd(64 * PAGE);
        let (mut table, mut model) = (DmaTable::default(), Model::default());
        for action in actions {
            match action {
                Action::Map { page, pages, is_shared } => {
                    let mapping = request(page * PAGE, pages * PAGE, page * PAGE);
                    let result = map(&mut table, mapping, is_shared.then_some(&fd));
                    prop_assert_eq!(result, model.map(page, pages, is_shared));
                }
                Action::Unmap { page, pages } => {
                    let one = DmaUnmap::One { iova: page * PAGE, size: pages * PAGE };
                    let result = table.unmap(&one).map(drop).map_err(|error| error.errno());
                    prop_assert_eq!(result, model.unmap(page, pages));
                }
                Action::UnmapAll => {
                    table.unmap(&DmaUnmap::All).unwrap();
                    model.0.clear();
                }
                Action::Lookup { address, len } => {
                    let range = IovaRange::new(Iova(address), len).unwrap();
                    let found = table.lookup(range).map(|mapping| {
                        let start = mapping.range.start().0;
                        let pages = mapping.range.len().unwrap() / PAGE;
                        if let Some(memory) = &mapping.memory {
                            assert_eq!(memory.position as u64, start);
                        }
                        (start / PAGE, pages, mapping.memory.is_some())
                    });
                    prop_assert_eq!(found, model.lookup(address, len));
                }
            }
            prop_assert_eq!(table.len(), model.0.len());
            prop_assert!(kernel_mappings(&fd) <= 1);
        }
    }
}
