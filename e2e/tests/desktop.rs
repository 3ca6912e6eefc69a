//! A desktop in a guest: weston on a GPU of ours, with Debian's kernel.

use std::time::{Duration, Instant};

use e2e::{Programs, Screen, Vgpu, desktop};
use serde_json::json;

/// How long a picture may take to come.
const LIMIT: Duration = Duration::from_secs(60);

/// Whether it is the desktop, with nothing open: a panel with an icon, and what is behind windows.
fn is_empty_desktop(screen: &Screen) -> bool {
    let (width, height) = desktop::SIZE;
    let panel = desktop::PANEL_HEIGHT;
    screen.size() == desktop::SIZE
        && screen.pixel(width / 2, panel / 2) == desktop::PANEL
        && (0..panel * 2).any(|x| screen.pixel(x, panel / 2) != desktop::PANEL)
        && (panel + 1..height)
            .all(|y| (0..width).all(|x| screen.pixel(x, y) == desktop::BACKGROUND))
}

#[test]
fn a_compositor_of_debians_shows_its_desktop() {
    let programs = Programs::from_env().unwrap();
    let gpu = Vgpu::run(&programs, "gpu-2d-hd", &[]).unwrap();
    let mut vm = desktop::machine(&programs)
        .unwrap()
        .vfio_user(&gpu.socket(), &json!({}))
        .boot()
        .unwrap();
    desktop::start(&mut vm.guest).unwrap();
    let start = Instant::now();
    while !gpu
        .screenshot()
        .is_ok_and(|screen| is_empty_desktop(&screen))
    {
        if start.elapsed() > LIMIT {
            let log = vm.guest.sh("cat /tmp/weston.log").unwrap();
            let screen = gpu.screenshot().unwrap();
            panic!(
                "{:?} {:x} {:x} {log}",
                screen.size(),
                screen.pixel(512, 16),
                screen.pixel(512, 400)
            );
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(gpu.counter("faults").unwrap(), 0);
}
