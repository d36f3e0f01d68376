#!/usr/bin/env python3
"""Reference numbers for src/llama: tiny random checkpoints, and what transformers and peft make of them.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
    scripts/make_golden.py                        # rewrites tests/golden/; the tests do not need this script
    scripts/make_golden.py --check-adapter DIR    # do adapters that arc-ttt wrote load in peft, with equal logits?
    scripts/make_golden.py --check-checkpoint DIR # do models that `arc-ttt pretrain` exported load in transformers?

DIR comes from `ARC_TTT_WRITE_ADAPTERS=DIR` or `ARC_TTT_WRITE_CHECKPOINT=DIR cargo test --release --test it llama`.

For each architecture tests/golden/NAME holds
    config.json, model*.safetensors     the checkpoint, f32
    adapter/                            a LoRA adapter as peft saves it, all values random
    golden.json                         tokens, losses, greedy output, every sequence above a probability
    golden.safetensors                  logits without and with the adapter, the adapter's gradients, and its values
                                        after ten steps of AdamW
"""

import argparse
import json
import math
import pathlib
import shutil

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"
VOCAB = 20
EOS = 2
SIZES = dict(
    vocab_size=VOCAB,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    bos_token_id=1,
    eos_token_id=EOS,
    pad_token_id=0,
    sliding_window=None,
)
# So short an original context that the scaling acts on the first tokens already.
LLAMA3 = dict(
    rope_type="llama3",
    factor=4.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]

