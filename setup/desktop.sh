# What guests with a picture of their own boot: OVMF, the firmware, and a tree of
# weston, a Wayland compositor, with a terminal. Nothing of it is installed.
# shellcheck shell=bash

DESKTOP_DIR=$CACHE/desktop-1

# weston, what brings it a keyboard, and the libraries of both. It depends on
# nine times as much, for other ways to show a picture than to draw it into
# memory: that is not fetched, and nothing that is started here asks for it.
DESKTOP_PACKAGES=(
    base-files dash udev weston libweston-14-0
    libinput10 libinput-bin xkb-data fonts-dejavu-mono fontconfig-config
    libc6 libacl1 libatomic1 libaudit1 libblkid1 libbrotli1 libbz2-1.0 libcairo2
    libcap-ng0 libcap2 libcrypt1 libdatrie1 libdisplay-info2 libdrm2 libevdev2
    libexpat1 libffi8 libfontconfig1 libfreetype6 libfribidi0 libgbm1
    libglib2.0-0t64 libgraphite2-3 libgudev-1.0-0 libharfbuzz0b libjpeg62-turbo
    libkmod2 libmount1 libmtdev1t64 libpam0g libpango-1.0-0 libpangocairo-1.0-0
    libpangoft2-1.0-0 libpcre2-8-0 libpixman-1-0 libpng16-16t64 libseat1
    libseccomp2 libselinux1 libsharpyuv0 libssl3t64 libsystemd-shared libsystemd0
    libthai-data libthai0 libudev1 libva-drm2 libva2 libwacom9 libwayland-client0
    libwayland-cursor0 libwayland-server0 libwebp7 libx11-6 libxau6 libxcb-render0
    libxcb-shm0 libxcb1 libxdmcp6 libxext6 libxkbcommon0 libxrender1 libzstd1
    zlib1g
)

# need_desktop: sets VGPUD_DESKTOP to a folder with `ovmf` and `weston`, which is
# made if it is not there.
need_desktop() {
    choose_desktop
    if [[ -z $VGPUD_DESKTOP ]]; then
        need_apt
        with_lock fetch_desktop
        choose_desktop
    fi
    export VGPUD_DESKTOP
}

# choose_desktop: the one asked for, else the one in the cache; or nothing.
choose_desktop() {
    [[ -z ${VGPUD_DESKTOP-} ]] || return 0
    VGPUD_DESKTOP=
    [[ ! -d $DESKTOP_DIR ]] || VGPUD_DESKTOP=$DESKTOP_DIR
}

fetch_desktop() {
    # Another ./x may have made it while this one waited for the lock.
    [[ ! -d $DESKTOP_DIR ]] || return 0
    new_scratch
    step "reading the package lists of Debian $SUITE" open_archive
    step "unpacking OVMF and weston" make_desktop
    rm -rf -- "$SCRATCH"
}

make_desktop() {
    local made=$SCRATCH/desktop archives=$SCRATCH/apt/archives deb
    fetch_debs download ovmf "${DESKTOP_PACKAGES[@]}"
    mkdir -p -- "$made"/{ovmf,weston}
    dpkg-deb --fsys-tarfile "$archives"/ovmf_*.deb | tar -x -C "$made/ovmf" --strip-components=4 \
        ./usr/share/OVMF/OVMF_CODE_4M.fd ./usr/share/OVMF/OVMF_VARS_4M.fd
    rm -- "$archives"/ovmf_*.deb
    # Its links from /bin to /usr/bin and the like come before what goes through
    # them.
    unpack_deb "$archives"/base-files_*.deb "$made/weston"
    for deb in "$archives"/*.deb; do
        unpack_deb "$deb" "$made/weston"
    done
    configure_desktop "$made/weston"
    rm -rf -- "$archives"/*.deb
    mv -T -- "$made" "$DESKTOP_DIR"
}

# configure_desktop TREE: in the place of the packages' scripts.
configure_desktop() {
    local tree=$1
    # Names of hardware that no guest of ours has.
    rm -rf -- "$tree"/usr/lib/udev/hwdb.d
    echo 'root:x:0:0:root:/root:/bin/sh' >"$tree/etc/passwd"
    printf '%s:x:%s:\n' root 0 tty 5 input 101 video 44 >"$tree/etc/group"
    mkdir -p -- "$tree"/{dev,proc,sys,run,tmp,root}
}
