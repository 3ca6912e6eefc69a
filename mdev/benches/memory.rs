//! How fast guest memory is found and copied, in this process: `cargo bench -p mdev`.
//!
//! Nanoseconds where a peer's figure is in nanoseconds; else ratios inside this run. The figures
//! go to `target/bench/memory.json`, from where `./x bench` takes them into its summary.

use std::fs;
use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::Instant;

use mdev::dma::view::Access;
use mdev::dma::{DmaLimits, GuestMemory, Iova, IovaRange};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use serde_json::{Value, json};
use vfu::wire::dma::{DmaFlags, DmaMap};

const PAGE: u64 = 4096;

/// Rounds of each measurement; the median counts.
const ROUNDS: usize = 5;

/// Translations in a round.
const LOOKUPS: u64 = 2_000_000;

/// Between two slices there is a page that is not mapped.
const STRIDE: u64 = 2 * PAGE;

fn main() {
    let mut lines = Vec::new();
    for (count, target) in [
        (1, None),
        (1024, None),
        (65_000, Some(60.0)),
        (1_000_000, Some(150.0)),
    ] {
        let memory = mapped(count);
        lines.push(at_random(&memory, count, target));
        if count == 65_000 {
            lines.push(last_used(&memory));
            lines.push(two_threads(&memory, count));
        }
        if count == 1_000_000 {
            lines.push(bytes_each(&memory, count));
        }
    }
    lines.extend([4 << 10, 64 << 10, 1 << 20].map(copy_out));
    save(&lines);
}

/// Guest memory of `count` slices, one page each, of one file.
fn mapped(count: u64) -> GuestMemory {
    let fd: OwnedFd = memfd_create("bench", MemfdFlags::CLOEXEC).expect("a memfd");
    // The pages are not touched, so they take no memory.
    ftruncate(&fd, count * PAGE).expect("its size");
    let memory = GuestMemory::standing_alone(DmaLimits::default());
    for slice in 0..count {
        let map = DmaMap {
            flags: DmaFlags::READ | DmaFlags::WRITE,
            offset: slice * PAGE,
            iova: slice * STRIDE,
            size: PAGE,
        };
        let fd = fd.try_clone().expect("a descriptor");
        memory.map(&map, Some(fd)).expect("a mapping");
    }
    memory
}

/// Numbers below `bound` that no predictor knows.
fn noise(seed: u64, bound: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((u128::from(state) * u128::from(bound)) >> 64) as u64
    }
}

/// Translates addresses in random slices, and returns nanoseconds for one.
fn translate_at_random(memory: &GuestMemory, count: u64, seed: u64) -> f64 {
    let mut next = noise(seed, count);
    let view = memory.view().expect("a view");
    let start = Instant::now();
    for _ in 0..LOOKUPS {
        let slice = next();
        let address = Iova(slice * STRIDE + (slice & (PAGE - 1)));
        black_box(view.translate(black_box(address))).expect("a mapping");
    }
    start.elapsed().as_nanos() as f64 / LOOKUPS as f64
}

fn at_random(memory: &GuestMemory, count: u64, target: Option<f64>) -> Value {
    let ns = median((0..ROUNDS).map(|round| translate_at_random(memory, count, round as u64 + 9)));
    say(
        &format!("a random address, {count} mappings"),
        ns,
        "ns",
        target,
    )
}

fn last_used(memory: &GuestMemory) -> Value {
    let ns = median((0..ROUNDS).map(|_| {
        let view = memory.view().expect("a view");
        let start = Instant::now();
        for n in 0..LOOKUPS {
            let address = Iova(STRIDE + (n & (PAGE - 1)));
            black_box(view.translate(black_box(address))).expect("a mapping");
        }
        start.elapsed().as_nanos() as f64 / LOOKUPS as f64
    }));
    say("an address in the last mapping", ns, "ns", Some(5.0))
}

