//! OVMF, the firmware of Debian's, with a display of ours as the only one.
//!
//! What it shows is read off the server's screenshot by the glyphs of its own font.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::time::{Duration, Instant};

use e2e::{Firmware, Machine, Programs, Vgpu};
use serde_json::json;

/// How long it may take to show something.
const LIMIT: Duration = Duration::from_secs(120);

/// Waits until `words` are read on what a vGPU shows.
fn wait_words(firmware: &Firmware, gpu: &Vgpu, words: &str) {
    let start = Instant::now();
    let mut text = Vec::new();
    while start.elapsed() < LIMIT {
        if let Ok(screen) = gpu.screenshot() {
            text = firmware.text(&screen);
            if text.iter().any(|line| line.contains(words)) {
                return;
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("{words:?} was not shown, but {text:#?}");
}

/// Boots the firmware on a display of that type, in its best mode.
fn shows_its_shell(type_name: &str, size: (u32, u32)) {
    let programs = Programs::from_env().unwrap();
    let firmware = Firmware::from_env().unwrap();
    let gpu = Vgpu::run(&programs, type_name, &[]).unwrap();
    let vm = Machine::new(&programs)
        .firmware(&firmware)
        .vfio_user(&gpu.socket(), &json!({}))
        .start()
        .unwrap();
    // No disk has anything to boot, so that it starts the shell that it brings.
    wait_words(&firmware, &gpu, "UEFI Interactive Shell");
    wait_words(&firmware, &gpu, "Shell>");
    assert_eq!(gpu.screenshot().unwrap().size(), size);
    assert_eq!(gpu.counter("faults").unwrap(), 0);
    assert_eq!(gpu.counter("refused_requests").unwrap(), 0);
    drop(vm);
}

#[test]
fn the_firmware_shows_its_shell_on_a_virtio_gpu_before_any_kernel() {
    shows_its_shell("gpu-2d-hd", (1920, 1080));
}

#[test]
fn the_firmware_shows_its_shell_on_a_bochs_display() {
    shows_its_shell("bochs-16m", (1920, 1080));
    shows_its_shell("bochs-4m", (800, 600));
}