# name: (configuration, adapter, written with the fields of transformers 4, largest shard)
MODELS = {
    # Llama 3.x with untied embeddings; an adapter on everything, rank-stabilized.
    "llama": (
        LlamaConfig(**SIZES, hidden_size=24, intermediate_size=32, tie_word_embeddings=False,
                    rope_parameters=dict(LLAMA3, rope_theta=500.0)),
        dict(r=3, lora_alpha=6, use_rslora=True,
             target_modules=[*ATTENTION, *MLP, "embed_tokens", "lm_head"]),
        False, None,
    ),
    # As small Llama 3.2 are: tied, `rope_scaling`; and all biases that Llama knows.
    "llama-tied": (
        LlamaConfig(**SIZES, hidden_size=16, intermediate_size=24, tie_word_embeddings=True,
                    attention_bias=True, mlp_bias=True,
                    rope_parameters=dict(LLAMA3, rope_theta=500.0)),
        dict(r=4, lora_alpha=8, target_modules=[*ATTENTION, *MLP]),
        True, None,
    ),
    # Mistral-NeMo's head_dim is not hidden_size / num_attention_heads; several shards.
    "mistral-nemo": (
        MistralConfig(**SIZES, hidden_size=16, intermediate_size=24, head_dim=8, tie_word_embeddings=False,
                      rope_parameters=dict(rope_type="default", rope_theta=1000.0)),
        dict(r=2, lora_alpha=16, target_modules=["q_proj", "v_proj", *MLP]),
        True, "6KB",
    ),
    # Biases on queries, keys and values.
    "qwen2": (
        Qwen2Config(**SIZES, hidden_size=16, intermediate_size=24, tie_word_embeddings=True,
                    rope_parameters=dict(rope_type="default", rope_theta=1000.0)),
        dict(r=4, lora_alpha=4, use_rslora=True, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
        True, None,
    ),
    # Norms of queries and keys, head_dim apart, two ends.
    "qwen3": (
        Qwen3Config(**dict(SIZES, eos_token_id=[EOS, 3]), hidden_size=16, intermediate_size=24, head_dim=6,
                    tie_word_embeddings=True,
                    rope_parameters=dict(rope_type="default", rope_theta=1000.0)),
        dict(r=4, lora_alpha=8, target_modules=[*ATTENTION, *MLP]),
        False, None,
    ),
    # As the presets poe and nvarc have it with a tied Qwen3: updates of the embedding and of the head, each its own.
    "qwen3-tied": (
        Qwen3Config(**SIZES, hidden_size=16, intermediate_size=24, head_dim=6, tie_word_embeddings=True,
                    rope_parameters=dict(rope_type="default", rope_theta=1000.0)),
        dict(r=3, lora_alpha=2, use_rslora=True,
             target_modules=[*ATTENTION, *MLP, "embed_tokens", "lm_head"]),
        False, None,
    ),
}
# So small steps that rounding does not grow, so much decay that it shows after ten of them.
ADAMW = dict(lr=3e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.3)
STEPS = 10
LONGEST_ANSWER = 4


def randomize(model):
    """Weights large enough that every part of the network matters and that some tokens are much likelier than others."""
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            p.data.normal_(0, 0.3)
        elif p.dim() == 1:
            p.data.normal_(1, 0.2)
        elif "embed_tokens" in name or "lm_head" in name:
            p.data.normal_(0, 0.8)
        else:
            p.data.normal_(0, 1.3 / math.sqrt(p.shape[1]))


def save_checkpoint(model, folder, old_fields, shard):
    model.save_pretrained(folder, max_shard_size=shard or "5GB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    if old_fields:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
        path.write_text(json.dumps(config, indent=2) + "\n")


def load(folder):
    # The adapter lies below the checkpoint, where transformers does not look for it.
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def random_sequences(seed):
    """Sequences of unequal lengths, longer than the original context of the rope scaling, with targets."""
    g = torch.Generator().manual_seed(seed)
    sequences = []
    for length in [23, 9, 14]:
        tokens = torch.randint(3, VOCAB, (length,), generator=g).tolist()
        # Targets in two spans, as with several outputs in one prompt.
        targets = [length // 3 <= i < length // 2 or i >= length - 4 for i in range(length)]
        sequences.append(dict(tokens=tokens, targets=targets))
    return sequences


def masked_loss(model, sequences):
    """Mean over the targets of a batch that is padded on the right."""
    longest = max(len(s["tokens"]) for s in sequences)
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, s in enumerate(sequences):
        for i, (token, target) in enumerate(zip(s["tokens"], s["targets"])):
            ids[row, i] = token
            mask[row, i] = 1
            labels[row, i] = token if target else -100
    out = model(input_ids=ids, attention_mask=mask, labels=labels)
    own = F.cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert torch.allclose(own, out.loss, atol=1e-6)
    return own


def alone(model, sequences):
    """Logits of each sequence by itself."""
    with torch.no_grad():
        return [model(input_ids=torch.tensor([s["tokens"]])).logits[0] for s in sequences]


def greedy(model, prompts, ends):
    outputs = []
    with torch.no_grad():
        for prompt in prompts:
            tokens = list(prompt)
            for _ in range(12):
                logits = model(input_ids=torch.tensor([tokens])).logits[0, -1]
                best = logits.topk(2).values
                assert best[0] - best[1] > 1e-3, "a tie: take another seed"
                tokens.append(int(logits.argmax()))
                if tokens[-1] in ends:
                    break
            generated = model.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=12, do_sample=False, eos_token_id=ends, pad_token_id=0)
            assert generated[0].tolist() == tokens, (generated, tokens)
            outputs.append(tokens[len(prompt):])
    return outputs


def every_answer(model, prompt, ends):
    """All answers of at most LONGEST_ANSWER tokens, the end included, with their log-probabilities: no pruning."""
    level = [([], 0.0)]
    answers = []
    with torch.no_grad():
        for _ in range(LONGEST_ANSWER):
            following = []
            for at in range(0, len(level), 512):
                chunk = level[at:at + 512]
                ids = torch.tensor([prompt + tokens for tokens, _ in chunk])
                log_probs = model(input_ids=ids).logits[:, -1].double().log_softmax(-1).tolist()
                for (tokens, sum_), row in zip(chunk, log_probs):
                    for token, log_p in enumerate(row):
                        (answers if token in ends else following).append((tokens + [token], sum_ + log_p))
            level = following
    return sorted(answers, key=lambda a: -a[1])


def search(model, prompt, ends):
    answers = every_answer(model, prompt, ends)
    # A threshold in a gap, so that rounding cannot decide.
    at = next(i for i in range(9, len(answers)) if answers[i - 1][1] - answers[i][1] > 0.02)
    threshold = math.exp((answers[at - 1][1] + answers[at][1]) / 2)
    kept = [dict(tokens=t, log_prob=p) for t, p in answers[:at]]
    return dict(prompt=prompt, threshold=threshold, max_new_tokens=LONGEST_ANSWER, found=kept)


def adapter_values(model):
    """The adapter's trained tensors under the names of the file; an embedding that is saved along is not trained."""
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {k: v.detach().clone().contiguous() for k, v in state.items()}


def save_adapter(model, folder, base):
    """As peft saves it, less what differs from machine to machine and from run to run."""
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = base
    config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2) + "\n")


def train(model, batches):
    """Gradients of the first step; losses and values of ten steps."""
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    names = {n: n.replace(".default", "") for n in parameters}
    optimizer = torch.optim.AdamW(parameters.values(), **ADAMW)
    losses, gradients = [], {}
    for step in range(STEPS):
        loss = masked_loss(model, batches[step % len(batches)])
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            gradients = {names[n]: p.grad.clone() for n, p in parameters.items()}
        optimizer.step()
    return losses, gradients, adapter_values(model)


