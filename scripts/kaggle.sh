#!/usr/bin/env bash
# An ARC Prize submission on Kaggle, where the notebook has no internet.
#
#   scripts/kaggle.sh [CHALLENGES [OUT [DEADLINE [OPTION…]]]]
#
# Before: put three files into a Kaggle dataset named arc-ttt and attach it to the notebook:
#   arc-ttt        the program: cargo build --release, on a system whose C library (`ldd --version`) is no newer than the
#                  notebook's: in the container image that Kaggle publishes, for instance
#   weights        optional, as model.safetensors: without it the model inside the program is used
#   kaggle.sh      this script
# In the notebook, with the internet off, one cell is enough:
#   !bash /kaggle/input/arc-ttt/kaggle.sh
#
# The submission is valid from the first seconds on and is renewed every few. The run ends DEADLINE after this script
# starts: 11.5h unless you give another, which leaves the notebook half an hour of its twelve.
#
# Started again with the same OUT, it goes on, but DEADLINE counts from the new start. Say then what is left of the twelve
# hours; "" stands for a default. Six hours after the notebook's start:
#   !bash /kaggle/input/arc-ttt/kaggle.sh "" "" 5.5h
# Options of `arc-ttt solve` stand behind these three, such as another model, recipe or device:
#   !bash /kaggle/input/arc-ttt/kaggle.sh "" "" "" --model /kaggle/input/mine --recipe poe --device cuda
set -euo pipefail

input=${KAGGLE_INPUT:-/kaggle/input}
challenges=${1:-$(find "$input" -name '*test_challenges.json' | sort || true)}
out=${2:-/kaggle/working}
deadline=${3:-11.5h}
if [[ $challenges == *$'\n'* ]]; then
    printf 'several files of challenges; name one of them:\n%s\n' "$challenges" >&2
    exit 2
fi
if [[ ! -f $challenges ]]; then
    echo "no *test_challenges.json under $input: attach the competition's data, or name the file" >&2
    exit 2
fi

here=$(cd "$(dirname "$0")" && pwd)
# Attached datasets are read-only and lose the permission to run.
program=$(mktemp -d)/arc-ttt
cp "${ARC_TTT:-$here/arc-ttt}" "$program"
chmod +x "$program"

options=("${@:4}")
if [[ -f $here/model.safetensors && " ${options[*]-} " != *" --model"[\ =]* ]]; then
    options+=(--model "$here/model.safetensors")
fi

mkdir -p "$out"
run=$out/arc-ttt-run
# Copies what there is by now, whole at every moment.
keep() {
    if [[ -f $run/submission.json ]]; then
        cp "$run/submission.json" "$out/.submission.json" && mv "$out/.submission.json" "$out/submission.json"
    fi
}
# However the run ends, what there is by then is handed in, even if an earlier copy has failed. No trap outlives SIGKILL, so it is also copied meanwhile, by a
# process that ends with this one.
(while kill -0 $$ 2>/dev/null; do keep || true; sleep 5; done) &
copier=$!
trap 'kill $copier 2>/dev/null || true; keep' EXIT
# The run directory counts towards the notebook's output, so adapters are not kept. Exit code 1 says that a task failed
# or was not reached and has a fallback answer; the submission is whole.
"$program" solve "$challenges" --deadline "$deadline" --no-adapters --out "$run" ${options[@]+"${options[@]}"} || (($? == 1))
