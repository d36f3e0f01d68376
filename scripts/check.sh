#!/usr/bin/env bash
# Everything that must hold before a change lands: format, lints, documentation, tests, the GPU backends.
#
#   scripts/check.sh           everything for the CPU
#   scripts/check.sh --gpu     what CI runs: also the GPU features: types and lints of both, and a fit on wgpu
#                              compared with the CPU (on software Vulkan about a quarter of an hour with its build)
#
# Each stage prints what it cost. The GPU stages get what is left of MINUTES (55); what does not end in time is
# named at the end and does not fail the check, for a slow machine says nothing about the code. Without a
# Vulkan adapter the wgpu test skips itself with a warning; ARC_TTT_REQUIRE_WGPU=1 makes that a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

gpu=false
case "${1-}" in
    "") ;;
    --gpu) gpu=true ;;
    *)
        sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac

minutes=${MINUTES:-55}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
unfinished=()
TIMEFORMAT='   took %lR; processor time %lU + %lS'

# Runs a stage; set -e ends the check at the first that fails.
stage() {
    echo "== $1"
    time "${@:2}"
}

# Runs a stage only as long as the budget lasts.
stage_in_time() {
    local left=$((minutes * 60 - SECONDS)) status=0
    if ((left > 60)); then
        echo "== $1 (at most $((left / 60)) minutes)"
        time timeout "$left" "${@:2}" || status=$?
        ((status == 0)) && return
        ((status == 124)) || exit "$status"
    fi
    unfinished+=("$1")
}

# The README's test command, its output shown and kept.
test_release() {
    cargo test --release 2>&1 | tee "$log"
}

# One profile for lints, documentation and tests, so that they share what they can.
stage "format" cargo fmt --check
stage "lints" cargo clippy --release --locked --all-targets -- -D warnings
stage "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps
stage "tests" test_release

if $gpu; then
    # The CUDA runtime's build script downloads LLVM, except where only documentation or types are asked for.
    stage_in_time "the GPU features' types and lints" \
        env DOCS_RS=1 \
        cargo clippy --release --locked --features wgpu,cuda --all-targets -- -D warnings
    # The profile builds fast, and runs fast enough for a model of toy size.
    stage_in_time "wgpu agrees with the CPU" \
        env XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}" CUBECL_AUTOTUNE_LEVEL=minimal \
        cargo test --profile gpu-check --locked --features wgpu --test gpu
fi

echo "== the tests again, in short"
grep -E '^ +(Running|Doc-tests)|^test result' "$log"
if ((${#unfinished[@]})); then
    printf 'NOT CHECKED, %s minutes were over: %s\n' "$minutes" "${unfinished[@]}"
else
    echo "all checks passed in $((SECONDS / 60)) min $((SECONDS % 60)) s"
fi