def make(name):
    config, lora, old_fields, shard = MODELS[name]
    folder = GOLDEN / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(sum(map(ord, name)))
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    randomize(model)
    save_checkpoint(model, folder, old_fields, shard)
    base = load(folder)
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    batches = [random_sequences(1), random_sequences(2)]
    sequences = batches[0]
    tensors = {f"logits.{i}": l for i, l in enumerate(alone(base, sequences))}
    for i, l in enumerate(alone(model, sequences)):
        assert torch.equal(l, tensors[f"logits.{i}"]), "the saved checkpoint is another model"
    prompts = [[1, 5, 9], [1, 7, 7, 12, 4, 18], [1] + list(range(3, 19))]
    golden = dict(
        sequences=sequences, more_sequences=batches[1], loss=float(masked_loss(base, sequences).detach()),
        greedy=[dict(prompt=p, output=o) for p, o in zip(prompts, greedy(base, prompts, ends))],
        search=search(base, prompts[1], ends),
        adamw=dict(learning_rate=ADAMW["lr"], betas=ADAMW["betas"], weight_decay=ADAMW["weight_decay"]))
    peft = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **lora))
    for key, p in peft.named_parameters():
        if p.requires_grad:
            p.data.normal_(0, 0.3)
    save_adapter(peft, folder / "adapter", name)
    tensors |= {f"adapted_logits.{i}": l for i, l in enumerate(alone(peft, sequences))}
    golden["losses"], gradients, after = train(peft, batches)
    tensors |= {f"gradient.{k}": g for k, g in gradients.items()}
    tensors |= {f"after.{k}": v for k, v in after.items()}
    assert {k.removeprefix("gradient.") for k in tensors if k.startswith("gradient.")} == set(after)
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, folder / "golden.safetensors")
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{name}: {size / 1000:.0f} kB, loss {golden['loss']:.3f}, losses {golden['losses'][0]:.3f} to "
          f"{golden['losses'][-1]:.3f}, {len(golden['search']['found'])} answers above "
          f"{golden['search']['threshold']:.2e}, greedy {[len(g['output']) for g in golden['greedy']]}")
    assert size < 100_000


def check_adapter(directory):
    names = [n for n in MODELS if (directory / n).is_dir()]
    assert names, f"{directory} holds no folder named after a model in tests/golden"
    for name in names:
        sequences = json.loads((GOLDEN / name / "golden.json").read_text())["sequences"]
        peft = PeftModel.from_pretrained(load(GOLDEN / name), directory / name).eval()
        ours = load_file(directory / name / "logits.safetensors")
        differences = [float((ours[f"logits.{i}"] - l).abs().max()) for i, l in enumerate(alone(peft, sequences))]
        print(f"{name}: logits differ by at most {max(differences):.1e}")
        assert max(differences) < 1e-4, "another adapter than the one written"


def check_checkpoint(directory):
    folders = sorted(path.parent for path in directory.glob("*/logits.safetensors"))
    assert folders, f"{directory} holds no folder with logits.safetensors"
    for folder in folders:
        ours = load_file(folder / "logits.safetensors")["logits"]
        ids = [i * 7 % 16 for i in range(len(ours))]
        model = load(folder)
        difference = float((model(input_ids=torch.tensor([ids])).logits[0] - ours).abs().max())
        tokenizer = AutoTokenizer.from_pretrained(folder)
        text = "<s>I12\n30O9</s>I4O"
        tokens = tokenizer(text)["input_ids"]
        assert tokenizer.decode(tokens) == text, f"{folder}: the text comes back as {tokenizer.decode(tokens)!r}"
        assert len(tokens) == 13 and tokenizer.eos_token_id == model.config.eos_token_id == 2 == tokens[9]
        print(f"{folder.name}: logits differ by at most {difference:.1e}; {len(tokenizer)} tokens")
        assert difference < 1e-4, "another model than the one written"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check-adapter", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--check-checkpoint", type=pathlib.Path, metavar="DIR")
    parser.add_argument("names", nargs="*", help="only these models")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.check_adapter:
        check_adapter(arguments.check_adapter)
    elif arguments.check_checkpoint:
        with torch.no_grad():
            check_checkpoint(arguments.check_checkpoint)
    else:
        for name in arguments.names or MODELS:
            make(name)


if __name__ == "__main__":
    main()
