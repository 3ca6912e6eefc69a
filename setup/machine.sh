# What every other part uses: messages, timed steps, the cache and its lock, and
# what the machine itself must have.
# shellcheck shell=bash

CACHE=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/vgpud

say() { printf 'vgpud: %s\n' "$*"; }

die() {
    printf 'vgpud: error: %s\n' "$*" >&2
    exit 1
}

# step WHAT COMMAND...: runs the command, and says how long it took. `set -e`
# must stay on inside the command, so nothing here may make it a condition: a
# failure either ends the script, and leave() tells of it, or the caller has put
# us in a condition of its own and gets the status.
STEP=
step() {
    local start=$EPOCHREALTIME status took
    STEP=$1
    say "$STEP ..."
    shift
    "$@"
    status=$?
    took=$(((${EPOCHREALTIME/[.,]/} - ${start/[.,]/}) / 100000))
    say "$STEP: $( ((status == 0)) && echo took || echo FAILED after) $((took / 10)).$((took % 10)) s"
    STEP=
    return "$status"
}

# leave: the last thing that is done, however the script ends.
SCRATCH=
leave() {
    local status=$?
    [[ -z $SCRATCH ]] || rm -rf -- "$SCRATCH"
    [[ $status == 0 || -z $STEP ]] || say "$STEP: FAILED" >&2
}
trap leave EXIT

need_x86_64() {
    [[ $(uname -sm) == "Linux x86_64" ]] ||
        die "this is $(uname -sm); vgpud is built and tested on Linux x86_64 only"
}

# A C compiler links the Rust programs, and libc.a goes into the static ones of
# the guest.
need_compiler() {
    command -v cargo >/dev/null ||
        die "cargo is missing: install Rust (rust-version in Cargo.toml says which)"
    have_compiler && return
    install_packages "a C compiler with a static libc" "gcc, glibc-static" gcc libc6-dev
    have_compiler || die "gcc was installed, yet cc finds no libc.a"
}

have_compiler() {
    # -print-file-name answers with a path only for a file that is there.
    command -v cc >/dev/null && [[ $(cc -print-file-name=libc.a) == /* ]]
}

# What fuzzes is linked with libFuzzer, which is C++.
need_cxx_compiler() {
    command -v c++ >/dev/null && return
    install_packages "a C++ compiler" "gcc-c++" g++
    command -v c++ >/dev/null || die "g++ was installed, yet there is no c++"
}

# install_packages WHAT ELSEWHERE PACKAGE...: the compilers and Python are the
# only packages that are installed, thus the only reason to need root. ELSEWHERE
# is what they are called where there is no apt.
install_packages() {
    local what=$1 elsewhere=$2 as_root=env
    shift 2
    command -v apt-get >/dev/null ||
        die "$what is missing: install it ($elsewhere, for one)"
    if ((EUID != 0)); then
        command -v sudo >/dev/null ||
            die "$what is missing, and installing it takes root: apt-get install $*"
        as_root=sudo
    fi
    step "installing $*" apt_install "$as_root" "$@"
}

# apt_install env|sudo PACKAGE...
apt_install() {
    local as_root=$1
    shift
    "$as_root" apt-get -qq update &&
        "$as_root" env DEBIAN_FRONTEND=noninteractive \
            apt-get -qq install --no-install-recommends "$@"
}

# with_lock COMMAND...: runs it while no other ./x touches the cache.
with_lock() {
    mkdir -p -- "$CACHE"
    local lock
    exec {lock}>"$CACHE/lock"
    if ! flock --nonblock "$lock"; then
        say "another ./x is at work on $CACHE; waiting for it"
        flock "$lock"
    fi
    # Whoever holds the lock is alone, so what lies here was left by a crash.
    rm -rf -- "$CACHE"/tmp.*
    "$@"
    exec {lock}>&-
}

# new_scratch: sets SCRATCH to an empty directory in the cache, which goes away
# when the script ends. Things are made there and moved into place when whole.
new_scratch() { SCRATCH=$(mktemp -d -- "$CACHE/tmp.XXXXXX"); }

# The recipes' numbers: one goes up when what is unpacked changes, and the old
# one is then fetched anew.
QEMU_DIR=$CACHE/qemu-1
GUEST_DIR=$CACHE/guest-1

forget_cache() {
    with_lock rm -rf -- "$QEMU_DIR" "$GUEST_DIR" "$DEBIAN_DIR" "$DESKTOP_DIR" "$NEWER_KERNEL_DIR"
}

# fill_cache: chooses QEMU and the guest's files, fetching what is missing. The
# first look takes no lock, since nearly every run finds all in place.
fill_cache() {
    choose_qemu
    choose_guest
    if [[ -n $VGPUD_QEMU && -n $VGPUD_GUEST_KERNEL && -n $VGPUD_BUSYBOX ]]; then
        return
    fi
    need_apt
    with_lock fetch_missing
    choose_qemu
    choose_guest
}

fetch_missing() {
    # Another ./x may have fetched all while this one waited for the lock.
    choose_qemu
    choose_guest
    [[ -z $VGPUD_QEMU || -z $VGPUD_GUEST_KERNEL || -z $VGPUD_BUSYBOX ]] || return 0
    new_scratch
    step "reading the package lists of Debian $SUITE" open_archive
    [[ -n $VGPUD_QEMU ]] || step "unpacking QEMU" fetch_qemu
    [[ -n $VGPUD_GUEST_KERNEL && -n $VGPUD_BUSYBOX ]] ||
        step "unpacking the guest kernel and busybox" fetch_guest
    rm -rf -- "$SCRATCH"
}

# What the Rust side reads.
EXPORTED=(VGPUD_QEMU VGPUD_GUEST_KERNEL VGPUD_GUEST_MODULES VGPUD_BUSYBOX
    VGPUD_BIN VGPUD_GUEST_BIN VGPUD_ACCEL)

export_env() {
    VGPUD_ACCEL=${VGPUD_ACCEL:-tcg}
    # shellcheck disable=SC2034 # exported by the names above
    VGPUD_BIN=$TARGET/release
    # shellcheck disable=SC2034
    VGPUD_GUEST_BIN=$TARGET/$GUEST_TRIPLE/release
    export "${EXPORTED[@]}"
}
