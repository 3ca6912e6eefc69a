//! Resources in guest memory.

use mdev::migration::snapshot;
use vfu::wire::dma::DmaUnmap;
use virtio::guest::{End, RAM};

use super::*;

const GUEST_MEMORY: u32 = 1;
const SHAREABLE: u32 = 2;

/// A blob of `bytes` at the start of free memory, whose second half lies before its first.
fn blob(id: u32, bytes: u32) -> Vec<u32> {
    let (ram, half) = (FREE as u32, bytes / 2);
    let entries = [ram + half, 0, half, 0, ram, 0, half, 0];
    let fields = [id, GUEST_MEMORY, SHAREABLE, 2, 0, 0, bytes, 0];
    [&fields[..], &entries].concat()
}

/// Shows part of a picture of 16×8, or another size, in a blob.
fn scanout([x, y, width, height]: [u32; 4], head: u32, id: u32, lies: [u32; 5]) -> Vec<u32> {
    let [all_width, all_height, format, stride, offset] = lies;
    let rest = [
        all_width, all_height, format, 0, stride, 0, 0, 0, offset, 0, 0, 0,
    ];
    [&[x, y, width, height, head, id][..], &rest].concat()
}

/// 16×8 pixels, one line after the other.
const DENSE: [u32; 5] = [16, 8, 1, 64, 0];

