#!/usr/bin/env bash
# The CPU kernels against PyTorch: same model, same weights, same batches, in turns.
#
#   scripts/bench.sh [--picks small --kinds icl e2e --rounds 5 --json …]    (see bench_pytorch.py --help)
#
# Needs Python with torch and numpy, and the data set arc-agi-1 (`arc-ttt data fetch`).
set -euo pipefail
cd "$(dirname "$0")/.."
python3 -c 'import torch, numpy' || { echo "install PyTorch and NumPy first: pip install torch numpy" >&2; exit 2; }
cargo build --release --locked --example bench_step
exec python3 scripts/bench_pytorch.py "$@"
