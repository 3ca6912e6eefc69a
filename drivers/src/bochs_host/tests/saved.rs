//! A display goes on elsewhere, or in another process.

use mdev::host::Seat;
use mdev::migration::snapshot;

use super::super::card::Card;
use super::super::screen::Screen;
use super::super::slices::Slices;
use super::*;

#[test]
fn a_saved_display_goes_on_by_whatever_way_to_the_memory() {
    for from in ["trap", "shadow", "direct"] {
        let rig = Rig::new();
        let mut source = rig.seat(&[("aperture", from), ("mode", "640x480")]);
        source.draw(SLICE - 4, &[1, 2, 3, 4]);
        source.show(2560 * 3, 0xaaaa);
        let mut state = Vec::new();
        snapshot::save(&mut *source.device, &mut state).unwrap();
        for to in ["trap", "shadow", "direct"] {
            let rig = Rig::new();
            let mut other = rig.seat(&[]);
            let mut target = rig.seat(&[("aperture", to), ("foreground", "on")]);
            target.show(0, 0xbbbb);
            target.draw(4, &[9; 4]);
            other.show(0, 0xcccc);
            snapshot::restore(&mut *target.device, &mut &state[..]).unwrap();
            target.device.migration().unwrap().resume();
            let words = format!("{from} to {to}");
            wait_until(&words, || rig.card.pixel() == Some(0xaaaa));
            assert_eq!(rig.card.picture().unwrap().offset, SLICE + 2560 * 3);
            assert_eq!(target.seen(), Some(0xaaaa), "{words}");
            let mut data = [0; 4];
            target.device.read(Bar0, SLICE - 4, &mut data).unwrap();
            assert_eq!(data, [1, 2, 3, 4], "{words}");
            target.device.read(Bar0, 4, &mut data).unwrap();
            assert_eq!(data, [0; 4], "{words}: what it showed before is gone");
            assert_eq!(target.attribute("mode"), "640x480");
            assert_eq!(target.attribute("aperture"), to);
            assert_eq!(other.seen(), Some(0xcccc));
            let mut again = Vec::new();
            snapshot::save(&mut *target.device, &mut again).unwrap();
            assert!(again == state, "{words}");
        }
    }
}

#[test]
fn another_process_finds_a_slice_as_it_was_and_the_screen_goes_to_who_had_it_last() {
    let card = Arc::new(FakeCard::default()) as Arc<dyn Card>;
    let slices = Arc::new(Slices::new(Arc::clone(&card)));
    card.write(SLICE + 5, &[7]).unwrap();
    let slice = slices.take_again(SLICE, SLICE).unwrap();
    let mut byte = [0];
    slice.read(5, &mut byte).unwrap();
    assert_eq!(byte, [7]);
    for (start, len) in [
        (SLICE, SLICE),
        (0, 2 * SLICE),
        (16 * MIB, SLICE),
        (16 * MIB - 1, SLICE),
        (u64::MAX - 3, SLICE),
        (0, 0),
    ] {
        assert!(
            slices.take_again(start, len).is_none(),
            "{start:#x}+{len:#x}"
        );
    }

    let screen = Screen::new(card).unwrap();
    for (seat, turn, owner) in [(1, 5, 1), (2, 3, 1), (3, 9, 3), (4, 8, 3)] {
        screen.take_again(Seat(seat), turn);
        assert!(screen.is_of(Seat(owner)), "{seat}");
    }
    assert_eq!(screen.take(Seat(1), None), 10);
}
