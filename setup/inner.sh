# A guest inside a guest: the QEMU that is shared with the outer one, and the
# inner one's own program.
# shellcheck shell=bash

# need_inner_qemu: sets VGPUD_INNER_QEMU to a folder with a QEMU that needs
# nothing outside of it. One from the PATH will not do.
need_inner_qemu() {
    if [[ -z ${VGPUD_INNER_QEMU-} ]]; then
        if [[ ! -x $QEMU_DIR/qemu ]]; then
            need_apt
            with_lock fetch_inner_qemu
        fi
        VGPUD_INNER_QEMU=$QEMU_DIR
    fi
    export VGPUD_INNER_QEMU
}

fetch_inner_qemu() {
    # Another ./x may have made it while this one waited for the lock.
    [[ ! -x $QEMU_DIR/qemu ]] || return 0
    new_scratch
    step "reading the package lists of Debian $SUITE" open_archive
    step "unpacking QEMU" fetch_qemu
    rm -rf -- "$SCRATCH"
}

# build_micro: the smallest guest, into the folder of the guests' programs. Its
# note is kept beside its text, or the linker puts it beyond a small memory.
build_micro() {
    local made=$TARGET/$GUEST_TRIPLE/release/micro
    mkdir -p -- "${made%/*}"
    cc -m32 -nostdlib -static -no-pie -o "$made" "$ROOT/e2e/micro/micro.S" \
        -Wl,-e,start,-Ttext=0x100000,--section-start=.note.pvh=0x110000 \
        -Wl,--build-id=none,-z,noexecstack
}
