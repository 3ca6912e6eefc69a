# What is built and tested, and how.
# shellcheck shell=bash

# shellcheck disable=SC2034 # setup/machine.sh exports what lies there
TARGET=$(realpath -m -- "${CARGO_TARGET_DIR:-$ROOT/target}")
GUEST_TRIPLE=x86_64-unknown-linux-gnu

# A CI run must test what was committed, not what the registry has since.
LOCKED=()
[[ -z ${CI-} ]] || LOCKED=(--locked)

build_programs() {
    step "building the programs" \
        cargo build -q "${LOCKED[@]}" --release --workspace --exclude guest --exclude physical
    # Static, since the guest has no libraries; a RUSTFLAGS from outside would
    # silently win over the setting.
    step "building the guest programs" env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS \
        cargo build -q "${LOCKED[@]}" --release -p guest -p physical --target "$GUEST_TRIPLE" \
        --config "target.$GUEST_TRIPLE.rustflags=[\"-Ctarget-feature=+crt-static\"]"
    step "building the guest of a guest" build_micro
}

# Unit and property tests are built in the dev profile, whose overflow checks
# and debug assertions are half of what the property tests are for.
unit_tests() {
    # The tests of the daemon and of the console start the programs that serve a vGPU.
    step "building the worker" cargo build -q "${LOCKED[@]}" -p worker -p console
    step "unit and property tests" \
        cargo test "${LOCKED[@]}" --no-fail-fast --workspace --exclude e2e "$@"
}

# Every order of events between threads that pin guest memory and one that
# unmaps it, on the code that runs: loom's locks take the place of std's.
loom_tests() {
    step "every order of pin and unmap, under loom" \
        env RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="$TARGET/loom" \
        cargo test -q "${LOCKED[@]}" --release -p mdev --lib loom
}

# What is unsafe here is mappings and signals, which Miri does not emulate; what
# stands on them it can check where the component is installed.
miri_tests() {
    if cargo miri --version >/dev/null 2>&1; then
        step "page table and dirty pages, under Miri" \
            env MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=8 \
            cargo miri test -q "${LOCKED[@]}" -p mdev --lib dma::page_table
    else
        say "NOT RUN: Miri, which this toolchain does not have (rustup component add miri)"
    fi
}

# Whole guests run the release programs, and the harness shares their build. A
# guest keeps one core busy, so there are two at a time whatever the machine.
guest_tests() {
    RUST_TEST_THREADS=${RUST_TEST_THREADS:-2} step "whole-guest tests" \
        cargo test "${LOCKED[@]}" --no-fail-fast --release -p e2e "$@"
}
