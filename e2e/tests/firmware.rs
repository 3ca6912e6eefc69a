//! OVMF, the firmware of Debian's, with a display of ours as the only one.
//!
//! What it shows is read off the server's screenshot by the glyphs of its own font.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use e2e::vnc::{DOWN, ESCAPE, EXTENDED_DESKTOP_SIZE, RETURN, Viewer, ZRLE};
use e2e::{Daemon, Firmware, Machine, Programs, Screen, Vgpu};
use serde_json::json;

/// How long it may take to show something.
const LIMIT: Duration = Duration::from_secs(120);

/// Between two keys, and until the firmware has made something of one.
const KEY: Duration = Duration::from_millis(500);
const REACTION: Duration = Duration::from_secs(10);

/// How often something is tried that lost keys undo.
const TRIES: usize = 20;

/// Columns of the menu, beside which stands what its entry is for.
const MENU: usize = 68;

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
        thread::sleep(Duration::from_millis(200));
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

#[test]
fn the_firmwares_boot_menu_obeys_the_keyboard_of_a_viewer() {
    let programs = Programs::from_env().unwrap();
    let daemon = Daemon::run(&programs).unwrap();
    let instance = daemon.start("gpu-2d-hd", &["mode=800x600"]).unwrap();
    let printed = daemon.vgpu("console", &[&instance.uuid]).unwrap();
    let firmware = Firmware::from_env().unwrap();
    let _vm = Machine::new(&programs)
        .firmware(&firmware)
        // No keyboard but ours.
        .arg("-machine")
        .arg("i8042=off")
        .vfio_user(&instance.socket, &json!({}))
        .vfio_user(&instance.socket.with_extension("keyboard.sock"), &json!({}))
        .start()
        .unwrap();
    let mut hands = Hands::at(Path::new(printed.lines().next().unwrap()), firmware);
    hands.read("the shell", |text| text.contains("Shell>"));
    hands.type_at("Shell> ", "exit");
    hands.enter("the menu", |text| text.contains("Boot Maintenance Manager"));
    hands.go_down_to("This selection will take you to the Boot Manager");
    hands.enter("the boot manager", |text| {
        text.contains("Boot Manager Menu") && text.contains("EFI Internal Shell")
    });
}

/// Someone at a viewer, who looks at what the firmware makes of a key before the next: it loses keys
/// while it is busy.
struct Hands {
    viewer: Viewer,
    firmware: Firmware,
}

impl Hands {
    fn at(socket: &Path, firmware: Firmware) -> Self {
        let mut viewer = Viewer::connect(socket).unwrap();
        let encodings = [ZRLE, EXTENDED_DESKTOP_SIZE];
        viewer.set_encodings(&encodings).unwrap();
        Self { viewer, firmware }
    }

    /// What is on the screen, without the room around it.
    fn text(&mut self) -> String {
        self.viewer.refresh().unwrap();
        let pixels = self.viewer.pixels.clone();
        let screen = Screen::from_pixels(self.viewer.width as u32, pixels);
        let lines = self.firmware.text(&screen);
        let lines: Vec<_> = lines.iter().map(|line| line.trim_end()).collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// Whether the screen becomes so within a time.
    fn sees(&mut self, limit: Duration, is_so: impl Fn(&str) -> bool) -> bool {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if is_so(&self.text()) {
                return true;
            }
            thread::sleep(Duration::from_millis(200));
        }
        false
    }

    fn read(&mut self, what: &str, is_so: impl Fn(&str) -> bool) {
        if !self.sees(LIMIT, is_so) {
            panic!("{what} was not shown, but {}", self.text());
        }
    }

    /// Presses RETURN, for something to be shown; again if nothing comes of it for long.
    fn enter(&mut self, what: &str, is_so: impl Fn(&str) -> bool) {
        let is_shown = (0..3).any(|_| {
            self.viewer.tap(RETURN).unwrap();
            self.sees(LIMIT / 3, &is_so)
        });
        assert!(is_shown, "{what} was not shown, but {}", self.text());
    }

    /// Types a line, until it stands there as it was typed.
    fn type_at(&mut self, prompt: &str, line: &str) {
        let whole = format!("{prompt}{line}");
        let is_last = |text: &str, wanted: &str| {
            let last = text.lines().next_back().unwrap_or_default();
            let rest = last.strip_prefix(wanted.trim_end());
            // Behind it is a cursor, now and then.
            rest.is_some_and(|rest| rest.trim_start().chars().count() < 2)
        };
        for _ in 0..TRIES {
            for c in line.chars() {
                self.viewer.tap(c.into()).unwrap();
                thread::sleep(KEY);
            }
            if self.sees(REACTION, |text| is_last(text, &whole)) {
                return;
            }
            self.viewer.tap(ESCAPE).unwrap();
            self.sees(REACTION, |text| is_last(text, prompt));
        }
        panic!("{line:?} cannot be typed, but {}", self.text());
    }

    /// Goes down a menu until what stands beside it tells of the right entry.
    fn go_down_to(&mut self, purpose: &str) {
        for _ in 0..TRIES {
            if beside(&self.text()).contains(purpose) {
                return;
            }
            let before = beside(&self.text());
            self.viewer.tap(DOWN).unwrap();
            self.sees(REACTION, |text| beside(text) != before);
        }
        panic!("{purpose:?} was not come to, but {}", self.text());
    }
}

/// What stands right of a menu, in one line.
fn beside(text: &str) -> String {
    let lines = text.lines().map(|line| line.chars().skip(MENU).collect());
    let lines: Vec<String> = lines.collect();
    let words: Vec<_> = lines
        .iter()
        .flat_map(|line| line.split_whitespace())
        .collect();
    words.join(" ")
}
