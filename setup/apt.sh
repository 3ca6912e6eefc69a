# A private apt: reads the machine's mirror, proxies and Debian keys, and keeps
# all it writes in the cache. The machine's own packages are neither looked at
# nor changed, so this works without root, and on Debian 12 as on 13.
# shellcheck shell=bash

# The suite that QEMU (from its backports), the kernel and busybox come from.
SUITE=trixie
KEYRING=/usr/share/keyrings/debian-archive-keyring

need_apt() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null && return
    die "this machine has no apt to fetch from. Install QEMU >= 10.1 with vfio-user-pci, a distribution kernel and a static busybox, and set VGPUD_QEMU, VGPUD_GUEST_KERNEL (vmlinuz), VGPUD_GUEST_MODULES (its /lib/modules/VERSION) and VGPUD_BUSYBOX"
}

# open_archive: makes the private apt in $SCRATCH from the first of the
# machine's archives that Debian's keys vouch for.
open_archive() {
    local keyring mirror mirrors log=$SCRATCH/update.log
    keyring=$(debian_keyring)
    mirrors=$(debian_mirrors)
    [[ -n $mirrors ]] ||
        die "the machine's apt sources name no Debian archive; set VGPUD_DEBIAN_MIRROR to one"
    while read -r mirror; do
        write_apt_conf "$mirror" "$keyring"
        if private apt-get -q update >>"$log" 2>&1; then
            return
        fi
    done <<<"$mirrors"
    cat -- "$log" >&2
    if grep -q NO_PUBKEY "$log" || grep -qi 'missing key' "$log"; then
        die "$keyring does not hold the keys of $SUITE: apt-get install debian-archive-keyring brings them"
    fi
    die "could not read the package lists of $SUITE (apt's words are above); once the network is back, run this again"
}

debian_keyring() {
    local end
    for end in gpg pgp; do
        if [[ -r $KEYRING.$end ]]; then
            echo "$KEYRING.$end"
            return
        fi
    done
    die "Debian's keys are missing: install the package debian-archive-keyring"
}

# debian_mirrors: the base addresses, best first. apt itself reads the sources,
# for it knows all their forms; a suite's own archive is told from its updates
# and from most third parties by its name, and from the rest by the signature.
debian_mirrors() {
    if [[ -n ${VGPUD_DEBIAN_MIRROR-} ]]; then
        echo "$VGPUD_DEBIAN_MIRROR"
        return
    fi
    local codename
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-$SUITE}")
    apt-get update --print-uris |
        sed -nE "s,^'([^']+)/dists/($codename|$SUITE|stable|oldstable|testing|unstable|sid)/InRelease'.*,\1,p" |
        awk '!seen[$0]++ { if (/\/debian$/) print; else rest = rest $0 "\n" } END { printf "%s", rest }'
}

# The machine's settings are left out, save how to reach the network: its hooks
# and pins are meant for its own packages.
write_apt_conf() {
    local mirror=$1 keyring=$2 dir=$SCRATCH/apt
    rm -rf -- "$dir"
    mkdir -p -- "$dir"/{lists,archives}/partial
    : >"$dir/status"
    cat >"$dir/debian.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: $SUITE $SUITE-backports
Components: main
Signed-By: $keyring
SOURCES
    cat >"$dir/apt.conf" <<CONF
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Get::List-Cleanup "false";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
Dir::Cache "$dir";
Dir::Cache::archives "$dir/archives";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourcelist "$dir/debian.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Log "$dir";
Dir::State "$dir";
Dir::State::lists "$dir/lists";
Dir::State::status "$dir/status";
CONF
    apt-config dump | { grep -iE '^Acquire::(https?|ftp|tor)::' || true; } >>"$dir/apt.conf"
}

# private APT-COMMAND...: runs it with the private settings.
private() { APT_CONFIG=$SCRATCH/apt/apt.conf "$@"; }

# fetch_debs COMMAND...: an apt-get command that downloads, with its words shown
# only when it fails.
fetch_debs() {
    (cd -- "$SCRATCH/apt/archives" && private apt-get -q -y "$@") >"$SCRATCH/fetch.log" 2>&1 && return
    cat -- "$SCRATCH/fetch.log" >&2
    die "a download failed (apt's words are above); nothing of it was kept, so run this again"
}
