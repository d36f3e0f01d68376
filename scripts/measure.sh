#!/usr/bin/env bash
# Figures of the shipped model on whole sets, and comparisons on 60 tasks.
#
#   scripts/measure.sh OUT [PART…]
#
#   thirty       all 400 evaluation tasks of ARC-AGI-1 at 30 s, dev and held-out apart     about 110 minutes
#   held-out     the 200 of evaluation-held-out at 120 s                                         200
#   scaling      60 dev tasks at 10, 20, 30, 60 and 120 s                                        120
#   tables       60 dev tasks at 20 s: formats, the paper's ablations, stopping rules, selectors, the scheduler    275
#   arc-agi-2    its public evaluation at 30 s                                                    35
#   embedded     the embedded tasks by the recipe `fast`, which have no clock                      3
#
# All of them unless some are named. The minutes are those of two cores, and two tasks are worked on at a time on
# any machine, for a task's budget is wall time: nothing else should run beside. Interrupted, the same command goes
# on. Each part leaves its tables under OUT as HTML, Markdown, CSV and JSON.
set -euo pipefail
cd "$(dirname "$0")/.."

if (($# == 0)) || [[ $1 == -* ]]; then
    sed -n '2,15s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
out=$1
parts=("${@:2}")
all=(thirty held-out scaling tables arc-agi-2 embedded)
((${#parts[@]})) || parts=("${all[@]}")
for part in "${parts[@]}"; do
    if [[ " ${all[*]} " != *" $part "* ]]; then
        echo "there is no part $part: ${all[*]}" >&2
        exit 2
    fi
done

cargo build --release --locked

# A comparison: where its runs go, its name, the tasks, further options.
compare() {
    # Exit code 1 says that a task has failed, which the table names.
    target/release/arc-ttt compare "$2" "$3" --out "$out/$1" --threads 2 --jobs 2 "${@:4}" || (($? == 1))
}

ttt=(--variants "TTT, end-to-end")
dev=arc-agi-1/evaluation-dev
held_out=arc-agi-1/evaluation-held-out

for part in "${parts[@]}"; do
    case $part in
        thirty)
            compare dev-30s formats $dev --budget 30s "${ttt[@]}"
            compare held-out-30s formats $held_out --budget 30s "${ttt[@]}"
            ;;
        held-out) compare held-out-120s formats $held_out --budget 120s "${ttt[@]}" ;;
        scaling) compare dev-60 ablation-scaling $dev --limit 60 ;;
        tables)
            for table in formats ablation-paper ablation-stopping selectors ablation-scheduler; do
                compare dev-60 $table $dev --limit 60 --budget 20s
            done
            # The same runs, tested against the fit and not against none; it takes the place of that table.
            compare dev-60 ablation-paper $dev --limit 60 --budget 20s --baseline TTT
            ;;
        arc-agi-2) compare arc-agi-2-30s formats arc-agi-2/evaluation --budget 30s "${ttt[@]}" ;;
        embedded) compare embedded formats demo --recipe fast ;;
    esac
done
