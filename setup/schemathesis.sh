# Schemathesis, which holds the daemon's API to its own document: a Python
# program, in an environment of its own in the cache.
# shellcheck shell=bash

SCHEMATHESIS_PINS=setup/schemathesis.txt
SCHEMATHESIS_DIR=$CACHE/tools/schemathesis

# need_schemathesis: sets VGPUD_SCHEMATHESIS to the one asked for, else to the
# one in the cache, which is made if it is not there or of other versions.
need_schemathesis() {
    if [[ -n ${VGPUD_SCHEMATHESIS-} ]]; then
        "$VGPUD_SCHEMATHESIS" --version >/dev/null 2>&1 ||
            die "VGPUD_SCHEMATHESIS=$VGPUD_SCHEMATHESIS does not run"
    else
        if ! have_schemathesis; then
            need_python
            with_lock make_schemathesis
        fi
        VGPUD_SCHEMATHESIS=$SCHEMATHESIS_DIR/bin/schemathesis
    fi
    export VGPUD_SCHEMATHESIS
}

# The pins are copied there last. It does not run any more where the machine's
# Python has become another since.
have_schemathesis() {
    cmp -s -- "$SCHEMATHESIS_PINS" "$SCHEMATHESIS_DIR/pins.txt" &&
        "$SCHEMATHESIS_DIR/bin/schemathesis" --version >/dev/null 2>&1
}

need_python() {
    have_python && return
    install_packages "Python 3.11 or later with venv and pip" "python3" python3 python3-venv
    have_python || die "python3-venv was installed, yet python3 is too old or makes no environments"
}

have_python() {
    python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

make_schemathesis() {
    # Another ./x may have made it while this one waited for the lock.
    ! have_schemathesis || return 0
    step "installing schemathesis, once" fill_schemathesis
}

# It is made where it stays, since its programs name the place.
fill_schemathesis() {
    local log=$CACHE/tmp.schemathesis
    rm -rf -- "$SCHEMATHESIS_DIR"
    if ! { python3 -m venv "$SCHEMATHESIS_DIR" &&
        "$SCHEMATHESIS_DIR/bin/python" -m pip --disable-pip-version-check --no-input install \
            -q --no-deps --only-binary :all: -r "$SCHEMATHESIS_PINS"; } >"$log" 2>&1; then
        cat -- "$log" >&2
        die "schemathesis could not be installed (pip's words are above): is the package index reached? Once it is, run this again, or set VGPUD_SCHEMATHESIS to one that is there"
    fi
    cp -- "$SCHEMATHESIS_PINS" "$SCHEMATHESIS_DIR/pins.txt"
    rm -f -- "$log"
}
