//! The GPU, under the crate's driver of one.

use mdev::MediatedDevice;
use virtio_drivers::device::gpu::VirtIOGpu;
use virtio_drivers::transport::{InterruptStatus, Transport};

use super::bus::{Bus, Pci};
use super::memory::Ram;
use super::{Instance, driven};

type Gpu = VirtIOGpu<Ram, Pci>;

fn gpu(bus: &Bus) -> Gpu {
    Gpu::new(Pci::find(bus)).unwrap()
}

/// Something that no two pixels of a line, and no two lines, have alike.
fn draw(frame: &mut [u8], seed: usize) {
    for (at, byte) in frame.iter_mut().enumerate() {
        *byte = (at * 7 + at / 251 + seed) as u8;
    }
}

fn set_mode(instance: &Instance, mode: &'static str) {
    let set = move |device: &mut dyn MediatedDevice| device.set_attribute("mode", mode);
    instance.mail.call(set).unwrap().unwrap();
}

#[test]
fn a_frame_that_is_flushed_is_shown_pixel_for_pixel() {
    driven(|instance, bus| {
        let mut gpu = gpu(bus);
        assert_eq!(gpu.resolution(), Ok((1920, 1080)));
        let mut drawn = vec![0; 1920 * 1080 * 4];
        let frame = gpu.setup_framebuffer().unwrap();
        assert!(frame.len() >= drawn.len());
        for seed in 0..3 {
            draw(&mut drawn, seed);
            // The crate lends the frame once: to draw again is to ask for it again.
            let frame = gpu.change_resolution(1920, 1080).unwrap();
            frame[..drawn.len()].copy_from_slice(&drawn);
            assert_ne!(instance.shown().unwrap(), drawn, "shown before the flush");
            gpu.flush().unwrap();
            assert!(instance.shown().unwrap() == drawn, "{seed}");
        }
        // A smaller one in its place.
        let frame = gpu.change_resolution(640, 480).unwrap();
        draw(frame, 9);
        let drawn = frame[..640 * 480 * 4].to_vec();
        gpu.flush().unwrap();
        assert!(instance.shown().unwrap() == drawn);
    });
}

#[test]
fn the_edid_says_the_resolution_that_the_display_has() {
    driven(|instance, bus| {
        let mut gpu = gpu(bus);
        for (mode, size) in [("800x600", (800, 600)), ("1280x1024", (1280, 1024))] {
            set_mode(instance, mode);
            assert_eq!(gpu.resolution(), Ok(size));
            assert_eq!(gpu.edid_preferred_resolution(), Ok(size));
        }
        for (width, height) in gpu.edid_supported_resolutions().unwrap() {
            assert!((64..=4095).contains(&width) && (64..=4095).contains(&height));
        }
        assert_eq!(gpu.get_edid(16).err(), Some(virtio_drivers::Error::IoError));
    });
}

#[test]
fn what_happened_is_told_by_the_interrupt_status_once() {
    driven(|instance, bus| {
        let mut gpu = gpu(bus);
        gpu.ack_interrupt();
        set_mode(instance, "1024x768");
        let changed = InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT;
        assert_eq!(gpu.ack_interrupt().bits(), changed.bits());
        assert_eq!(gpu.ack_interrupt().bits(), 0);
    });
}

#[test]
fn a_cursor_is_taken_and_moved() {
    driven(|_, bus| {
        let mut gpu = gpu(bus);
        gpu.setup_framebuffer().unwrap();
        let picture = vec![0x80; 64 * 64 * 4];
        gpu.setup_cursor(&picture, 10, 20, 1, 2).unwrap();
        for at in 0..200 {
            gpu.move_cursor(at * 10, at * 5).unwrap();
        }
        // The control queue is where it was.
        assert_eq!(gpu.resolution(), Ok((1920, 1080)));
    });
}

#[test]
fn a_driver_that_comes_after_another_finds_the_device_as_new() {
    driven(|instance, bus| {
        for round in 0..20 {
            let mut gpu = gpu(bus);
            assert!(instance.shown().is_none(), "shown before round {round}");
            // The resource has the same number each time, and the cursor's as well.
            let frame = gpu.setup_framebuffer().unwrap();
            draw(frame, round);
            let drawn = frame[..1920 * 1080 * 4].to_vec();
            gpu.setup_cursor(&[0; 64 * 64 * 4], 0, 0, 0, 0).unwrap();
            gpu.flush().unwrap();
            assert!(instance.shown().unwrap() == drawn, "{round}");
        }
        let mut transport = Pci::find(bus);
        for queue in 0..2 {
            assert!(!transport.queue_used(queue), "queue {queue}");
        }
        assert!(transport.get_status().is_empty());
    });
}
