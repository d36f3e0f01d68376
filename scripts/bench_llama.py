#!/usr/bin/env python3
"""Llama-family models here and in transformers with peft: same weights, same adapter, same tokens, in turns.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
    scripts/bench_llama.py                              # builds examples/bench_llama, then compares
    scripts/bench_llama.py --binary PATH --sizes small --kinds decode --rounds 5 --json

Random checkpoints, f32. For each size and kind of work both programs start once; round by round first one and then the other
works while the other waits. Reported are the best round's seconds a step and the highest memory of the whole process. Both
also say what came out (the loss, or the highest score), and have to agree.

Kinds: `train` is a step of a LoRA fit (forward, backward, clipping, AdamW) on 2 x 1000 tokens of which a third is learnt;
`prefill` reads 2000 tokens into a cache; `decode` reads tokens one by one behind 1000, in one row; `decode8` in eight rows.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIZES = {
    "small": dict(num_hidden_layers=4, hidden_size=256, intermediate_size=704, num_attention_heads=4, num_key_value_heads=2),
    "medium": dict(num_hidden_layers=12, hidden_size=512, intermediate_size=1408, num_attention_heads=8, num_key_value_heads=4),
}
# Rows, tokens a row, and steps a round.
KINDS = {
    "train": (2, 1000, 2),
    "prefill": (1, 2000, 2),
    "decode": (1, 1000, 60),
    "decode8": (8, 1000, 30),
}


def make_checkpoint(folder, size):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=64, max_position_embeddings=8192, tie_word_embeddings=False, **SIZES[size])
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    # The paper's targets.
    targets = ["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"]
    adapted = get_peft_model(model, LoraConfig(r=16, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM"))
    for name, value in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value.data, std=0.02)
    adapted.save_pretrained(folder / "adapter")


def worker(folder, kind, threads):
    """The other side of examples/bench_llama.rs: a number of steps in, a JSON object out."""
    import resource
    import time

    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, folder / "adapter", is_trainable=kind == "train")
    rows, tokens, _ = KINDS[kind]
    vocab = model.config.vocab_size
    token = lambda row, i: (i * i + 7 * i + 13 * row) % vocab
    ids = torch.tensor([[token(row, i) for i in range(tokens)] for row in range(rows)])
    labels = ids.clone()
    labels[:, : tokens * 2 // 3] = -100
    trained = [p for p in model.parameters() if p.requires_grad]
    adamw = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0) if trained else None
    model.train(kind == "train")

    def train():
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        adamw.step()
        adamw.zero_grad()
        return loss.item()

    @torch.inference_mode()
    def read(ids, cache):
        out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.past_key_values, out.logits.max().item()

    for line in sys.stdin:
        steps = int(line)
        cache = read(ids, None)[0] if kind.startswith("decode") else None
        following = [torch.tensor([[token(row, tokens + i)] for row in range(rows)]) for i in range(steps)]
        started = time.perf_counter()
        for step in range(steps):
            if kind == "train":
                said = train()
            elif kind == "prefill":
                said = read(ids, None)[1]
            else:
                cache, said = read(following[step], cache)
        seconds = (time.perf_counter() - started) / steps
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "says": said, "peak_bytes": peak}), flush=True)


class Program:
    def __init__(self, command, threads):
        names = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]
        env = {**os.environ, **{name: str(threads) for name in names}}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=env)
        self.rounds = []

    def round(self, steps):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args} gave up; run it by hand to see why")
        self.rounds.append(json.loads(line))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(binary, folder, kind, args):
    rows, tokens, steps = KINDS[kind]
    rust_kind = "decode" if kind == "decode8" else kind
    ours = [binary, "--model", folder, "--kind", rust_kind, "--rows", str(rows), "--tokens", str(tokens)]
    theirs = [sys.executable, __file__, "--worker", folder, "--kinds", kind, "--threads", str(args.threads)]
    programs = [Program(command, args.threads) for command in (ours, theirs)]
    # One round to warm up; what both say first must agree.
    for _ in range(args.rounds + 1):
        for program in programs:
            program.round(steps)
    says = [program.rounds[0]["says"] for program in programs]
    if abs(says[0] - says[1]) > 1e-3 * max(1.0, abs(says[1])):
        sys.exit(f"{kind}: the two disagree: {says[0]} and {says[1]}")
    seconds = [min(r["seconds"] for r in program.rounds[1:]) for program in programs]
    peak = [program.rounds[-1]["peak_bytes"] for program in programs]
    for program in programs:
        program.close()
    work = rows if kind.startswith("decode") else rows * tokens
    return {
        "kind": kind,
        "seconds": seconds[0],
        "seconds_transformers": seconds[1],
        "speedup": seconds[1] / seconds[0],
        "tokens_per_second": work / seconds[0],
        "tokens_per_second_transformers": work / seconds[1],
        "peak_mib": peak[0] / 2**20,
        "peak_mib_transformers": peak[1] / 2**20,
        "says": says,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--binary", help="target/release/examples/bench_llama; built without it")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--worker", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args.worker, args.kinds[0], args.threads)
    binary = args.binary
    if not binary:
        build = ["cargo", "build", "--release", "--locked", "--example", "bench_llama"]
        subprocess.run(build, cwd=ROOT, check=True)
        binary = str(ROOT / "target/release/examples/bench_llama")
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            make_checkpoint(pathlib.Path(folder), size)
            for kind in args.kinds:
                result = {"size": size, **compare(binary, folder, kind, args)}
                if args.json:
                    print(json.dumps(result), flush=True)
                    continue
                print(
                    f"{size:7} {kind:8} {1e3 * result['seconds']:9.2f} ms here, "
                    f"{1e3 * result['seconds_transformers']:9.2f} ms transformers: {result['speedup']:.2f}x;  "
                    f"{result['tokens_per_second']:8.0f} and {result['tokens_per_second_transformers']:8.0f} tokens/s;  "
                    f"{result['peak_mib']:6.0f} and {result['peak_mib_transformers']:6.0f} MiB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
