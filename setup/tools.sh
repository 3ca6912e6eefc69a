# The tools that lint needs beside the Rust toolchain, and lint itself.
# shellcheck shell=bash

# need_deny: puts cargo-deny on the PATH, building it into the cache if it is
# not there.
need_deny() {
    PATH=$CACHE/tools/bin:$PATH
    command -v cargo-deny >/dev/null || with_lock build_tool cargo-deny '^0.20'
}

# need_gpio: a vfio-user server that this project did not write, for the suite
# to find fault with.
need_gpio() {
    VGPUD_GPIO=$CACHE/tools/bin/gpio
    [[ -x $VGPUD_GPIO ]] || with_lock build_tool vfio_user '=0.1.7' gpio
    export VGPUD_GPIO
}

# need_cargo_deb: puts cargo-deb on the PATH, building it into the cache if it is
# not there.
need_cargo_deb() {
    PATH=$CACHE/tools/bin:$PATH
    command -v cargo-deb >/dev/null || with_lock build_tool cargo-deb '^3.8'
}

# build_tool CRATE VERSION [EXAMPLE]: the crate's program of its own name, or
# that example; unoptimised, since it runs for a second and builds for minutes.
build_tool() {
    local crate=$1 version=$2 name=${3-$1}
    [[ ! -x $CACHE/tools/bin/$name ]] || return 0
    new_scratch
    step "building $name, once" cargo install -q --locked "$crate" --version "$version" \
        ${3+--example "$3"} --root "$CACHE/tools" --target-dir "$SCRATCH/target" \
        --config profile.release.opt-level=0 --config profile.release.lto=false \
        --config profile.release.debug=false --config profile.release.codegen-units=16
    rm -rf -- "$SCRATCH"
}

lint() {
    local failed=()
    step "fmt" cargo fmt --all --check || failed+=(fmt)
    step "clippy" cargo clippy "${LOCKED[@]}" --workspace --all-targets -- -D warnings ||
        failed+=(clippy)
    RUSTDOCFLAGS="-D warnings" step "doc" cargo doc "${LOCKED[@]}" --workspace --no-deps ||
        failed+=(doc)
    need_deny
    step "deny" deny || failed+=(deny)
    ((${#failed[@]} == 0)) || die "lint failed: ${failed[*]}"
}

# The advisories' database is fetched from outside the package registry, which
# not every machine can reach. A lint that cannot ask must not pretend it has.
deny() {
    local checks=(licenses bans sources)
    if timeout 120 cargo deny fetch db >/dev/null 2>&1; then
        checks+=(advisories)
    else
        say "SKIPPED: deny's advisories, since their database cannot be fetched here"
    fi
    cargo deny check "${checks[@]}"
}
