# What the guests boot: Debian's stable kernel with its modules, and busybox.
# shellcheck shell=bash

# choose_guest: sets the guest's variables, or leaves empty what is yet to be
# fetched.
choose_guest() {
    local modules
    if [[ -n ${VGPUD_GUEST_KERNEL-} ]]; then
        [[ -r $VGPUD_GUEST_KERNEL ]] ||
            die "VGPUD_GUEST_KERNEL=$VGPUD_GUEST_KERNEL is no readable file"
        [[ -d ${VGPUD_GUEST_MODULES-} ]] ||
            die "VGPUD_GUEST_KERNEL is set, so VGPUD_GUEST_MODULES must name its /lib/modules/VERSION"
    else
        VGPUD_GUEST_KERNEL=
        VGPUD_GUEST_MODULES=
        for modules in "$GUEST_DIR"/modules/*/; do
            [[ -d $modules ]] || continue
            VGPUD_GUEST_KERNEL=$GUEST_DIR/vmlinuz
            VGPUD_GUEST_MODULES=${modules%/}
        done
    fi
    if [[ -z ${VGPUD_BUSYBOX-} ]]; then
        VGPUD_BUSYBOX=
        [[ ! -x $GUEST_DIR/busybox ]] || VGPUD_BUSYBOX=$GUEST_DIR/busybox
    fi
}

fetch_guest() {
    local image dir=$SCRATCH/guest archives=$SCRATCH/apt/archives
    image=$(kernel_package linux-image-amd64)
    say "guest kernel: $image of $SUITE"
    fetch_debs download "$image" busybox-static
    mkdir -p -- "$dir/modules"
    unpack_kernel "$dir" "$archives/$image"_*.deb
    unpack_busybox "$dir" "$archives"/busybox-static_*.deb
    rm -rf -- "$GUEST_DIR"
    mv -T -- "$dir" "$GUEST_DIR"
}

# kernel_package NAME: the versioned package that the generic kernel's name
# stands for today. The cloud flavour has no graphics.
kernel_package() {
    local name=$1 package
    package=$(private apt-cache depends --no-recommends --no-suggests "$name" |
        sed -nE 's/^ *Depends: (linux-image-[0-9][^ ]*)$/\1/p' | head -n 1)
    [[ -n $package ]] || die "$name of $SUITE names no kernel"
    echo "$package"
}

# unpack_kernel DIR DEB...: modules for hardware that no guest of ours has are left
# packed: they are two thirds of the tree.
unpack_kernel() {
    local dir=$1 tree=$SCRATCH/kernel deb modules
    shift
    mkdir -p -- "$tree"
    for deb in "$@"; do
        unpack_kernel_deb "$deb" "$tree"
    done
    for modules in "$tree"/lib/modules/* "$tree"/usr/lib/modules/*; do
        [[ ! -d $modules/kernel ]] || mv -- "$modules" "$dir/modules/"
    done
    # Newer packages have the kernel beside its modules.
    mv -- "$tree"/boot/vmlinuz-* "$dir/vmlinuz" 2>/dev/null ||
        mv -- "$dir"/modules/*/vmlinuz "$dir/vmlinuz"
    rm -rf -- "$tree"
    [[ -n $(ls -A "$dir/modules") ]] || die "${1##*/} holds no modules"
}

unpack_kernel_deb() {
    local deb=$1 tree=$2
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$tree" --wildcards \
        --exclude='*/kernel/sound' --exclude='*/kernel/drivers/net/*' \
        --exclude='*/kernel/drivers/media' --exclude='*/kernel/drivers/infiniband' \
        --exclude='*/kernel/drivers/scsi' --exclude='*/kernel/drivers/iio' \
        --exclude='*/kernel/drivers/gpu/drm/amd' --exclude='*/kernel/drivers/gpu/drm/i915' \
        --exclude='*/kernel/drivers/gpu/drm/xe' --exclude='*/kernel/drivers/gpu/drm/nouveau' \
        --exclude='*/kernel/drivers/gpu/drm/radeon' --exclude='*/kernel/net/wireless' \
        --exclude='*/usr/share/*'
}

unpack_busybox() {
    local dir=$1 deb=$2
    mkdir -p -- "$SCRATCH/busybox"
    dpkg-deb -x "$deb" "$SCRATCH/busybox"
    find "$SCRATCH/busybox" -path '*/bin/busybox' -exec mv -t "$dir" -- {} +
    [[ -x $dir/busybox ]] || die "${deb##*/} holds no busybox"
}