/// Stores the pixels of a blob of 512 bytes.
fn draw(guest: &Guest, seed: usize) -> Vec<u8> {
    let pixels: Vec<_> = (0..512).map(|at| (at * 7 + seed * 13) as u8).collect();
    guest.put(FREE + 256, &pixels[..256]);
    guest.put(FREE, &pixels[256..]);
    pixels
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table, each case a line or two")]
fn commands_about_blobs_are_answered_as_the_specification_says() {
    let instance = Instance::new();
    let mut guest = instance.guest(0);
    let (ram, far) = (FREE as u32, u32::MAX);
    let whole = [0, 0, 16, 8];
    let create = |id, memory, flags, count, size| [id, memory, flags, count, 0, 0, size, 0];
    let with = |fields: [u32; 8], entries: &[u32]| [&fields[..], entries].concat();
    let entry = [ram, 0, 512, 0];
    for (number, words, answer) in [
        (CREATE_BLOB, with(create(0, 1, 2, 0, 512), &[]), NO_RESOURCE),
        (
            CREATE_BLOB,
            with(create(1, 0, 2, 0, 512), &[]),
            BAD_PARAMETER,
        ),
        (
            CREATE_BLOB,
            with(create(1, 2, 2, 0, 512), &[]),
            BAD_PARAMETER,
        ),
        (
            CREATE_BLOB,
            with(create(1, 3, 2, 0, 512), &[]),
            BAD_PARAMETER,
        ),
        (
            CREATE_BLOB,
            with(create(1, 1, 8, 0, 512), &[]),
            BAD_PARAMETER,
        ),
        (CREATE_BLOB, with(create(1, 1, 2, 0, 0), &[]), BAD_PARAMETER),
        (
            CREATE_BLOB,
            with(create(1, 1, 2, 1, 513), &entry),
            BAD_PARAMETER,
        ),
        (
            CREATE_BLOB,
            with(create(1, 1, 2, 2, 512), &entry),
            UNSPECIFIED,
        ),
        (
            CREATE_BLOB,
            with(create(1, 1, 2, 16385, 512), &entry),
            UNSPECIFIED,
        ),
        (
            CREATE_BLOB,
            create(1, 1, 2, 1, 512)[..6].to_vec(),
            UNSPECIFIED,
        ),
        (CREATE_BLOB, blob(1, 512), OK),
        (CREATE_BLOB, blob(1, 512), NO_RESOURCE),
        (CREATE, vec![1, 1, 8, 8], NO_RESOURCE),
        (CREATE, vec![2, 1, 16, 8], OK),
        // What backs it later, and what never does.
        (CREATE_BLOB, with(create(3, 1, 0, 0, 512), &[]), OK),
        (CREATE_BLOB, with([4, 1, 7, 0, 0, 0, 0, far], &[]), OK),
        (SCANOUT, vec![0, 0, 8, 8, 0, 1], BAD_PARAMETER),
        (SCANOUT_BLOB, scanout(whole, 0, 2, DENSE), BAD_PARAMETER),
        (SCANOUT_BLOB, scanout(whole, 4, 1, DENSE), NO_SCANOUT),
        (SCANOUT_BLOB, scanout(whole, 0, 9, DENSE), NO_RESOURCE),
        (
            SCANOUT_BLOB,
            scanout([0, 0, 0, 8], 0, 1, DENSE),
            BAD_PARAMETER,
        ),
        (
            SCANOUT_BLOB,
            scanout([1, 0, 16, 8], 0, 1, DENSE),
            BAD_PARAMETER,
        ),
        (
            SCANOUT_BLOB,
            scanout([far, 0, 2, 8], 0, 1, DENSE),
            BAD_PARAMETER,
        ),
        (
            SCANOUT_BLOB,
            scanout(whole, 0, 1, [16, 8, 5, 64, 0]),
            BAD_PARAMETER,
        ),
        (
            SCANOUT_BLOB,
            scanout(whole, 0, 1, [16, 8, 1, 63, 0]),
            BAD_PARAMETER,
        ),
        (
            SCANOUT_BLOB,
            scanout(whole, 0, 1, [16, 8, 1, 65, 0]),
            BAD_PARAMETER,
        ),
        (
            SCANOUT_BLOB,
            scanout(whole, 0, 1, [16, 8, 1, 64, 1]),
            BAD_PARAMETER,
        ),
        (
            SCANOUT_BLOB,
            scanout(whole, 0, 1, [16, 8, 1, far, far]),
            BAD_PARAMETER,
        ),
        (
            SCANOUT_BLOB,
            scanout(whole, 0, 1, [far, far, 1, far, 0]),
            BAD_PARAMETER,
        ),
        (
            SCANOUT_BLOB,
            scanout(whole, 0, 1, DENSE)[..17].to_vec(),
            UNSPECIFIED,
        ),
        // Larger than all of video memory, though not than the blob.
        (
            SCANOUT_BLOB,
            scanout([0, 0, 4097, 4096], 0, 4, [4097, 4096, 1, 16388, 0]),
            OUT_OF_MEMORY,
        ),
        (SCANOUT_BLOB, scanout(whole, 0, 1, DENSE), OK),
        (TRANSFER, vec![0, 0, 16, 8, 0, 0, 1, 0], OK),
        (FLUSH, vec![0, 0, 16, 8, 1, 0], OK),
        (FLUSH, vec![0, 0, 17, 8, 1, 0], BAD_PARAMETER),
        (SCANOUT_BLOB, scanout(whole, 0, 3, DENSE), OK),
        (FLUSH, vec![0, 0, 17, 8, 1, 0], OK), // nobody sees it
        (FLUSH, vec![0, 0, 16, 8, 3, 0], UNSPECIFIED),
        (DETACH, vec![3, 0], UNSPECIFIED),
        (ATTACH, vec![3, 1, ram, 0, 256, 0], OK),
        (FLUSH, vec![0, 0, 16, 8, 3, 0], UNSPECIFIED),
        (DETACH, vec![3, 0], OK),
        (ATTACH, vec![3, 1, ram, 0, 512, 0], OK),
        (FLUSH, vec![0, 0, 16, 8, 3, 0], OK),
        (SCANOUT_BLOB, scanout([0; 4], 0, 0, [0; 5]), OK),
    ] {
        let answered = ask(&mut guest, number, &words);
        assert_eq!(answered, answer, "{number:#x} {words:x?}");
    }
    assert!(instance.shown().is_none());
    assert_eq!(guest.status() & NEEDS_RESET, 0);
}

#[test]
fn a_blob_is_shown_as_it_is_flushed_and_flips_need_no_more_video_memory() {
    let instance = Instance::new();
    let mut guest = instance.guest(feature::EVENT_IDX);
    assert_eq!(ask(&mut guest, CREATE_BLOB, &blob(1, 512)), OK);
    assert_eq!(ask(&mut guest, CREATE_BLOB, &blob(2, 512)), OK);
    let pixels = draw(&guest, 1);
    let whole = [0, 0, 16, 8];
    assert_eq!(
        ask(&mut guest, SCANOUT_BLOB, &scanout(whole, 0, 1, DENSE)),
        OK
    );
    assert!(
        instance.shown().unwrap() == pixels,
        "a new picture is whole"
    );
    let before = instance.scanout.current().unwrap();

    // Only what is flushed.
    let later = draw(&guest, 2);
    assert_eq!(ask(&mut guest, FLUSH, &[4, 2, 8, 3, 1, 0]), OK);
    let mut expected = pixels;
    for y in 2..5 {
        let line = y * 64 + 16..y * 64 + 48;
        expected[line.clone()].copy_from_slice(&later[line]);
    }
    assert!(instance.shown().unwrap() == expected);

    // Another blob: all of it, however little is flushed.
    assert_eq!(
        ask(&mut guest, SCANOUT_BLOB, &scanout(whole, 0, 2, DENSE)),
        OK
    );
    assert_eq!(ask(&mut guest, FLUSH, &[0, 0, 1, 1, 2, 0]), OK);
    assert!(instance.shown().unwrap() == later);
    let after = instance.scanout.current().unwrap();
    assert_eq!(
        (after.sequence, after.geometry),
        (before.sequence, before.geometry)
    );

    // A part of it, whose lines lie apart.
    let apart = [4, 3, 134, 128, 20];
    assert_eq!(
        ask(
            &mut guest,
            SCANOUT_BLOB,
            &scanout([1, 1, 3, 2], 0, 2, apart)
        ),
        OK
    );
    let lines = [1, 2]
        .map(|y| 20 + 128 * y + 4)
        .map(|at| &later[at..at + 12]);
    assert!(instance.shown().unwrap() == lines.concat());
    let format = instance.scanout.current().unwrap().geometry.format;
    assert_eq!(format, PixelFormat::Xbgr8888);
    assert_eq!(ask(&mut guest, UNREF, &[2, 0]), OK);
    assert!(instance.shown().is_none());
}

#[test]
fn all_heads_share_the_budget_and_what_does_not_fit_harms_no_other() {
    let instance = Instance::with(&[("heads", "4")]);
    let mut guest = instance.guest(0);
    // Its bytes need not be there: nothing is read before it is backed.
    let fields = [1, GUEST_MEMORY, 0, 0, 0, 0, 0, 1];
    assert_eq!(ask(&mut guest, CREATE_BLOB, &fields), OK);
    // 24 MiB each, of 64.
    let lies = [4096, 1536, 1, 16384, 0];
    let show = |guest: &mut Guest, head| {
        ask(
            guest,
            SCANOUT_BLOB,
            &scanout([0, 0, 4096, 1536], head, 1, lies),
        )
    };
    for (head, answer) in [(0, OK), (1, OK), (2, OUT_OF_MEMORY), (1, OK), (0, OK)] {
        assert_eq!(show(&mut guest, head), answer, "{head}");
    }
    assert_eq!(ask(&mut guest, CREATE, &[2, 1, 4096, 1025]), OUT_OF_MEMORY);
    assert_eq!(ask(&mut guest, CREATE, &[2, 1, 4096, 1024]), OK);
    assert_eq!(ask(&mut guest, SCANOUT, &[0, 0, 4096, 1024, 1, 2]), OK);
    assert_eq!(show(&mut guest, 3), OK);
    assert!(instance.shown_on(2).is_none() && instance.shown_on(0).is_some());
    assert_eq!(ask(&mut guest, UNREF, &[1, 0]), OK);
    assert_eq!(ask(&mut guest, UNREF, &[2, 0]), OK);
    assert_eq!(ask(&mut guest, CREATE, &[2, 1, 4096, 4096]), OK);
}

#[test]
fn without_blobs_there_are_none() {
    let instance = Instance::with(&[("blob", "off")]);
    let mut guest = instance.guest(0);
    assert_eq!(ask(&mut guest, CREATE_BLOB, &blob(1, 512)), UNSPECIFIED);
    let words = scanout([0, 0, 16, 8], 0, 0, DENSE);
    assert_eq!(ask(&mut guest, SCANOUT_BLOB, &words), UNSPECIFIED);
    let other = Instance::new();
    let mut other = other.guest(0);
    for (guest, blobs) in [(&mut guest, 0), (&mut other, 1 << 3)] {
        guest.write(0, &[0; 4]);
        let features = u32::from_le_bytes(guest.read(4));
        assert_eq!(features & 0xf, 1 << 1 | 1 << 2 | blobs);
    }
}

/// A guest whose first head shows a blob, and what was flushed of it since somebody looked last.
fn flushed(instance: &Instance) -> (Guest, Vec<u8>) {
    let mut guest = instance.guest(0);
    assert_eq!(ask(&mut guest, CREATE_BLOB, &blob(1, 512)), OK);
    let before = draw(&guest, 1);
    let whole = [0, 0, 16, 8];
    assert_eq!(
        ask(&mut guest, SCANOUT_BLOB, &scanout(whole, 0, 1, DENSE)),
        OK
    );
    assert!(instance.shown().unwrap() == before);
    let pixels = draw(&guest, 2);
    assert_eq!(ask(&mut guest, FLUSH, &[0, 0, 16, 8, 1, 0]), OK);
    assert!(instance.lies_on(0).unwrap() == before, "nobody looks");
    (guest, pixels)
}

#[test]
fn a_blob_is_copied_when_somebody_looks_or_its_memory_goes() {
    for has_gone in [false, true] {
        let instance = Instance::new();
        let (mut guest, pixels) = flushed(&instance);
        if has_gone {
            let all = DmaUnmap::One { iova: 0, size: RAM };
            guest.client.dma_unmap(&all).unwrap();
            assert!(instance.lies_on(0).unwrap() == pixels);
        }
        assert!(instance.shown().unwrap() == pixels, "{has_gone}");
    }
}

#[test]
fn what_a_guest_has_flushed_last_stays_when_it_goes() {
    let instance = Instance::new();
    let (guest, drawn) = flushed(&instance);
    let picture = instance.scanout.current().unwrap();
    drop(guest);
    // The next one is served once the last has gone.
    let _next = instance.guest(0);
    assert!(instance::pixels(&picture) == drawn);
}

#[test]
fn a_state_has_what_was_flushed_before_it_was_saved() {
    let instance = Instance::new();
    let (_guest, pixels) = flushed(&instance);
    let save = |device: &mut dyn mdev::MediatedDevice| {
        snapshot::save(device, &mut Vec::new()).map_err(|error| error.to_string())
    };
    assert_eq!(instance.mail.call(save).unwrap(), Ok(()));
    assert!(instance.lies_on(0).unwrap() == pixels);
}

#[test]
fn a_driver_that_did_wrong_is_still_looked_at() {
    let instance = Instance::new();
    let (mut guest, pixels) = flushed(&instance);
    // There is no such descriptor.
    guest.kick(0, 0xffff, 1);
    assert_eq!(guest.wait(0), End::NeedsReset);
    assert!(instance.shown().unwrap() == pixels);
}

#[test]
fn a_picture_stays_late_while_the_device_may_not_read_memory() {
    let instance = Instance::new();
    let (mut guest, pixels) = flushed(&instance);
    let before = instance.lies_on(0);
    for (command, shown) in [([2, 0], before.unwrap()), ([6, 0], pixels)] {
        guest.client.region_write(7, 4, &command).unwrap();
        assert!(instance.shown().unwrap() == shown);
    }
}
