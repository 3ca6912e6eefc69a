# The package of Debian: cargo-deb puts together what vgpud/Cargo.toml lists.
# shellcheck shell=bash

# What is to be packed is laid out here as cargo-deb looks for it, so that it
# takes the programs of VGPUD_BIN, whatever their profile.
DEB_STAGE=$TARGET/deb

# What is in the package's own Depends. Programs that were built with a later C
# library need that one.
DEB_GLIBC=2.36

# make_deb [VERSION]: sets VGPUD_DEB to the package, which it makes.
make_deb() {
    local release=$DEB_STAGE/release numbered=()
    [[ -z ${1-} ]] || numbered=(--deb-version "$1")
    need_cargo_deb
    rm -rf -- "$DEB_STAGE"
    mkdir -p -- "$release"/{man,completions}
    stage_programs "$release"
    stage_pages "$release"
    third_party >"$release/THIRD-PARTY"
    cp -- CHANGELOG.md "$release/changelog"
    debian_changelog "${1-}" >"$release/changelog.Debian"
    gzip -9n -- "$release"/{THIRD-PARTY,changelog,changelog.Debian} "$release"/man/*
    SOURCE_DATE_EPOCH=$(source_date) CARGO_TARGET_DIR=$DEB_STAGE \
        cargo deb -q -p vgpud --no-build --no-strip --compress-system "${numbered[@]}" \
        --output "$DEB_STAGE" >"$DEB_STAGE/log" 2>&1 || {
        cat -- "$DEB_STAGE/log" >&2
        die "cargo deb made no package"
    }
    VGPUD_DEB=$(echo "$DEB_STAGE"/vgpud_*_amd64.deb)
    [[ -f $VGPUD_DEB ]] || die "cargo deb made no package in $DEB_STAGE"
    export VGPUD_DEB
}

# The same sources make the same package, as far as the compiler does.
source_date() { git log -1 --format=%ct 2>/dev/null || echo 0; }

# debian_changelog [VERSION]: Debian wants to be told of each version of the package.
debian_changelog() {
    local version=${1-}
    [[ -n $version ]] || version=$(cargo pkgid -q --offline -p vgpud | sed 's/.*[#@]//')-1
    printf 'vgpud (%s) unstable; urgency=medium\n\n  * What is new: changelog.gz.\n\n' "$version"
    printf ' -- The vgpud authors <vgpud@localhost>  %s\n' "$(date -uR -d "@$(source_date)")"
}

stage_programs() {
    local program needs
    for program in vgpu vgpud vgpu-mdev vgpu-worker vgpu-console; do
        strip --remove-section=.comment -o "$1/$program" -- "$VGPUD_BIN/$program"
    done
    needs=$(cat -- "$1"/vgpu* | grep -ao 'GLIBC_2\.[0-9]*' | sort -uV | tail -n 1)
    needs=${needs#GLIBC_}
    [[ $(printf '%s\n' "$DEB_GLIBC" "$needs" | sort -V | tail -n 1) == "$DEB_GLIBC" ]] ||
        die "the programs need the C library $needs: build on Debian 12, or say so in vgpud/Cargo.toml"
}

stage_pages() {
    "$1/vgpu" man "$1/man"
    cp -- packaging/man/* "$1/man/"
    "$1/vgpu" completions bash >"$1/completions/vgpu.bash"
    "$1/vgpu" completions zsh >"$1/completions/_vgpu"
    "$1/vgpu" completions fish >"$1/completions/vgpu.fish"
}

# third_party: which crates are in the programs, and the licences that they came
# with, each text once.
third_party() {
    local name version licence sources=("${CARGO_HOME:-$HOME/.cargo}"/registry/src/*) text sum
    local -A told=()
    echo "What vgpud's programs are built of."
    cargo tree -q --offline -p vgpud -p worker -p console -e normal --prefix none -f '{p} {l}' |
        sed -E 's/ \((proc-macro|\*)\)//g' | grep -v '(/' | sort -u |
        while read -r name version licence; do
            printf '\n== %s %s: %s\n' "$name" "${version#v}" "$licence"
            for text in "${sources[@]/%//$name-${version#v}}"/{LICEN[CS]E,COPYING,NOTICE}*; do
                [[ -f $text ]] || continue
                sum=$(cksum <"$text")
                if [[ -n ${told[$sum]-} ]]; then
                    printf '\n%s: as %s\n' "${text##*/}" "${told[$sum]}"
                else
                    told[$sum]="${text##*/} of $name"
                    printf '\n%s:\n\n' "${text##*/}"
                    cat -- "$text"
                fi
            done
        done
}
