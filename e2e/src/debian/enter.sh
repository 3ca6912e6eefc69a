# shellcheck shell=sh
# enter.sh TREE PLACE SCRIPT [HOST INSIDE]...: runs SCRIPT under a root that is
# TREE with what lies at each HOST put INSIDE it. Nothing is written to TREE:
# what changes is in memory, at PLACE, and gone with the last process. In
# namespaces of mounts and processes of its own, so that nobody else sees it.
set -eu
tree=$1 place=$2 script=$3
shift 3

mount -t tmpfs none "$place"
mkdir "$place/upper" "$place/work" "$place/root"
root=$place/root
mount -t overlay none "$root" -o "lowerdir=$tree,upperdir=$place/upper,workdir=$place/work"
mount -t proc none "$root/proc"
mount --rbind /sys "$root/sys"
# Not open to everyone: in a folder that is, the kernel refuses `>/dev/null` to
# whoever does not own that, as root of a namespace does not.
mount -t tmpfs -o mode=0755 none "$root/dev"
mount -t tmpfs -o mode=0755 none "$root/run"
mount -t tmpfs none "$root/tmp"
# No /dev/kvm: whatever guest runs here is to run as it does everywhere.
for device in null zero full random urandom tty fuse; do
    [ -e "/dev/$device" ] || continue
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -p "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 none "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"

while [ $# != 0 ]; do
    if [ -d "$1" ]; then
        mkdir -p "$root$2"
    else
        mkdir -p "$root${2%/*}"
        : >"$root$2"
    fi
    mount --bind "$1" "$root$2"
    shift 2
done
cp "$script" "$root/tmp/script"
# Not chroot(8): under that nobody may have a user namespace of his own.
mkdir "$root/tmp/old"
cd "$root"
pivot_root . tmp/old
cd /
umount -l /tmp/old
rmdir /tmp/old
exec /bin/bash /tmp/script