/// Copies a word out at random addresses: with each its own view, so that the locks count.
fn copy_words(memory: &GuestMemory, count: u64, seed: u64) -> f64 {
    let mut next = noise(seed, count);
    let mut word = [0; 8];
    let start = Instant::now();
    for _ in 0..LOOKUPS / 4 {
        let address = Iova(next() * STRIDE);
        let view = memory.view().expect("a view");
        let range = IovaRange::new(address, 8).expect("a range");
        let mut slices = view.slices(range, Access::Read);
        let slice = slices.next().expect("one").expect("mapped");
        slice.copy_to(&mut word);
        black_box(&word);
    }
    (LOOKUPS / 4) as f64 / start.elapsed().as_secs_f64()
}

fn two_threads(memory: &GuestMemory, count: u64) -> Value {
    // A few slices, so that the memory behind them is not what is measured.
    let count = count.min(512);
    let ratio = median((0..ROUNDS).map(|_| {
        let one = copy_words(memory, count, 1);
        let two: f64 = thread::scope(|scope| {
            let threads = [1, 2].map(|seed| scope.spawn(move || copy_words(memory, count, seed)));
            threads
                .map(|thread| thread.join().expect("it ends"))
                .iter()
                .sum()
        });
        two / one
    }));
    at_least("two threads against one", ratio, 1.8)
}

fn bytes_each(memory: &GuestMemory, count: u64) -> Value {
    let bytes = memory.view().expect("a view").table().bytes() as f64 / count as f64;
    say("a mapping, of 1000000", bytes, "bytes", Some(200.0))
}

/// Copies out of guest memory against `memcpy` of the same memory.
fn copy_out(len: usize) -> Value {
    const SPAN: usize = 8 << 20;
    let fd: OwnedFd = memfd_create("bench", MemfdFlags::CLOEXEC).expect("a memfd");
    ftruncate(&fd, SPAN as u64).expect("its size");
    let memory = GuestMemory::standing_alone(DmaLimits::default());
    let map = DmaMap {
        flags: DmaFlags::READ | DmaFlags::WRITE,
        offset: 0,
        iova: 0,
        size: SPAN as u64,
    };
    memory.map(&map, Some(fd)).expect("a mapping");
    memory.write(Iova(0), &vec![1; SPAN]).expect("written");
    let plain = vec![1_u8; SPAN];
    let mut out = vec![0_u8; len];
    let times = (1 << 28) / len;
    let place = |n: usize| (n * len) % SPAN;
    let ratio = median((0..ROUNDS).map(|_| {
        let start = Instant::now();
        for n in 0..times {
            memory.read(Iova(place(n) as u64), &mut out).expect("read");
            black_box(&out);
        }
        let ours = start.elapsed();
        let start = Instant::now();
        for n in 0..times {
            out.copy_from_slice(&plain[place(n)..place(n) + len]);
            black_box(&out);
        }
        start.elapsed().as_secs_f64() / ours.as_secs_f64()
    }));
    at_least(&format!("{len} bytes copied out, of memcpy"), ratio, 0.9)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn say(what: &str, value: f64, unit: &str, target: Option<f64>) -> Value {
    let verdict = target.map(|target| if value <= target { "met" } else { "MISSED" });
    let wanted = target.map_or(String::new(), |target| format!("≤ {target}"));
    let word = verdict.unwrap_or_default();
    println!("  {what:<44} {value:8.2} {unit:<6} {wanted} {word}");
    json!({ "name": what, "value": value, "unit": unit, "target": target, "verdict": verdict })
}

fn at_least(what: &str, ratio: f64, target: f64) -> Value {
    let verdict = if ratio >= target { "met" } else { "MISSED" };
    println!("  {what:<44} {ratio:8.2}        ≥ {target} {verdict}");
    json!({ "name": what, "value": ratio, "unit": "ratio", "at_least": target, "verdict": verdict })
}

fn save(lines: &[Value]) {
    // Cargo's folder for such things is TARGET/tmp, wherever TARGET is.
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    let text = serde_json::to_string_pretty(lines).expect("JSON");
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(dir.join("memory.json"), text + "\n"))
        .expect("the figures are saved");
}
