# A tree of Debian's own programs, for the tests of what they do with ours:
# systemd and dpkg in a guest, mdevctl, libvirt. Its packages are unpacked, and
# none of their scripts run, so that it takes no root; it has what those scripts
# would have made as far as our tests need it, and the database of dpkg.
# shellcheck shell=bash

DEBIAN_DIR=$CACHE/debian-1

# What is wanted, with all it depends on. Nothing is taken for granted: apt
# leaves out what is essential unless it is asked for.
DEBIAN_PACKAGES=(
    base-files base-passwd bash coreutils dash debianutils diffutils dpkg findutils
    grep gzip hostname init-system-helpers kmod libc-bin login mount ncurses-bin
    passwd perl-base procps sed sysvinit-utils tar util-linux
    systemd-sysv udev dbus
    curl man-db groff-base
    mdevctl apparmor
    libvirt-clients libvirt-daemon libvirt-daemon-driver-qemu libvirt-daemon-log
)

# The guests' QEMU is another one, of the backports.
DEBIAN_UNWANTED='^(qemu-system-|ipxe-qemu|seabios)'

# need_debian: sets VGPUD_DEBIAN to the tree, which is made if it is not there.
need_debian() {
    choose_debian
    if [[ -z $VGPUD_DEBIAN ]]; then
        need_apt
        with_lock fetch_debian
        choose_debian
    fi
    export VGPUD_DEBIAN
}

# choose_debian: the one asked for, else the one in the cache; or nothing.
choose_debian() {
    [[ -z ${VGPUD_DEBIAN-} ]] || return 0
    VGPUD_DEBIAN=
    [[ ! -d $DEBIAN_DIR ]] || VGPUD_DEBIAN=$DEBIAN_DIR
}

fetch_debian() {
    # Another ./x may have made it while this one waited for the lock.
    [[ ! -d $DEBIAN_DIR ]] || return 0
    new_scratch
    step "reading the package lists of Debian $SUITE" open_archive
    step "unpacking a tree of Debian $SUITE" make_debian
    rm -rf -- "$SCRATCH"
}

make_debian() {
    local tree=$SCRATCH/debian archives=$SCRATCH/apt/archives deb
    fetch_debs install --download-only "${DEBIAN_PACKAGES[@]}"
    mkdir -p -- "$tree"
    # Its links from /bin to /usr/bin and the like come before what goes through
    # them.
    unpack_deb "$archives"/base-files_*.deb "$tree"
    mkdir -p -- "$tree"/var/lib/dpkg/{info,updates,triggers}
    echo 1 >"$tree/var/lib/dpkg/info/format"
    : >"$tree/var/lib/dpkg/status"
    for deb in "$archives"/*.deb; do
        [[ ! ${deb##*/} =~ $DEBIAN_UNWANTED ]] || continue
        unpack_deb "$deb" "$tree"
        register_deb "$deb" "$tree/var/lib/dpkg"
    done
    configure_debian "$tree"
    rm -rf -- "$archives"/*.deb
    mv -T -- "$tree" "$DEBIAN_DIR"
}

# unpack_deb DEB TREE: without what no test reads.
unpack_deb() {
    dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --keep-directory-symlink --no-same-owner \
        --exclude='./usr/share/doc/*' --exclude='./usr/share/locale/*' --exclude='./usr/share/i18n/*'
}

# register_deb DEB DATABASE: enters the package as installed.
register_deb() {
    local deb=$1 database=$2 name file control=$SCRATCH/control
    rm -rf -- "$control"
    dpkg-deb -e "$deb" "$control"
    name=$(dpkg-deb -f "$deb" Package)
    if [[ $(dpkg-deb -f "$deb" Multi-Arch) == same ]]; then
        name=$name:$(dpkg-deb -f "$deb" Architecture)
    fi
    {
        sed '/^Package:/a Status: install ok installed' "$control/control"
        echo
    } >>"$database/status"
    rm -- "$control/control"
    for file in "$control"/*; do
        [[ ! -f $file ]] || mv -- "$file" "$database/info/$name.${file##*/}"
    done
    dpkg-deb --fsys-tarfile "$deb" | tar -t | sed -e 's,^\./,/,' -e 's,/$,,' -e 's,^$,/.,' \
        >"$database/info/$name.list"
}

# configure_debian TREE: in the place of the packages' scripts.
configure_debian() {
    local tree=$1
    cp -- "$tree/usr/share/base-passwd/passwd.master" "$tree/etc/passwd"
    cp -- "$tree/usr/share/base-passwd/group.master" "$tree/etc/group"
    cp -- "$tree/usr/share/libc-bin/nsswitch.conf" "$tree/etc/nsswitch.conf"
    ln -sf mawk "$tree/usr/bin/awk"
    # systemd takes a machine without a name for one that boots the first time.
    echo vgpud-guest >"$tree/etc/hostname"
    : >"$tree/etc/fstab"
    mkdir -p -- "$tree"/{dev,proc,sys,run,tmp,root}
    chmod 1777 "$tree/tmp"
}
