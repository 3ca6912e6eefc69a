# Fuzzing: what it needs, all targets at once, and the corpora in the tree.
# shellcheck shell=bash

FUZZ_TARGETS=(frame session dma_table state control_queue transport)
FUZZ_BUILD=$TARGET/fuzz
# Grows from run to run. The tree's corpora are only read, until they are asked
# to take what is new.
FUZZ_FOUND=$CACHE/fuzz

# need_cargo_fuzz: puts cargo-fuzz on the PATH, building it into the cache if it
# is not there.
need_cargo_fuzz() {
    need_cxx_compiler
    PATH=$CACHE/tools/bin:$PATH
    command -v cargo-fuzz >/dev/null || with_lock build_tool cargo-fuzz '^0.13'
}

# choose_sanitizer: the address sanitizer takes a nightly toolchain. Without one
# the same is fuzzed, and what is unsafe is only watched by the kernel.
choose_sanitizer() {
    local has_nightly=0
    if command -v rustup >/dev/null && cargo +nightly --version >/dev/null 2>&1; then
        has_nightly=1
    fi
    FUZZ_SANITIZER=${VGPUD_FUZZ_SANITIZER:-$( ((has_nightly)) && echo address || echo none)}
    case $FUZZ_SANITIZER in
        address)
            ((has_nightly)) || die "the address sanitizer takes a nightly toolchain: rustup toolchain install nightly"
            FUZZ_TOOLCHAIN=(+nightly)
            say "fuzzing with the address sanitizer, on nightly"
            ;;
        none)
            FUZZ_TOOLCHAIN=()
            say "fuzzing without a sanitizer, on $(rustc --version)"
            ((has_nightly)) ||
                say "with a nightly toolchain the address sanitizer would be used (rustup toolchain install nightly)"
            ;;
        *) die "VGPUD_FUZZ_SANITIZER=$FUZZ_SANITIZER is neither address nor none" ;;
    esac
}

build_fuzzers() {
    # Each in a place of its own, so that neither has the other built anew.
    cargo "${FUZZ_TOOLCHAIN[@]}" fuzz build --fuzz-dir fuzz/targets \
        --sanitizer "$FUZZ_SANITIZER" --target-dir "$FUZZ_BUILD/$FUZZ_SANITIZER"
}

fuzzer() { echo "$FUZZ_BUILD/$FUZZ_SANITIZER/x86_64-unknown-linux-gnu/release/$1"; }

# fuzz_all SECONDS: every target for that long, as many at a time as there are
# CPUs.
fuzz_all() {
    local seconds=$1 target running=0 failed=()
    rm -rf -- "$FUZZ_BUILD/findings"
    for target in "${FUZZ_TARGETS[@]}"; do
        if ((running == $(nproc))); then
            wait -n || true
            running=$((running - 1))
        fi
        fuzz_one "$target" "$seconds" &
        running=$((running + 1))
    done
    wait
    for target in "${FUZZ_TARGETS[@]}"; do
        report_fuzzing "$target" || failed+=("$target")
    done
    ((${#failed[@]} == 0)) || die "fuzzing found something, or could not be done: ${failed[*]}"
}

fuzz_one() {
    local target=$1 seconds=$2 findings=$FUZZ_BUILD/findings/$1
    mkdir -p -- "$FUZZ_FOUND/$target" "$findings"
    "$(fuzzer "$target")" -max_total_time="$seconds" -max_len=4096 -timeout=10 \
        -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$findings/" \
        "$FUZZ_FOUND/$target" "fuzz/corpus/$target" >"$FUZZ_BUILD/$target.log" 2>&1
}

# report_fuzzing TARGET: one line, and on a finding what it is and where it lies.
report_fuzzing() {
    local target=$1 log=$FUZZ_BUILD/$1.log findings=("$FUZZ_BUILD/findings/$1"/*)
    [[ -e ${findings[0]} ]] || findings=()
    awk -v target="$target" -v findings="${#findings[@]}" '
        / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") edges = $(i + 1) }
        /^stat::number_of_executed_units:/ { executions = $2 }
        /^stat::average_exec_per_sec:/ { rate = $2 }
        END { printf "vgpud: fuzz %-13s %9d executions, %6d/s, coverage %d edges, %d findings\n",
            target, executions, rate, edges, findings }' "$log"
    if ((${#findings[@]} > 0)); then
        grep -A 3 -m 1 -E 'panicked at|^==[0-9]+==.*ERROR' "$log" >&2 || true
        printf 'vgpud: finding: %s\n' "${findings[@]}" >&2
        return 1
    fi
    # Whatever else ended it: one that could not start has tried nothing.
    grep -q '^stat::number_of_executed_units:' "$log" || {
        tail -n 5 -- "$log" >&2
        return 1
    }
}

# Most files of one target in the tree: each costs time in every `./x test`.
FUZZ_KEPT=200

# keep_corpora: takes into the tree what reaches code that nothing there does,
# and leaves out there what others reach as well. The seeds, whose names have a
# dash, stay: they are there for their values.
keep_corpora() {
    local target file kept=$FUZZ_BUILD/kept
    for target in "${FUZZ_TARGETS[@]}"; do
        rm -rf -- "$kept"
        mkdir -p -- "$kept" "$FUZZ_FOUND/$target"
        cp -- "fuzz/corpus/$target"/*-* "$kept/"
        "$(fuzzer "$target")" -set_cover_merge=1 -use_counters=0 -max_len=4096 "$kept" \
            "fuzz/corpus/$target" "$FUZZ_FOUND/$target" >"$FUZZ_BUILD/$target.log" 2>&1 || {
            tail -n 5 -- "$FUZZ_BUILD/$target.log" >&2
            die "the corpus of $target could not be minimised"
        }
        # They were written in the order of how much each adds.
        # shellcheck disable=SC2012 # their names are checksums
        ls -tr -- "$kept" | tail -n +$((FUZZ_KEPT + 1)) | while read -r file; do
            rm -- "$kept/$file"
        done
        rm -rf -- "fuzz/corpus/$target"
        mv -T -- "$kept" "fuzz/corpus/$target"
        say "corpus of $target: $(find "fuzz/corpus/$target" -type f | wc -l) files"
    done
}
