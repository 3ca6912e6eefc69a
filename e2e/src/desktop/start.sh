# shellcheck shell=sh
# Starts weston from the disk with its tree, as a login on the machine's own
# screen would: devices by udev, the seat by libseat. Its words are in
# /tmp/weston.log, and its socket is in /run of that root.
set -eu
root=/tmp/root
mkdir -p $root
mount -t ext4 /dev/vda $root
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount --rbind /dev $root/dev
mount -t proc proc $root/proc
mount -t sysfs sysfs $root/sys
mount -t tmpfs -o mode=0755 tmpfs $root/run
mount -t tmpfs tmpfs $root/tmp
mkdir -m 0700 $root/run/user
cp /etc/weston.ini $root/run/weston.ini

# udevadm does nothing under another root, unless it is told to.
export SYSTEMD_IGNORE_CHROOT=1
chroot $root /usr/lib/systemd/systemd-udevd --daemon
chroot $root udevadm trigger --action=add --subsystem-match=drm --subsystem-match=input
chroot $root udevadm settle --timeout=30

export XDG_RUNTIME_DIR=/run/user LIBSEAT_BACKEND=builtin HOME=/root SHELL=/bin/sh
chroot $root weston --backend=drm --renderer=pixman --config=/run/weston.ini \
    --socket=wayland-1 >/tmp/weston.log 2>&1 </dev/null &
until [ -S $root/run/user/wayland-1 ]; do
    kill -0 $! || { cat /tmp/weston.log >&2; exit 1; }
    sleep 0.1
done
