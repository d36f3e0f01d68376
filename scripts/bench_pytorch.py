#!/usr/bin/env python3
"""The same model in PyTorch, doing the same steps: the yardstick of the CPU kernels.

    scripts/bench.sh                        # builds, then runs this
    scripts/bench_pytorch.py --binary target/release/examples/bench_step --json

For each task and kind of step the Rust program writes its batches and what its base model makes of the first one. A worker
process builds the model from the same weights, checks that its log-probabilities agree to 1e-4, and times the same steps:
eager, compiled, and both under bfloat16 autocast. Rust and PyTorch take turns, round by round, in one run.

Needs torch and numpy. The model is the fastest that is natural in PyTorch: linear layers run on all tokens at once, without
padding; attention is `scaled_dot_product_attention` over sequences that are padded only where their lengths differ.
"""

import argparse
import json
import os
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time

PICKS = ["small", "median", "largest"]
KINDS = ["icl", "e2e", "full", "predict"]
MODES = ["f32", "f32-compiled", "bf16", "bf16-compiled"]

# Rows of the embedding table (src/model/canvas.rs).
SIDES = 30
OUTPUT = 11
TOP = OUTPUT + 13
INPUT_BOTTOM = TOP + SIDES
OUTPUT_BOTTOM = INPUT_BOTTOM + SIDES + 1
LEFT = OUTPUT_BOTTOM + SIDES + 1
INPUT_RIGHT = LEFT + SIDES
OUTPUT_RIGHT = INPUT_RIGHT + SIDES + 1
EMBED_ROWS = OUTPUT_RIGHT + SIDES + 1
FRAME_ROWS = 18
FASTEST, SLOWEST = 2.0, 0.1
EPSILON = 1e-5


def read_safetensors(path):
    import numpy as np

    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    kinds = {"F16": np.float16, "F32": np.float32}
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] in kinds:
            start, end = entry["data_offsets"]
            array = np.frombuffer(data[start:end], kinds[entry["dtype"]])
            tensors[name] = array.astype(np.float32).reshape(entry["shape"])
    return tensors


