# The newest kernel that Debian has for its stable release, from its backports:
# guests boot it too, where what matters is which driver they have.
# shellcheck shell=bash

NEWER_KERNEL_DIR=$CACHE/newer-kernel-1

# need_newer_kernel: sets VGPUD_NEWER_KERNEL to a folder with `vmlinuz` and
# `modules/VERSION`, which is made if it is not there.
need_newer_kernel() {
    choose_newer_kernel
    if [[ -z $VGPUD_NEWER_KERNEL ]]; then
        need_apt
        with_lock fetch_newer_kernel
        choose_newer_kernel
    fi
    export VGPUD_NEWER_KERNEL
}

# choose_newer_kernel: the one asked for, else the one in the cache; or nothing.
choose_newer_kernel() {
    [[ -z ${VGPUD_NEWER_KERNEL-} ]] || return 0
    VGPUD_NEWER_KERNEL=
    [[ ! -d $NEWER_KERNEL_DIR ]] || VGPUD_NEWER_KERNEL=$NEWER_KERNEL_DIR
}

fetch_newer_kernel() {
    # Another ./x may have made it while this one waited for the lock.
    [[ ! -d $NEWER_KERNEL_DIR ]] || return 0
    new_scratch
    step "reading the package lists of Debian $SUITE" open_archive
    step "unpacking a newer kernel" make_newer_kernel
    rm -rf -- "$SCRATCH"
}

make_newer_kernel() {
    local image made=$SCRATCH/newer archives=$SCRATCH/apt/archives packages
    image=$(kernel_package "linux-image-amd64/$SUITE-backports")
    say "newer kernel: $image of $SUITE-backports"
    mapfile -t packages < <(kernel_parts "$image")
    fetch_debs download "${packages[@]}"
    mkdir -p -- "$made/modules"
    unpack_kernel "$made" "$archives"/linux-*.deb
    rm -rf -- "$archives"/*.deb
    mv -T -- "$made" "$NEWER_KERNEL_DIR"
}

# kernel_parts IMAGE: it, and the packages of the same kernel that it has parts
# in: newer ones have modules and all else apart.
kernel_parts() {
    echo "$1"
    private apt-cache depends --no-recommends --no-suggests "$1" |
        sed -n 's/^ *Depends: //p' | { grep -F -- "-${1#linux-image-}" || true; }
}
