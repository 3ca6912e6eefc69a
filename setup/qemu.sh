# The QEMU that the guests run on.
# shellcheck shell=bash

has_vfio_user() { "$1" -device help 2>/dev/null | grep -q '"vfio-user-pci"'; }

# choose_qemu: sets VGPUD_QEMU to the one asked for, else one on the PATH that
# will do, else the fetched one; or leaves it empty when it is yet to be fetched.
choose_qemu() {
    if [[ -n ${VGPUD_QEMU-} ]]; then
        [[ $VGPUD_QEMU == "$QEMU_DIR/qemu" ]] || has_vfio_user "$VGPUD_QEMU" ||
            die "VGPUD_QEMU=$VGPUD_QEMU does not run, or has no vfio-user-pci (QEMU 10.1 is the first that has)"
        return
    fi
    local on_path
    if on_path=$(command -v qemu-system-x86_64) && has_vfio_user "$on_path"; then
        VGPUD_QEMU=$on_path
    elif [[ -x $QEMU_DIR/qemu ]]; then
        VGPUD_QEMU=$QEMU_DIR/qemu
    else
        VGPUD_QEMU=
    fi
}

# fetch_qemu: unpacks the backported QEMU with all it is linked against, and
# keeps what a guest of ours can use: 70 MB of 170.
fetch_qemu() {
    local full=$SCRATCH/qemu-full lean=$SCRATCH/qemu deb
    fetch_debs install --download-only -t "$SUITE-backports" qemu-system-x86
    mkdir -p -- "$full" "$lean"/{bin,lib/qemu,share}
    for deb in "$SCRATCH"/apt/archives/*.deb; do
        dpkg-deb -x "$deb" "$full"
    done
    copy_qemu "$full" "$lean"
    write_wrapper >"$lean/qemu"
    chmod +x "$lean/qemu"
    has_vfio_user "$lean/qemu" ||
        die "the QEMU of $SUITE-backports does not run here, or has no vfio-user-pci"
    rm -rf -- "$QEMU_DIR"
    mv -T -- "$lean" "$QEMU_DIR"
    rm -rf -- "$full" "$SCRATCH"/apt/archives/*.deb
}

copy_qemu() {
    local full=$1 lean=$2 libs=$1/usr/lib/x86_64-linux-gnu file
    cp -- "$full/usr/bin/qemu-system-x86_64" "$lean/bin/"
    cp -L -- "$libs/ld-linux-x86-64.so.2" "$lean/lib/"
    # The display devices are modules. Those of the sound and remote-desktop
    # kind want libraries we have no use for.
    for file in "$libs"/qemu/{accel-,hw-display-}*.so; do
        [[ ! -e $file ]] || cp -- "$file" "$lean/lib/qemu/"
    done
    for file in "$lean/bin/qemu-system-x86_64" "$lean"/lib/qemu/*.so; do
        libraries_of "$file" "$libs"
    done | sort -u | xargs -d '\n' cp -L -t "$lean/lib" --
    for file in bios-256k.bin kvmvapic.bin linuxboot_dma.bin multiboot_dma.bin pvh.bin \
        vgabios-stdvga.bin vgabios-virtio.bin vgabios-bochs-display.bin vgabios-ramfb.bin; do
        find "$full/usr/share/qemu" "$full/usr/share/seabios" -name "$file" \
            -exec cp -L -t "$lean/share" -- {} + 2>/dev/null || true
    done
    [[ -e $lean/share/bios-256k.bin ]] || die "the unpacked QEMU has no bios-256k.bin"
}

# libraries_of FILE DIR: the shared libraries FILE is linked against, all of
# which DIR must hold: one taken from the machine would be of another Debian.
libraries_of() {
    "$2/ld-linux-x86-64.so.2" --library-path "$2" --list "$1" |
        awk -v dir="$2/" '
            $2 == "=>" && index($3, dir) == 1 { print $3; next }
            $2 == "=>" { print "no library " $1 " for QEMU" > "/dev/stderr"; exit 1 }'
}

# The machine may have an older C library than the one QEMU was built with, so
# QEMU is started by the dynamic linker it came with.
write_wrapper() {
    cat <<'WRAPPER'
#!/bin/sh
here=${0%/*}
export QEMU_MODULE_DIR="$here/lib/qemu"
exec "$here/lib/ld-linux-x86-64.so.2" --library-path "$here/lib" \
    --argv0 qemu-system-x86_64 "$here/bin/qemu-system-x86_64" -L "$here/share" "$@"
WRAPPER
}