class Batch:
    """Tokens and sequences of one batch, laid out as in src/model/canvas.rs."""

    def __init__(self, source, config):
        import torch

        m = config["n_task_tokens"]
        queries = source["queries"]
        canvases = source["context"] + [q["canvas"] for q in queries]
        rows, places, cells = [], [], []
        for canvas in canvases:
            start = len(rows)
            (ih, iw), (oh, ow) = canvas["input_shape"], canvas["output_shape"]
            end = lambda size, i: size - i if i < size else 0
            for i, (a, b) in enumerate(zip(canvas["input"], canvas["output"])):
                r, c = divmod(i, canvas["width"])
                rows.append(
                    [a, OUTPUT + b, TOP + r, INPUT_BOTTOM + end(ih, r), OUTPUT_BOTTOM + end(oh, r)]
                    + [LEFT + c, INPUT_RIGHT + end(iw, c), OUTPUT_RIGHT + end(ow, c)]
                )
                places.append((r, c, ih - 1 - r, iw - 1 - c))
            cells.append(range(start, len(rows)))
        self.query_cells = slice(len(rows) - sum(len(c) for c in cells[len(source["context"]) :]), len(rows))
        registers = []
        frames = EMBED_ROWS + 2 * m
        tasks = frames + FRAME_ROWS
        for _ in source["context"]:
            registers.append(range(len(rows), len(rows) + m))
            rows += [[EMBED_ROWS + i] for i in range(m)]
        for query in queries:
            start = len(rows)
            if "context" in query:
                rows += [[EMBED_ROWS + m + i] for i in range(m)]
            else:
                rows += [[EMBED_ROWS + m + i, tasks + i] for i in range(m)]
                rows.append([frames + query["dihedral"]])
                rows += [[shown, frames + 8 + original] for shown, original in enumerate(query["original"])]
            registers.append(range(start, len(rows)))
        self.uses_tasks = any("context" not in q for q in queries)
        # Rows with fewer terms end in a row of zeros, the last of the table.
        none = tasks + (m if self.uses_tasks else 0)
        self.rows = torch.tensor([row + [none] * (8 - len(row)) for row in rows])
        self.places = places + [None] * (len(rows) - len(places))
        n = len(source["context"])
        own = [list(c) + list(r) for c, r in zip(cells, registers)]
        cells_too = config["context"] == "cells"
        read = [[] for _ in range(n)]
        for query in queries:
            read.append([t for i in query.get("context", []) for t in (own[i] if cells_too else registers[i])])
        # Context canvases and queries are two groups: within each, lengths are alike.
        self.groups = [
            group for group in (self.group(own[:n], read[:n]), self.group(own[n:], read[n:])) if group is not None
        ]
        back = {}
        at = 0
        for queries_of, _, _ in self.groups:
            for token in queries_of.flatten().tolist():
                back.setdefault(token, at)
                at += 1
        self.back = torch.tensor([back[t] for t in range(len(rows))])
        self.targets = torch.tensor(source["targets"], dtype=torch.long)
        self.weights = torch.tensor(source["weights"])

    @staticmethod
    def group(own, read):
        import torch

        if not own:
            return None
        # A padded query repeats the sequence's own first token, whose first appearance is the one that counts.
        longest = max(len(o) for o in own)
        queries = torch.tensor([o + [o[0]] * (longest - len(o)) for o in own])
        keys = [o + r for o, r in zip(own, read)]
        longest = max(len(k) for k in keys)
        mask = None
        if any(len(k) < longest for k in keys):
            mask = torch.tensor([[True] * len(k) + [False] * (longest - len(k)) for k in keys])[:, None, None, :]
        return queries, torch.tensor([k + [k[0]] * (longest - len(k)) for k in keys]), mask

    def angles(self, config):
        """Cosines and sines of queries and keys, [n_tokens, n_heads, head_dim / 2] each."""
        import torch

        heads = config["n_heads"]
        half = config["d_model"] // heads // 2
        group = half // 4
        frequency = torch.tensor([FASTEST * SLOWEST ** (i / group) for i in range(group)])
        turns = torch.zeros(2, len(self.places), heads, 4)
        for i, place in enumerate(self.places):
            if place is not None:
                r, c, mr, mc = place
                for head in range(heads // 2):
                    turns[0, i, head] = torch.tensor([r, c, r, c] if head % 2 == 0 else [c, r, c, r]).float()
                    turns[1, i, head] = torch.tensor([r, c, mr, mc]).float()
        angles = (turns[..., None] * frequency).flatten(3)
        return angles.cos(), angles.sin()


def make_model(weights, config, lora_config, kind):
    import torch
    import torch.nn.functional as F
    from torch import nn

    d, heads = config["d_model"], config["n_heads"]
    names = ["qkv_proj", "o_proj", "up_proj", "down_proj"]

    def rms(x, gain):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * gain

    def turn(x, cos, sin):
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = {name: torch.from_numpy(value.copy()) for name, value in weights.items()}
            self.lora = nn.ParameterDict()
            self.full = nn.ParameterDict()
            self.task = nn.Parameter(self.w["task_tokens"].clone())
            self.frames = nn.Parameter(self.w["frames"].clone())
            for i in range(config["n_layers"]):
                for name in names:
                    rows, columns = self.w[f"blocks.{i}.{name}"].shape
                    if kind in ("icl", "e2e") and name in lora_config["target_modules"]:
                        rank = lora_config["rank"]
                        self.lora[f"{i}_{name}_a"] = nn.Parameter(torch.randn(rows, rank) / rows**0.5)
                        self.lora[f"{i}_{name}_b"] = nn.Parameter(torch.zeros(rank, columns))
            if kind == "full":
                for name, value in self.w.items():
                    if name.startswith("blocks."):
                        self.full[name.replace(".", "_")] = nn.Parameter(value.clone())
            rank = lora_config["rank"] ** (0.5 if lora_config["rank_stabilized"] else 1)
            self.scale = lora_config["alpha"] / rank

        def weight(self, name):
            return self.full[name.replace(".", "_")] if kind == "full" and name.startswith("blocks.") else self.w[name]

        def linear(self, i, name, x):
            y = x @ self.weight(f"blocks.{i}.{name}")
            if f"{i}_{name}_a" in self.lora:
                y = y + (x @ self.lora[f"{i}_{name}_a"]) @ self.lora[f"{i}_{name}_b"] * self.scale
            return y

        def forward(self, batch, angles):
            (cos_q, cos_k), (sin_q, sin_k) = angles
            tables = [self.w["embed"], self.frames]
            if batch.uses_tasks:
                tables.append(rms(self.task, self.w["task_norm"]))
            tables.append(torch.zeros(1, d))
            x = F.embedding_bag(batch.rows, torch.cat(tables), mode="sum")
            n = x.shape[0]
            for i in range(config["n_layers"]):
                weight = lambda name: self.weight(f"blocks.{i}.{name}")
                qkv = self.linear(i, "qkv_proj", rms(x, weight("input_norm")))
                q, k, v = qkv.view(n, 3, heads, d // heads).unbind(1)
                q = turn(rms(q, 1.0), cos_q, sin_q) * weight("q_scale").view(1, heads, 1)
                k = turn(rms(k, 1.0), cos_k, sin_k)
                q, k, v = q.to(qkv.dtype), k.to(qkv.dtype), v
                parts = []
                for queries, keys, mask in batch.groups:
                    gather = lambda t, ids: t[ids].transpose(1, 2)
                    out = F.scaled_dot_product_attention(gather(q, queries), gather(k, keys), gather(v, keys), mask)
                    parts.append(out.transpose(1, 2).reshape(-1, d))
                x = x + self.linear(i, "o_proj", torch.cat(parts)[batch.back])
                u = F.relu(self.linear(i, "up_proj", rms(x, weight("mlp_norm"))))
                x = x + self.linear(i, "down_proj", u * u)
            x = rms(x[batch.query_cells], self.w["norm"])
            return F.log_softmax((x @ self.w["head"] + self.w["head_bias"]).float(), -1)

    return Model()


def worker(args):
    """Times one configuration in a process of its own, so that its peak memory is its own too."""
    import torch

    torch.manual_seed(0)
    with open(args.batches) as file:
        dump = json.load(file)
    config = dump["config"]
    model = make_model(read_safetensors(args.weights), config, dump["lora"], args.kind)
    batches = [Batch(b, config) for b in dump["batches"]]
    angles = [b.angles(config) for b in batches]
    with torch.no_grad():
        expected = torch.tensor(dump["log_probs"]).view(-1, 11)
        # Where a class is all but impossible, only its being so is compared.
        off = (model(batches[0], angles[0]) - expected)[expected > -15].abs().max().item()
    assert off < 1e-4, f"log-probabilities differ by {off}"
    forward = torch.compile(model, dynamic=False) if args.mode.endswith("compiled") else model
    cast = torch.autocast("cpu", torch.bfloat16, enabled=args.mode.startswith("bf16"))
    seconds = []
    if args.kind == "predict":

        def step(_):
            with torch.inference_mode(), cast:
                for batch, angle in zip(batches, angles):
                    forward(batch, angle).numpy()
    else:
        trained = list(model.lora.values()) + list(model.full.values())
        if args.kind == "e2e":
            trained += [model.task, model.frames]
        optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=dump["fit"]["betas"], weight_decay=0.0, fused=True)

        def step(i):
            batch, angle = batches[i % len(batches)], angles[i % len(batches)]
            with cast:
                picked = forward(batch, angle).gather(1, batch.targets[:, None])[:, 0]
                loss = -(picked * batch.weights).sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    # Every shape once, so that nothing is compiled while the clock runs.
    for i in range(len(batches) if args.kind != "predict" else 1):
        step(i)
    for i in range(args.steps):
        began = time.perf_counter()
        step(i)
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak_bytes": peak, "off": off}))


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(args):
    rows = []
    peak = run([args.binary, "--kind", "peak"])
    with tempfile.TemporaryDirectory() as folder:
        for pick in args.picks:
            for kind in args.kinds:
                batches = os.path.join(folder, "batches.json")
                rust = [args.binary, "--tasks", args.tasks, "--pick", pick, "--kind", kind]
                rust += ["--steps", str(args.steps), "--model", args.weights]
                run(rust + ["--dump", batches])
                python = [sys.executable, __file__, "--worker", "--weights", args.weights, "--batches", batches]
                python += ["--kind", kind, "--steps", str(args.steps)]
                sides = {f"rust-{p}": rust + ["--precision", p] for p in ["f32", "bf16"]}
                sides |= {mode: python + ["--mode", mode] for mode in args.modes}
                results = {name: [] for name in sides}
                for _ in range(args.rounds):
                    for name, command in sides.items():
                        results[name].append(run(command))
                row = summarize(pick, kind, results)
                rows.append(row)
                print(describe(row, peak), file=sys.stderr)
    if args.json:
        print(json.dumps({"peak": peak, "steps": rows}))


def summarize(pick, kind, results):
    median = {name: statistics.median(s for r in runs for s in r["seconds"]) for name, runs in results.items()}
    memory = {name: max(r["peak_bytes"] for r in runs) for name, runs in results.items()}
    # A precision whose modes were not asked for has no best one.
    best = lambda prefix: min((n for n in median if n.startswith(prefix)), key=median.get, default=None)
    f32, bf16 = best("f32"), best("bf16")
    return {
        "pick": pick,
        "kind": kind,
        "task": results["rust-f32"][0]["task"],
        "gflop": results["rust-f32"][0]["gflop"],
        "arc_ttt_seconds": median["rust-f32"],
        "arc_ttt_bf16_seconds": median["rust-bf16"],
        "pytorch_f32_seconds": median.get(f32),
        "pytorch_bf16_seconds": median.get(bf16),
        "pytorch_f32_mode": f32,
        "pytorch_bf16_mode": bf16,
        "arc_ttt_peak_bytes": memory["rust-f32"],
        "pytorch_peak_bytes": min(memory[mode] for mode in (f32, bf16) if mode),
    }


def describe(row, peak):
    ours = min(row["arc_ttt_seconds"], row["arc_ttt_bf16_seconds"])
    rate = row["gflop"] / row["arc_ttt_seconds"]
    theirs = [
        f"{row[f'pytorch_{p}_mode']} {row[f'pytorch_{p}_seconds']:.4f} s ({row[f'pytorch_{p}_seconds'] / ours:.2f} times ours)"
        for p in ("f32", "bf16")
        if row[f"pytorch_{p}_mode"]
    ]
    return (
        f"{row['pick']:<8}{row['kind']:<8}{row['task']}  {row['arc_ttt_seconds']:.4f} s (bf16 "
        f"{row['arc_ttt_bf16_seconds']:.4f} s)  PyTorch {', '.join(theirs)}  "
        f"{rate:.0f} GFLOP/s ({100 * rate / peak['f32_gflops']:.0f} % of {peak['f32_gflops']:.0f})  memory "
        f"{row['arc_ttt_peak_bytes'] >> 20} and {row['pytorch_peak_bytes'] >> 20} MiB"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/examples/bench_step")
    parser.add_argument("--tasks", default="arc-agi-1/evaluation-dev")
    parser.add_argument("--weights", default="data/models/grid-wide/model.safetensors")
    parser.add_argument("--picks", nargs="+", choices=PICKS, default=PICKS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--batches", help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    args = parser.parse_args()
    worker(args) if args.worker else compare(args)


if __name__ == "__main__":
    main()
