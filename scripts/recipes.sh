#!/usr/bin/env bash
# Which recipe of `pretrain` is worth a long training: short ones that differ in one thing each, judged not by
# their loss but by what test-time training makes of their weights.
#
#   scripts/recipes.sh RE_ARC OUT [NAME…]
#
# RE_ARC is the folder of further pairs (see `arc-ttt pretrain --help`), OUT gets a folder for each NAME; all of the
# names below unless some are given. Each is trained on one thread for MINUTES (15), two side by side, from random
# weights or from those of INIT (a model.safetensors or its folder; for recipes that keep its network), and then fitted to the 53
# tasks of evaluation-dev that have no grid of more than 100 cells, SECONDS_A_TASK (10) each, two tasks at a time. So
# two names take 24 minutes on two cores; nothing else should run beside. Interrupted, the same command goes on. It
# ends with a table, also of what earlier calls have left under OUT.
set -euo pipefail

if (($# < 2)) || [[ $1 == -* ]]; then
    sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
re_arc=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
init=${INIT:+$(realpath "$INIT")}
[[ -d $init ]] && init+=/model.safetensors
cd "$(dirname "$0")/.."

# A name, and how its recipe differs from data/recipes/pretrain.toml.
recipes='
base
e2e-half            episode.e2e_share=0.5
pairs-3             episode.e2e_pairs=3
task-tokens-2       model.n_task_tokens=2
task-tokens-16      model.n_task_tokens=16
narrow              model.d_model=128 model.d_ff=512 model.n_layers=4
narrow-deep         model.d_model=128 model.d_ff=512 model.n_layers=10
muon-slow           optimizer.matrix_learning_rate=0.007
muon-fast           optimizer.matrix_learning_rate=0.028
tokens-slow         optimizer.task_learning_rate=2e-3
tokens-fast         optimizer.task_learning_rate=2e-2
no-generators       data.synth=0
more-generators     data.synth=0.7
fixed-rules         data.synth_tasks=1000
own-pairs           data.own_pairs=1
enlarged            episode.augment_probability=0.3
small-grids         episode.max_cells=144
all-sizes           episode.first_max_cells=484
'
minutes=${MINUTES:-15}
seconds=${SECONDS_A_TASK:-10}
tasks=00576224,0c786b71,0c9aba6e,12eac192,137f0df0,15696249,17cae0c1,27a77e38,31adaf00,32e9702f,3979b1a8,3d31c5b3,\
48f8583b,4e469f39,575b1a71,5d2a5c43,68b67ca3,6ad5bdfd,6ea4a07e,770cc55f,7c8af763,7ee1c6ea,84db8fc4,8b28cd80,8ba14f53,\
90347967,9c1e755f,9c56f360,a406ac07,a8610ef7,aa18de87,aa300dc3,b15fca0b,b1fc8b8e,be03b35f,bf32578f,c074846d,c35c1b4c,\
ca8de6ea,ce039d91,d017b73f,d2acf2cb,e133d23d,e345f17b,e69241bd,e7dd8335,e99362f0,ea9794b1,ed74f2f2,ef26cbf6,f3cdc58f,\
f3e62deb,fc754716

all=$(awk 'NF { print $1 }' <<<"$recipes")
names=("${@:3}")
((${#names[@]})) || mapfile -t names <<<"$all"
for name in "${names[@]}"; do
    if ! grep -qx -- "$name" <<<"$all"; then
        echo "there is no recipe $name:" $all >&2
        exit 2
    fi
done

# Runs that began with other weights are another table's.
begun=${init:+$(sha256sum <"$init")}
if [[ -f $out/init && $(<"$out/init") != "$begun" ]] && compgen -G "$out/*/state.safetensors" >/dev/null; then
    echo "the recipes in $out began with other weights: give the same INIT, or another OUT" >&2
    exit 2
fi
echo "$begun" >"$out/init"

cargo build --release --locked
trap 'jobs -p | xargs -r kill' EXIT

# Progress goes to OUT/NAME.log, and so do errors.
failed() {
    echo "$1 has failed; the end of $out/$1.log:" >&2
    tail -n 5 "$out/$1.log" >&2
    exit 1
}

train() {
    local changes options=()
    read -ra changes < <(awk -v name="$1" '$1 == name { $1 = ""; print }' <<<"$recipes")
    for change in "${changes[@]}"; do options+=(--set "$change"); done
    target/release/arc-ttt pretrain --re-arc "$re_arc" --out "$out/$1" --minutes "$minutes" --threads 1 \
        ${init:+--init "$init"} --device cpu "${options[@]}" 2>>"$out/$1.log" || failed "$1"
}

judge() {
    target/release/arc-ttt compare formats arc-agi-1/evaluation-dev --tasks "$tasks" --budget "${seconds}s" \
        --variants "TTT, end-to-end" --model "$out/$1/model.safetensors" --out "$out/$1/judged" --threads 2 --jobs 2 \
        --device cpu >"$out/$1.txt" 2>>"$out/$1.log" || (($? == 1)) || failed "$1"
}

for ((i = 0; i < ${#names[@]}; i += 2)); do
    pair=("${names[@]:i:2}")
    echo "training ${pair[*]} for $minutes minutes"
    trainings=()
    for name in "${pair[@]}"; do
        train "$name" &
        trainings+=($!)
    done
    for training in "${trainings[@]}"; do wait "$training"; done
    for name in "${pair[@]}"; do
        echo "fitting $name to each of the tasks"
        judge "$name"
    done
done

echo
for name in $all; do
    [[ -f $out/$name.txt ]] || continue
    printf '%-16s %s\n' "$name" "$(grep '^TTT, end-to-end' "$out/$name.txt")"
done
